"""The benchmarks read every shipped task; what they measure is not for a test to say."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import byte_tokenizer, tiny_llama, write_tiny

from benchmarks import distill_speed, plans
from benchmarks.big_model import watched
from benchmarks.distill_sides import DENSE, DENSE_ADAPTERS, EXPECTED, PREFIX, TOP
from benchmarks.eval_speed import _first, right, shipped_tasks
from benchmarks.exact import cheapest, depth_blocks, every_plan
from benchmarks.families import ENGLISH, TINY, families_of
from benchmarks.held_out import continuations, worked_item
from benchmarks.plan_tables import difference
from fastpath.blocks import skipping
from fastpath.data import item_batches
from fastpath.items.catalog import generate
from fastpath.models import load_tokenizer
from fastpath.nll import answer_nll
from fastpath.plan import Column
from fastpath.sources import locate


def test_shipped_tasks_are_of_every_kind_and_know_what_is_right():
    tasks = shipped_tasks(byte_tokenizer(), 1)
    assert {"fastpath_doc_type", "fastpath_worked", "fastpath_chain_written"} <= tasks.keys()
    assert {task.kind for task in tasks.values()} == {"multi-token", "generation"}  # every byte is a token
    for task in tasks.values():
        assert len(task.pairs) == len(task.items)
        first = _first(task)
        answers = ["7"] * len(first.pairs) if task.kind == "generation" else [(-1.0, True)] * len(first.pairs)
        assert len(right(first, answers)) in (1, len(first.pairs))


def test_the_memory_of_every_phase_is_seen(tmp_path):
    code = """
import pathlib, sys, time
for name in ("scores.json", "frontier.json", "DONE"):
    held = b"x" * (200 * 2**20 if name == "frontier.json" else 1)
    time.sleep(1.0)
    pathlib.Path(sys.argv[1], name).touch()
