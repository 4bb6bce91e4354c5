"""Plans that are given: by hand as plan.json, or as a mergekit YAML, which every run also writes."""

import json
import random

import pytest
import yaml
from tiny import run_stage, write_recipe, write_tiny

from fastpath.config import PruneConfig
from fastpath.errors import ConfigError
from fastpath.models import Lineage
from fastpath.plan import Plan, read_plan
from fastpath.sources import Source
from prune.mergekit import given_plan, mergekit_yaml, parse_mergekit


def given(depth, keep):
    return Plan(depth=depth, keep=keep, criterion="given", chooser="given", cost=None, unit="")


def test_random_plans_come_back_from_yaml(tmp_path):
    draw = random.Random(0)
    path = tmp_path / "m.yaml"
    for _ in range(200):
        depth = draw.randint(2, 80)
        plan = given(depth, tuple(sorted(draw.sample(range(depth), draw.randint(1, depth - 1)))))
        path.write_text(mergekit_yaml(plan, Source("a/b", "local", tmp_path)))
        assert (
            given_plan(PruneConfig(plan=str(path)), depth=depth, source=Source("a/b", "local", tmp_path))
            == plan
        )


def test_yaml_says_what_mergekit_reads(tmp_path):
    plan = given(6, (0, 1, 4))
    data = yaml.safe_load(mergekit_yaml(plan, Source("owner/name", "0" * 40, tmp_path)))
    assert data == {
        "slices": [
            {"sources": [{"model": "owner/name@" + "0" * 40, "layer_range": [0, 2]}]},
            {"sources": [{"model": "owner/name@" + "0" * 40, "layer_range": [4, 5]}]},
        ],
        "merge_method": "passthrough",
    }
    odd = tmp_path / 'it\'s "odd": #1'
    odd.mkdir()
    data = yaml.safe_load(mergekit_yaml(plan, Source("x", "local", odd)))
    assert data["slices"][0]["sources"][0]["model"] == str(odd)


def slices(*ranges, **more):
    parts = [{"sources": [{"model": "a/b", "layer_range": list(r)}]} for r in ranges]
    return {"slices": parts, "merge_method": "passthrough"} | more


def with_source(change):
    data = slices((0, 2), (3, 4))
    data["slices"][1]["sources"][0] |= change
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (slices((0, 3), (2, 4)), "layer 2 comes twice; a plan keeps layers once, in their order"),
        (slices((2, 4), (0, 1)), "layer 0 comes out of order"),
        (slices((0, 2), merge_method="slerp"), "merge_method 'slerp'; only passthrough drops layers"),
        ({"slices": slices((0, 2))["slices"]}, "merge_method None"),
        (with_source({"model": "c/d"}), "layers of several models (a/b, c/d); one can be cut"),
        (with_source({"parameters": {"scale": 0.5}}), "slice 1: 'parameters' is not dropping layers"),
        (with_source({"layer_range": [3]}), "slice 1: layer_range must be [first, end)"),
        (with_source({"layer_range": [3, 3]}), "slice 1: layer_range must be [first, end)"),
        (with_source({"layer_range": [-1, 3]}), "slice 1: layer_range must be [first, end)"),
        (with_source({"layer_range": [True, 3]}), "slice 1: layer_range must be [first, end)"),
        (with_source({"model": {"path": "a/b"}}), "slice 1: `model` must be a name or a folder"),
        (slices((0, 2), parameters={"scale": 2}), "'parameters' is not dropping layers"),
        (slices(), "no list of slices"),
        ({"models": [], "merge_method": "passthrough"}, "'models' is not dropping layers"),
        ({"slices": [{"sources": []}], "merge_method": "passthrough"}, "slice 0: expected one entry"),
        ({"slices": [3], "merge_method": "passthrough"}, "slice 0: expected one entry"),
        ([1], "expected a mergekit configuration"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_plan_is_one_clear_line(data, message):
    with pytest.raises(ConfigError) as error:
        parse_mergekit(yaml.safe_dump(data), where="m.yaml")
    assert str(error.value).startswith("m.yaml: " if message[:5] != "slice" else f"m.yaml: {message[:7]}")
    assert message in str(error.value) and "\n" not in str(error.value)


# The stage


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


def test_given_plan_is_cut_without_scoring_and_its_yaml_gives_the_same_model(base, tmp_path, capsys):
    by_hand = tmp_path / "plan.json"
    by_hand.write_text(json.dumps(given(6, (0, 1, 4)).model_dump(mode="json")))
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base, out=tmp_path / "json", prune={"plan": str(by_hand), "drop": None}
    )
    assert run_stage("prune", recipe) == 0
    folder = tmp_path / "json" / "prune"
    assert not (folder / "scores.json").exists() and not (folder / "frontier.json").exists()
    assert read_plan(folder / "plan.json") == given(6, (0, 1, 4))
    lineage = Lineage.read(folder / "model")
    assert lineage.keep == (0, 1, 4) and lineage.calibration_items == ()
    shown = capsys.readouterr().out
    assert "drop 3 of 6 blocks: 2 to 3, 5 (given: nothing was scored" in shown
    assert json.loads(shown.strip().splitlines()[-1])["drop"] == [2, 3, 5]
    assert "given" in (folder / "model" / "README.md").read_text()

    again = [f"prune.plan={folder / 'mergekit.yaml'}", f"out={tmp_path / 'yaml'}"]
    assert run_stage("prune", recipe, *again) == 0
    assert Lineage.read(tmp_path / "yaml/prune/model").weights_sha256 == lineage.weights_sha256


