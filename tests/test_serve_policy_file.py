"""A policy that an evaluation wrote: its section `serve:` counts where the recipe says nothing."""

import pytest
import yaml
from serving import running, scripted_gateway

from fastpath.config_serve import ServeConfig
from fastpath.errors import ConfigError
from fastpath.recipe_file import build_recipe
from serve.launch import launch
from serve.policy_file import with_policy

SERVE = {"default_tier": "fast", "policy": "gate", "reversible_tools": ["look"], "escalate_below": -0.4}
PEOPLE = {
    "run": "runs/agent",
    "policy": "escalate",
    "because": ["fast pays"],
    "classes": [],
    "thresholds": {},
}


def file(tmp_path, serve=SERVE, **people):
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({**PEOPLE, **people, "serve": serve}))
    return str(path)


def config(tmp_path, path, **serve):
    made = {"out": str(tmp_path), "model": {"name": "tiny"}, "serve": {"policy_file": path, **serve}}
    return build_recipe(made).serve


def test_it_says_what_the_recipe_leaves_open(tmp_path):
    made, because = with_policy(config(tmp_path, file(tmp_path)))
    assert made.policy_facts() == SERVE and because == ["fast pays"]
    own = config(tmp_path, file(tmp_path), default_tier="standard", escalate_below=-2.0)
    made, _ = with_policy(own)
    assert made.policy_facts() == SERVE | {"default_tier": "standard", "escalate_below": -2.0}
    assert with_policy(ServeConfig()) == (ServeConfig(), None)


def test_fast_is_the_model_that_was_measured_unless_the_recipe_names_one(tmp_path):
    path = file(tmp_path, fast_model="runs/a/prune/model")
    assert with_policy(config(tmp_path, path))[0].fast.model == "runs/a/prune/model"
    assert with_policy(config(tmp_path, path, fast={"queue": 3}))[0].fast.queue == 3
    assert with_policy(config(tmp_path, path, fast={"model": "distill"}))[0].fast.model == "distill"


def test_null_is_no_escalation_and_off_is_a_word_without_quotes(tmp_path):
    path = tmp_path / "by-hand.yaml"
    path.write_text(
        "serve: {default_tier: standard, policy: off, reversible_tools: [], escalate_below: null}\n"
    )
    made, because = with_policy(config(tmp_path, str(path)))
    assert (made.policy, made.escalate_below, because) == ("off", None, None)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (SERVE | {"policy": "hope"}, "serve: policy: .*'hope'"),
        (SERVE | {"escalate_below": "low"}, "serve: escalate_below: "),
        (SERVE | {"escalate_below": 0.4}, "serve: escalate_below: "),
        (SERVE | {"reversible_tools": "look"}, "serve: reversible_tools: "),
        (SERVE | {"queue": 3}, "should have the keys default_tier"),
        ({"policy": "gate"}, "should have the keys default_tier"),
        ([], "should have the keys default_tier"),
        (None, "should have the keys default_tier"),
    ],
)
def test_a_wrong_section_is_one_line_that_names_the_file(tmp_path, serve, words):
    with pytest.raises(ConfigError, match=words) as refused:
        with_policy(config(tmp_path, file(tmp_path, serve)))
    assert "policy.yaml" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[", "- 1", "run: x", "\x00"])
def test_a_wrong_file_is_one_line(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"serve\.policy_file: .*policy\.yaml: ") as refused:
        with_policy(config(tmp_path, str(path)))
    assert "\n" not in str(refused.value)


def test_a_missing_file_says_what_writes_one(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file; .*eval\.route"):
        with_policy(config(tmp_path, str(tmp_path / "nowhere.yaml")))


def test_what_cannot_be_served_so_is_refused_with_the_files_name(tmp_path):
    alone = config(tmp_path, file(tmp_path), tiers=["standard"])
    with pytest.raises(ConfigError, match=r"policy\.yaml: serve: .*default_tier"):
        with_policy(alone)


def test_people_see_why(tmp_path):
    gateway = scripted_gateway(tmp_path, **SERVE)
    gateway.because = "fast pays"
    with running(gateway) as client:
        stats = client.get("/stats").json()
    assert stats["because"] == "fast pays" and stats["policy"] == SERVE


def test_a_written_gateway_leaves_open_what_the_recipe_did(tmp_path):
    given = {"policy_file": file(tmp_path), "fast": {"model": "small"}, "policy": "off"}
    made = {"out": str(tmp_path), "model": {"name": "org/tiny"}, "serve": given}
    folder = launch(build_recipe(made), "vllm", draft=False)
    written = build_recipe(yaml.safe_load((folder / "serve.yaml").read_text()))
    assert with_policy(written.serve)[0].policy_facts() == SERVE | {"policy": "off"}