time.sleep(1.0)
"""
    phases = watched([sys.executable, "-c", code, str(tmp_path)], tmp_path, log=tmp_path / "log.txt")
    assert list(phases) == ["score", "search", "export"]
    peaks = [facts["peak_anonymous_gib"] for facts in phases.values()]
    assert 0.19 < peaks[1] < 0.4 and peaks[0] < 0.1
    assert all(facts["peak_rss_gib"] >= facts["peak_anonymous_gib"] for facts in phases.values())


def test_plans_are_compared_on_families_that_they_have_not_seen(tmp_path, capsys, monkeypatch):
    model = write_tiny(tmp_path / "m", depth=4)
    methods = ["cosine_lowest", "angular_span", "ablation_lowest", "ablation_evolution"]
    command = ["plans.py", "--model", str(model), "--methods", *methods, "--drops", "1", "2", "--items", "2",
               "--held-out", "4", "--out", str(tmp_path / "plans"), "--suites", str(tmp_path)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    assert plans.main() == 0
    first = capsys.readouterr().out.splitlines()
    facts = json.loads(first[-1])
    assert facts["drops"]["2"].keys() == {*methods, "default"}
    row = facts["drops"]["2"]["default"]
    assert {"simple_accuracy", "complex_accuracy", "simple_nats", "complex_nats"} <= row.keys()
    assert facts["drops"]["2"]["cosine_lowest"]["simple_over_block_influence"] == [0.0, 0.0, 0.0]
    for fold, calibrated in ENGLISH.folds.items():
        asked = {file.name.split("-")[1] for file in (tmp_path / "plans" / f"{fold}-2").glob("answers-*")}
        assert asked and not asked & set(calibrated)
    assert plans.main() == 0  # everything is known: the same again, and nothing is asked
    again = capsys.readouterr().out.splitlines()
    assert json.loads(again[-1])["drops"] == facts["drops"]
    assert not [line for line in again if "models," in line]


def test_plans_of_the_reference_model_are_compared_with_every_plan(tmp_path, capsys, monkeypatch):
    command = ["plans.py", "--model", "embedded:depthdial", "--methods", "cosine_lowest", "--drops", "1", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--items", "4", "--held-out", "6", "--out", str(tmp_path)])
    assert plans.main() == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])["exact"]
    assert 0 not in facts["depth_blocks"] and facts["drops"].keys() == {"1", "2"}
    places = facts["drops"]["2"]
    assert places.keys() == {"cosine_lowest", "angular_span", "ablation_exact"}
    assert all(1 <= row["place"] <= 45 and row["regret_nats"] >= 0 for row in places.values())


def test_the_exact_plan_is_the_one_that_skipping_finds_cheapest():
    model, tokenizer = tiny_llama(depth=5), byte_tokenizer()
    items = generate("routing", split="calibration", seed=0, num_items=3)

    batches = item_batches(items, tokenizer, batch_tokens=1)

    def nats(plan):
        with skipping(model, plan):
            return sum(float(answer_nll(model, batch).nats.sum()) for batch in batches)

    for size, plan in cheapest(model, tokenizer, items, [1, 2]).items():
        assert plan == min(every_plan(5, size), key=nats)


def test_depth_blocks_cost_depth_and_nothing_simple():
    def column(low):
        return Column(items=1, tokens=1, cost=low, low=low, high=low)

    free, dear = (-0.1, 0.0, 0.1, -0.1), (0.2, 0.3, 0.2, -0.2)
    scores = SimpleNamespace(depth=4, simple=column(free), depth_slope=column(dear))
    assert depth_blocks(scores) == [0, 1]


def test_tasks_are_those_in_the_words_of_the_model():
    assert families_of(byte_tokenizer()) is ENGLISH
    tiny = families_of(load_tokenizer(locate("embedded:depthdial").folder))
    assert tiny is TINY and tiny.asked("a") == ["tiny_label"]
    assert ENGLISH.asked("a") == ["doc_type", "date_pick", "one_hop"]


def test_difference_widens_with_families_that_disagree():
    alike = difference([np.full(20, 0.1)] * 5)
    assert alike == pytest.approx([0.1, 0.1, 0.1])
    mean, low, high = difference([np.full(20, value) for value in (-0.3, 0.5, -0.3, 0.5)])
    assert mean == pytest.approx(0.1) and low < -0.2 and high > 0.4


def test_steps_of_gsm8k_are_the_computed_results():
    row = {"id": "x", "question": "How many?", "cot": "He has 3*4=12 apples.\nCost: 2 + 1 = $1,003 in all."}
    item = worked_item(row)
    assert [item.answer[a:b] for a, b in item.steps] == ["12", "1,003"]
    context, step = continuations(item)[1]
    assert (context + step).endswith("2 + 1 = $1,003") and step == "1,003"


@pytest.mark.parametrize("learn", ["all", "answers"])
def test_every_way_to_distil_has_the_dense_gradient(tmp_path, capsys, monkeypatch, learn):
    model = write_tiny(tmp_path / "m", depth=6)
    command = ["distill_speed.py", "--model", str(model), "--drop", "3", "4", "--rows", "1", "--learn", learn,
               "--tokens", "400", "--loss-tokens", "8", "--repeats", "1"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    assert distill_speed.main() == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["loss_memory_ratio"] > 0 and facts["tokens_per_second_ratio"] > 0
    assert facts["max_gradient_relative_difference"] < 1e-5
    step = facts["step"]
    assert step.keys() == {DENSE, "chunked loss", PREFIX, EXPECTED, TOP, DENSE_ADAPTERS, "one set of weights"}
    assert step[TOP]["gradient_relative_difference"] > 1e-3, "what no claim rests on is told too"
    assert step[EXPECTED]["weights_bytes"] < step[DENSE]["weights_bytes"]
    assert step["one set of weights"]["weights_bytes"] < step[DENSE_ADAPTERS]["weights_bytes"]
    assert (facts["learnt_tokens"] < 200) == (learn == "answers")