def test_report_does_without_scores(base, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(mergekit_yaml(given(6, (0, 1, 2, 4, 5)), Source("x", "local", base)))
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune={"plan": str(path), "drop": None},
        eval={"complex": ["fastpath_arithmetic"], "depth": []},
    )  # fmt: skip
    assert run_stage("prune", recipe) == 0
    assert run_stage("eval", recipe) == 0
    for name in ("report.md", "report.html"):
        report = (tmp_path / "run/eval" / name).read_text()
        assert "Dropped 1 of 6 blocks: 3 (given, given)." in report
        assert "The plan was given: no block was scored." in report


@pytest.mark.parametrize(
    ("changes", "text", "message"),
    [
        ({}, None, "prune.plan: {path}: no such file; a plan.json or a mergekit YAML works"),
        ({}, slices((0, 9)), "prune.plan: {path}: keeps layer 8, the model's are 0 to 5"),
        ({}, slices((0, 6)), "prune.plan: {path}: keeps every layer: nothing would be dropped"),
        ({}, slices((0, 3), (1, 4)), "prune.plan: {path}: layer 1 comes twice"),
        ({"protect": [5]}, slices((0, 5)), "prune.protect: {path} drops block 5"),
    ],
)
def test_plan_that_does_not_fit_is_one_line_and_nothing_half_written(
    base, tmp_path, capsys, changes, text, message
):
    path = tmp_path / "m.yaml"
    if text is not None:
        path.write_text(yaml.safe_dump(text))
    prune = {"plan": str(path), "drop": None} | changes
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune=prune)
    assert run_stage("prune", recipe) == 2
    err = capsys.readouterr().err
    assert f"error: {message.format(path=path)}" in err
    assert "Traceback" not in err
    assert {p.name for p in (tmp_path / "run/prune").iterdir()} <= {"config.yaml", "env.json", ".lock"}


def test_plan_made_for_another_depth_or_broken_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(given(4, (0, 1)).model_dump(mode="json")))
    with pytest.raises(ConfigError, match=r"prune\.plan: .*made for 4 blocks, the model has 6"):
        given_plan(PruneConfig(plan=str(path)), depth=6, source=Source("a/b", "local", tmp_path))
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"prune\.plan: .*not a plan"):
        given_plan(PruneConfig(plan=str(path)), depth=6, source=Source("a/b", "local", tmp_path))


@pytest.mark.parametrize(
    ("model", "end", "warned"),
    [
        ("c/d", 5, True),
        ("c/d", 6, False),  # what is dropped lies before: the last layers are named
        ("a/b", 5, False),
        ("a/b@" + "0" * 40, 5, False),
        ("{folder}", 5, False),
    ],
)
def test_yaml_of_another_model_that_drops_the_last_layers_is_warned_of_in_one_line(
    tmp_path, caplog, model, end, warned
):
    (tmp_path / "own").mkdir()
    data = slices((0, 2), (3, end))
    for part in data["slices"]:
        part["sources"][0]["model"] = model.format(folder=tmp_path / "own")
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(data))
    source = Source("a/b", "0" * 40, tmp_path / "own")
    with caplog.at_level("WARNING", logger="fastpath"):
        plan = given_plan(PruneConfig(plan=str(path)), depth=6, source=source)
    assert plan.keep == (0, 1, *range(3, end))
    line = f"warning: {path}: made for c/d; layers 5 to 5 of a/b are beyond its end and are dropped"
    assert caplog.messages == ([line] if warned else [])


@pytest.mark.parametrize("key", ["dtype", "out_dtype"])
def test_dtype_of_a_yaml_is_ignored_and_says_so(tmp_path, caplog, key):
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(slices((0, 5), **{key: "float16"})))
    with caplog.at_level("WARNING", logger="fastpath"):
        given_plan(PruneConfig(plan=str(path)), depth=6, source=Source("a/b", "local", tmp_path))
    assert caplog.messages == [f"warning: {path}: dtype float16 is ignored; the stored dtype is kept"]
