"""The section `serve:`: which tiers, which models, which engines, who may ask."""

import asyncio
import json

import pytest
import yaml
from serving import ScriptedEngine

from fastpath.config_serve import ServeConfig
from fastpath.errors import ConfigError
from fastpath.recipe_file import build_recipe
from serve.api import ChatRequest
from serve.auth import load_keys
from serve.listing import measured_gaps
from serve.run import listening, started
from serve.tiers import build_tiers, served_name


def recipe(tmp_path, model="folder/tiny", **serve):
    return build_recipe({"out": str(tmp_path), "model": {"name": model}, "serve": serve})


def tiers_of(tmp_path, **serve):
    made = recipe(tmp_path, **serve)
    return build_tiers(made, made.serve, ScriptedEngine)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"tiers": []}, "serve.tiers"),
        ({"tiers": ["fast", "slow"]}, "serve.tiers"),
        ({"tiers": ["fast"], "default_tier": "standard"}, "default_tier"),
        ({"deep": {"max_new_tokens": 10}}, "deep.default_new_tokens"),
        ({"deep": {"context_tokens": 100}}, "deep.max_new_tokens: leaves no prompt"),
        ({"fast": {"deadline_seconds": 0}}, "serve.fast.deadline_seconds"),
        ({"fast": {"queue_tokens": 0}}, "serve.fast.queue_tokens"),
        ({"fast": {"priority": "low_first"}}, "fast.priority: is for a server at a url"),
        ({"fast": {"url": "http://x/v1"}}, "fast.model: name the model"),
        ({"policy": "gate", "tiers": ["fast"], "default_tier": "fast"}, "policy: gate needs"),
        ({"fast": {"runing": 1}}, "did you mean 'running'"),
        ({"port": 99999}, "serve.port"),
        ({"drain_seconds": float("inf")}, "serve.drain_seconds"),
    ],
)
def test_wrong_keys_are_named(tmp_path, serve, words):
    with pytest.raises(ConfigError, match=words):
        recipe(tmp_path, **serve)


def test_the_resolved_section_means_the_same(tmp_path):
    made = recipe(tmp_path, tiers=["deep", "standard"], body_seconds=3, reversible_tools=["look"])
    assert build_recipe(yaml.safe_load(made.to_yaml())) == made


def test_fast_is_the_distilled_model_else_the_pruned_one(tmp_path):
    with pytest.raises(ConfigError, match="python -m prune"):
        tiers_of(tmp_path)
    (tmp_path / "prune/model").mkdir(parents=True)
    assert tiers_of(tmp_path)["fast"].model == str(tmp_path / "prune/model")
    (tmp_path / "distill/model").mkdir(parents=True)
    assert tiers_of(tmp_path)["fast"].model == str(tmp_path / "distill/model")
    assert tiers_of(tmp_path, fast={"model": "prune"})["fast"].model == str(tmp_path / "prune/model")


def test_standard_and_deep_share_an_engine_and_fast_never_does(tmp_path):
    tiers = tiers_of(tmp_path, fast={"model": "base"})
    assert tiers["standard"].engine is tiers["deep"].engine is not tiers["fast"].engine
    assert [tier.rank for tier in tiers.values()] == [0, 1, 2]
    assert list(tiers["deep"].engine.spec["tiers"]) == ["standard", "deep"]
    apart = tiers_of(tmp_path, tiers=["standard", "deep"], deep={"model": "larger"})
    assert apart["standard"].engine is not apart["deep"].engine


def test_the_gap_of_a_tier_is_that_of_its_model(tmp_path):
    (tmp_path / "prune/model").mkdir(parents=True)
    tiers = tiers_of(tmp_path)
    assert measured_gaps(recipe(tmp_path), tiers) == {}
    means = {"generation": {"gap": 0.1}}
    results = {
        "models": {"base": "x", "fast": str(tmp_path / "prune/model")},
        "variants": {"fast": {"simple": {"means": means, "tasks": {}}, "claim": {}}},
    }
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/results.json").write_text(json.dumps(results))
    assert measured_gaps(recipe(tmp_path), tiers) == {"fast": {"simple": means}}


