"""The recipe is strict, complete and says what is wrong in one line."""

import json
from pathlib import Path

import pytest
import yaml

from fastpath.config import PruneConfig, Recipe, Section
from fastpath.errors import ConfigError
from fastpath.recipe_file import build_recipe, differing_keys, load_recipe, parse_yaml, recipe_schema

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))
SMALL = {"out": "runs/x", "model": {"name": "a/b"}, "prune": {"drop": 2}}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipe_loads_is_short_and_names_the_schema(path):
    load_recipe(path)
    lines = path.read_text().splitlines()
    assert len(lines) < 60
    assert lines[0] == "# yaml-language-server: $schema=schema.json"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_resolved_recipe_is_a_valid_recipe_that_means_the_same(path):
    recipe = load_recipe(path)
    assert build_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


def test_schema_file_is_what_the_types_say():
    assert (ROOT / "configs" / "schema.json").read_text() == recipe_schema(), "run `make schema`"


def test_schema_accepts_what_recipes_say():
    known = json.loads(recipe_schema())["properties"]
    for path in RECIPES:
        assert set(yaml.safe_load(path.read_text())) <= set(known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prume": {}}, "prume: unknown key; did you mean 'prune'?"),
        (
            {"prune": {"drop": 2, "criterium": "cosine"}},
            "prune.criterium: unknown key; did you mean 'criterion'?",
        ),
        ({"prune": {"drop": 2, "zzz": 1}}, "prune.zzz: unknown key; known keys: drop, speedup,"),
        ({"prune": {"drop": "four"}}, "prune.drop: input should be a valid integer, got 'four'"),
        ({"prune": {"drop": "4"}}, "prune.drop: input should be a valid integer, got '4'"),
        ({"prune": {"drop": True}}, "prune.drop: input should be a valid integer, got True"),
        ({"prune": {"drop": 0}}, "prune.drop: input should be greater than or equal to 1, got 0"),
        ({"prune": {}}, "prune: give exactly one of drop, speedup, max_simple_nats, parameters"),
        ({"prune": {"drop": 2, "speedup": 1.4}}, "prune: give exactly one of drop, speedup,"),
        ({"prune": {"drop": 2, "plan": "plan.json"}}, "prune: give exactly one of drop, speedup,"),
        ({"prune": {"speedup": 1.0}}, "prune.speedup: input should be greater than 1, got 1.0"),
        (
            {"prune": {"drop": 2, "chooser": "lowest", "complex_weight": 1}},
            "prune: complex_weight: 'lowest' ranks by the criterion alone",
        ),
        (
            {"prune": {"drop": 2, "chooser": "greedy", "beam_width": 4}},
            "prune: beam_width: is for the chooser 'beam', not for 'greedy'",
        ),
        (
            {"prune": {"plan": "plan.json", "self_answers": True}},
            "prune: self_answers: a plan that is given is cut as it stands",
        ),
        (
            {"prune": {"drop": 2, "simple_tasks": ["doc_type", "doc_type"]}},
            "prune: simple_tasks: 'doc_type' stands there twice",
        ),
        (
            {"prune": {"drop": 2, "criterion": "magic"}},
            "prune.criterion: input should be 'cosine', 'norm_ratio', 'angular'",
        ),
        ({"model": "a/b"}, "model: "),
        ({"model": None}, "model: "),
        (
            {"eval": {"speed": {"repeats": 4}}},
            "eval.speed.repeats: input should be greater than or equal to 5, got 4",
        ),
        (
            {"eval": {"speed": {"batch_size": [1, 0]}}},
            "eval.speed.batch_size.1: input should be greater than or equal to 1, got 0",
        ),
        ({"eval": {"speed": {"batch_size": []}}}, "eval.speed.batch_size: tuple should have at least 1 item"),
        (
            {"eval": {"speed": {"batch_size": "8"}}},
            "eval.speed.batch_size.0: input should be a valid integer",
        ),
        ({"eval": {"speed": {"repeat": 4}}}, "eval.speed.repeat: unknown key; did you mean 'repeats'?"),
    ],
)
def test_wrong_key_is_named_with_what_would_work(changes, message):
    with pytest.raises(ConfigError) as error:
        build_recipe(SMALL | changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_size_is_a_number_or_a_list_and_survives_its_own_yaml():
    speed = {"prompt_tokens": 8, "batch_size": [1, 64]}
    recipe = build_recipe(SMALL | {"eval": {"speed": speed}})
    assert (recipe.eval.speed.prompt_tokens, recipe.eval.speed.batch_size) == ((8,), (1, 64))
    assert build_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


def test_override_beats_the_file_and_makes_sections(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"out": "runs/x", "model": {"name": "a/b"}}))
    recipe = load_recipe(path, ["prune.drop=6", "out=runs/y", "prune.protect=[0, 1]", "eval.margin=5e-2"])
    assert recipe.prune == PruneConfig(drop=6, protect=(0, 1))
    assert recipe.out == Path("runs/y")
    assert recipe.eval.margin == 0.05


@pytest.mark.parametrize(
    ("override", "message"),
    [("prune.drop", "key=value"), ("out.x=1", "'out' is not a section"), ("seed=[", "not valid YAML")],
)
def test_bad_override_is_one_line(tmp_path, override, message):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as error:
        load_recipe(path, [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line"),
        ("out: a\nout: b\n", "out: written twice (line 2)"),
        ("- a\n", "expected a mapping"),
        ("out: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_bad_yaml_is_one_line(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_recipe_lists_those_at_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"no such file; recipes here: .*configs/quickstart\.yaml"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", 1e-5), ("2.e-7", 2e-7), ("1", 1), (".5", 0.5), ("1.2.3", "1.2.3")]
)
def test_yaml_floats_are_floats(text, value):
    assert parse_yaml(text, where="x") == value


def test_frozen():
    with pytest.raises(Exception, match="frozen"):
        build_recipe(SMALL).seed = 3


def test_differing_keys_are_leaves_and_leave_out_aside():
    changed = SMALL | {"out": "elsewhere", "prune": {"drop": 3}, "seed": 1}
    assert list(differing_keys(build_recipe(SMALL), build_recipe(changed))) == [
        ("prune.drop", 2, 3),
        ("seed", 0, 1),
    ]


def test_stage_view_depends_on_nothing_of_other_stages():
    with_eval = build_recipe(SMALL | {"eval": {"margin": 0.1}})
    assert with_eval.for_stage("prune") == build_recipe(SMALL).for_stage("prune")
    with pytest.raises(ConfigError, match="eval: the recipe has no such section"):
        build_recipe(SMALL).for_stage("eval")


def _sections(section: type[Section], seen: set) -> set:
    from typing import get_args

    for field in section.model_fields.values():
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, Section) and candidate not in seen:
                _sections(candidate, seen | {candidate})
                seen.add(candidate)
    return seen


def test_every_key_is_documented_and_set_by_a_recipe_or_a_test():
    written = "\n".join(p.read_text() for p in [*RECIPES, *(ROOT / "tests").glob("*.py")])
    for section in {Recipe, *_sections(Recipe, set())}:
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name} has no docstring"
            assert f"{name}" in written, f"{section.__name__}.{name}: set by nothing, delete it"
