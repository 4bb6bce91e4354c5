"""Which requests could go fast: read from a file, answered twice, told class by class."""

import json

import pytest
from serving import ScriptedEngine

from fastpath.config_costs import CostsConfig
from fastpath.errors import ConfigError, UserError
from fastpath.recipe_file import build_recipe
from serve import profile as profiling
from serve.profile import Reply, class_facts, is_right, profile, read_requests, table_of


def recipe(tmp_path, fast="small"):
    return build_recipe({"out": str(tmp_path), "model": {"name": "tiny"}, "serve": {"fast": {"model": fast}}})


def file(tmp_path, *rows):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def facts_of(tmp_path, fast, standard, answers=None, *, fast_seconds=0.1, costs=None):
    answers = answers or [None] * len(fast)
    rows = [{"prompt": "x"} | ({} if a is None else {"answer": a}) for a in answers]
    both = [
        {"fast": Reply(f, 0.01, fast_seconds, 20), "standard": Reply(s, 0.02, 0.2, 20)}
        for f, s in zip(fast, standard, strict=True)
    ]
    return class_facts(read_requests(file(tmp_path, *rows), 8), both, costs)


def test_agreement_of_many_same_answers_shows_that_fast_will_do(tmp_path):
    facts = facts_of(tmp_path, ["Paris."] * 200, ["paris"] * 200)
    assert facts["agreement"] == 1 and 0.98 < facts["agreement_low"] < 1
    assert facts["could_go_fast"] and facts["engine_seconds_saved_per_1000"] == 100
    assert not facts_of(tmp_path, ["a"] * 20, ["a"] * 20)["could_go_fast"]  # too few to tell
    assert not facts_of(tmp_path, ["a"] * 200, ["a"] * 200, fast_seconds=0.3)["could_go_fast"]


def test_known_answers_count_instead_of_agreement(tmp_path):
    facts = facts_of(tmp_path, ["7"] * 190 + ["8"] * 10, ["7"] * 200, ["7"] * 200)
    assert (facts["fast_accuracy"], facts["standard_accuracy"]) == (0.95, 1.0)
    assert facts["gap_low"] < 0.05 < facts["gap_high"] and not facts["could_go_fast"]
    better = facts_of(tmp_path, ["7"] * 200, ["8"] * 100 + ["7"] * 100, ["7"] * 200)
    assert better["could_go_fast"] and better["agreement"] == 0.5


@pytest.mark.parametrize(
    ("prices", "saved"),
    [
        ({}, 1000 * 3.6 * 0.1 / 3600),  # 0.1 s of a machine each
        ({"base": 2.0, "fast": 0.5}, 1000 * 1.5 * 20e-6),
        ({"standard": 3.0, "base": 2.0, "fast": 0.5}, 1000 * 2.5 * 20e-6),
        ({"fast": 0.0}, 1000 * 3.6 * 0.1 / 3600),  # one price alone is not compared with time
    ],
)
def test_dollars_are_those_of_tokens_where_they_have_a_price_else_of_time(tmp_path, prices, saved):
    costs = CostsConfig(dollars_per_machine_hour=3.6, dollars_per_million_tokens=prices)
    facts = facts_of(tmp_path, ["a"] * 4, ["a"] * 4, costs=costs)
    assert facts["dollars_saved_per_1000"] == pytest.approx(saved, abs=1e-4)
    header = [column.header for column in table_of({"all": facts}).columns]
    assert "dollars saved per 1,000" in header
    assert "dollars_saved_per_1000" not in facts_of(tmp_path, ["a"], ["a"])


def test_costs_may_stand_beside_serve_alone(tmp_path):
    made = {"out": str(tmp_path), "model": {"name": "tiny"}, "serve": {}, "costs": {}}
    assert build_recipe(made).costs
    with pytest.raises(ConfigError, match=r"add eval\.agent or serve"):
        build_recipe({key: made[key] for key in ("out", "model", "costs")})


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [("Paris, France", "paris", True), ("It is Paris", "Paris", False), ("12", "1", False), ("", "x", False)],
)
def test_a_reply_is_right_if_it_begins_with_the_answer(reply, answer, right):
    assert is_right(reply, answer) == right


def test_every_request_is_answered_by_both_and_told_by_class(tmp_path, monkeypatch):
    build = profiling.build_tiers
    monkeypatch.setattr(profiling, "build_tiers", lambda *given: build(*given, ScriptedEngine))
    rows = [{"prompt": "x", "class": kind, "max_tokens": 2} for kind in ("a", "b", "a")]
    facts = profile(recipe(tmp_path), file(tmp_path, *rows), 8)
    assert {kind: row["requests"] for kind, row in facts.items()} == {"a": 2, "b": 1}
    assert all(row["agreement"] == 1 for row in facts.values())
    assert table_of(facts).row_count == 2
    with pytest.raises(ConfigError, match="same model"):
        profile(recipe(tmp_path, fast="base"), file(tmp_path, *rows), 8)


@pytest.mark.parametrize(
    "row", [3, {"messages": []}, {"prompt": "x", "class": 1}, {"prompt": "x", "answer": 2}]
)
def test_a_wrong_line_is_named(tmp_path, row):
    with pytest.raises(UserError, match=r"prompts\.jsonl, line 2: "):
        read_requests(file(tmp_path, {"prompt": "x"}, row), 8)
    with pytest.raises(UserError, match="has no items"):
        read_requests(file(tmp_path), 8)