def test_requests_to_warm_the_cache_reach_every_engine(tmp_path):
    path = tmp_path / "warm.jsonl"
    path.write_text('{"messages": [{"role": "system", "content": "x"}]}\n\n{"prompt": "y"}\n')
    tiers = tiers_of(tmp_path, warm=str(path), fast={"model": "base"})
    for tier in tiers.values():
        assert [(row["messages"], row["prompt"]) for row in tier.engine.spec["warm"]] == [
            ([{"role": "system", "content": "x"}], None), (None, "y"),
        ]  # fmt: skip


@pytest.mark.parametrize("text", ["{", "[]", '{"prompt": "x", "temprature": 1}', '{"messages": []}'])
def test_a_wrong_file_of_requests_to_warm_names_the_line(tmp_path, text):
    path = tmp_path / "warm.jsonl"
    path.write_text(f'{{"prompt": "y"}}\n{text}\n')
    with pytest.raises(ConfigError, match=r"warm\.jsonl, line 2: "):
        tiers_of(tmp_path, warm=str(path), fast={"model": "base"})


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("embedded:smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("Org/Model-1B", "Model-1B"),
        ("a/b.gguf", "b"),
    ],
)
def test_clients_call_the_model_by_the_last_part_of_its_name(tmp_path, name, called):
    assert served_name(recipe(tmp_path, model=name)) == called


def test_an_address_that_others_reach_needs_keys(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTPATH_API_KEYS", raising=False)
    for host in ("127.0.0.1", "localhost", "::1"):
        assert load_keys(recipe(tmp_path, host=host).serve).is_open
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.org"):
        with pytest.raises(ConfigError, match="FASTPATH_API_KEYS"):
            load_keys(recipe(tmp_path, host=host).serve)
    monkeypatch.setenv("FASTPATH_API_KEYS", "a" * 20)
    assert not load_keys(recipe(tmp_path, host="0.0.0.0").serve).is_open


@pytest.mark.parametrize(
    "text", ["", "- key: short\n  name: x\n", "a: b", "- {key: " + "k" * 20 + "}", "- 3\n", "[", "\x00"]
)
def test_a_wrong_file_of_keys_is_refused_without_showing_a_key(tmp_path, text):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_keys(recipe(tmp_path, keys=str(path)).serve)
    assert "short" not in str(refused.value) and "kkk" not in str(refused.value)


def test_cores_are_shared_out_unless_the_environment_says_how_many(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert tiers_of(tmp_path, fast={"model": "small"})["fast"].engine.spec["threads"] == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert tiers_of(tmp_path, fast={"model": "small"})["fast"].engine.spec["threads"] == 1


def test_clients_see_which_folder_answers_but_not_where_it_lies(tmp_path):
    (tmp_path / "prune/model").mkdir(parents=True)
    tiers = tiers_of(tmp_path)
    assert (tiers["fast"].shown_model, tiers["standard"].shown_model) == ("prune/model", "folder/tiny")


def test_the_revision_is_that_of_the_recipes_model_alone(tmp_path):
    made = build_recipe(
        {
            "out": str(tmp_path),
            "model": {"name": "a/b", "revision": "v2"},
            "serve": {"fast": {"model": "c/d"}},
        }
    )
    tiers = build_tiers(made, made.serve, ScriptedEngine)
    assert tiers["standard"].engine.spec["model"]["revision"] == "v2"
    assert tiers["fast"].engine.spec["model"]["revision"] == "main"


def test_a_port_is_taken_as_soon_as_another_server_loads_its_models(tmp_path):
    with listening(ServeConfig(port=0)) as door:
        port = door.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"),
            listening(ServeConfig(port=port)),
        ):
            pass


def test_a_tier_at_a_url_says_that_it_is_not_warmed(tmp_path, caplog):
    tiers = tiers_of(tmp_path, fast={"url": "http://there/v1", "model": "m"}, tiers=["fast", "standard"])
    tiers["fast"].engine = ScriptedEngine("fast", {})

    async def start(warm):
        async with started(tiers, warm=warm):
            pass

    with caplog.at_level("INFO", logger="fastpath"):
        asyncio.run(start(None))
        assert "warm" not in caplog.text
        asyncio.run(start("warm.jsonl"))
    (line,) = [line for line in caplog.messages if "warm" in line]
    assert line.startswith("fast: ") and "http://there/v1 is not warmed" in line


def test_sizes_of_chats_are_bytes():
    sizes = [
        ChatRequest(model="m", messages=[{"role": "user", "content": text}]).prompt_bytes() for text in "aß"
    ]
    assert sizes[1] == sizes[0] + 1
