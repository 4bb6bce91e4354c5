"""lm-eval's own tasks in our suites, on items made here in the place of the hub's."""

import datasets
import pytest
from lm_eval import evaluate
from tiny import byte_tokenizer, tiny_llama

from eval.harness import load_suites
from eval.lm import FastLM
from eval.outcomes import outcomes
from fastpath.config import EvalConfig
from fastpath.errors import ConfigError

FDA = [
    {"text": f"Device {i}. Owner: Acme {i}. Owner:", "value": f"Acme {i}", "key": "owner"} for i in range(3)
]


def test_a_python_task_that_reports_contains_is_scored(monkeypatch):
    """fda has neither metric_list nor acc: it failed once its answers were written."""
    made = datasets.DatasetDict(validation=datasets.Dataset.from_list(FDA))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    config = EvalConfig(simple=("fda",), complex=("fastpath_chain",), depth=(), items_per_task=2)
    task = load_suites(config, seed=0)["simple"]["fda"]
    lm = FastLM(tiny_llama(), byte_tokenizer(), batch_size=2)
    lm.generate_until = lambda requests, **_: [f" Acme {i}, of Ohio" for i in (0, 7)]
    (samples,) = evaluate(lm, {"tasks": {"fda": task}}, limit=2, bootstrap_iters=0)["samples"].values()
    scored = outcomes(task, samples)
    assert scored["metric"] == "contains"
    assert [row["right"] for row in scored["rows"]] == [1.0, 0.0]
    assert [row["target"] for row in scored["rows"]] == ["Acme 0", "Acme 1"]


def test_every_instruction_of_an_ifeval_prompt_counts():
    """Its per-item metric is a bool, beside lists for each instruction."""
    task = type("Task", (), {"OUTPUT_TYPE": "generate_until"})()
    sample = {
        "filter": "none", "doc_id": 0, "doc": {"key": 1}, "doc_hash": "h", "target": 0,
        "arguments": [("p", {})], "filtered_resps": ["text"],
        "prompt_level_strict_acc": True, "inst_level_strict_acc": [True, True],
    }  # fmt: skip
    scored = outcomes(task, [sample])
    assert (scored["metric"], scored["rows"][0]["right"]) == ("prompt_level_strict_acc", 1.0)
    twice = outcomes(task, [sample, sample | {"doc_id": 1}])
    assert twice["chance"] == 0, "its target is 0 for every item: no answer that could always be given"


def test_suites_that_name_nothing_are_left_out_and_knowledge_is_one():
    given = {"items_per_task": 2, "complex": ("fastpath_chain",), "simple": ("fastpath_routing",)}
    assert list(load_suites(EvalConfig(**given, depth=()), seed=0)) == ["simple", "complex"]
    both = EvalConfig(**given, knowledge=("fastpath_one_hop",), depth=("fastpath_dial_hops",))
    assert list(load_suites(both, seed=0)) == ["simple", "complex", "depth", "knowledge"]


def test_only_dials_stand_in_the_depth_suite():
    with pytest.raises(ConfigError, match=r"eval\.depth: fastpath_doc_type is no depth dial"):
        load_suites(
            EvalConfig(items_per_task=2, simple=("fastpath_routing",), depth=("fastpath_doc_type",)), seed=0
        )
