"""reasoning-gym tasks: items of one seed and one k, exact answers only, one line where it is missing."""

import importlib.util
import json
import sys

import pytest

from eval.harness import load_suites
from eval.tasks import gym
from fastpath.config import EvalConfig
from fastpath.errors import ConfigError

needs_gym = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed (extra `gym`)"
)
CHAIN_SUM = {
    "generator": "chain_sum", "knob": ["min_terms", "max_terms"], "ks": [2, 4],
    "settings": {"min_digits": 1, "max_digits": 1},
}  # fmt: skip


def gym_tasks(**changes):
    given = {"complex": ("fastpath_gym",), "depth": (), "items_per_task": 10, "shots": 2}
    return load_suites(EvalConfig(**(given | changes)), seed=0)["complex"]


@needs_gym
def test_every_task_has_its_items_and_takes_its_own_answers():
    tasks = gym_tasks()
    assert len(tasks) == 5
    for name, task in tasks.items():
        docs = list(task.eval_docs)
        assert len({doc["id"] for doc in docs}) == 10, name
        assert len({doc["k"] for doc in docs}) == len(task.config.dataset_kwargs["ks"]), name
        for doc in docs:
            assert task.process_results(doc, [f" {doc['answer']}"]) == {"exact_match": 1.0}, doc["prompt"]
            assert task.process_results(doc, [" banana"]) == {"exact_match": 0.0}


@needs_gym
def test_part_of_a_score_is_no_score():
    """score_answer gives 0.75 to "9214" where "214" is right."""
    import reasoning_gym

    entry = reasoning_gym.create_dataset("chain_sum", size=1, seed=0)[0] | {"answer": "214"}
    doc = {"generator": "chain_sum", "entry": json.dumps(entry)}
    assert reasoning_gym.get_score_answer_fn("chain_sum")("9214", entry) == 0.75
    assert gym.score(doc, ["9214"]) == {"exact_match": 0.0}
    assert gym.score(doc, ["The answer is 214"]) == {"exact_match": 0.0}
    assert gym.score(doc, [" 214."]) == gym.score(doc, ["200 + 14.\nAnswer: 214\n"]) == {"exact_match": 1.0}


@needs_gym
def test_items_are_those_of_seed_and_k_and_shots_are_others():
    few, many = gym.load(**CHAIN_SUM, num_items=4), gym.load(**CHAIN_SUM, num_items=40)
    assert many["test"][:4] == few["test"][:4], "more items keep the first ones"
    assert all(
        doc["prompt"].count(" + ") + doc["prompt"].count(" - ") == doc["k"] - 1 for doc in many["test"]
    )
    assert many["test"]["k"][:4] == [2, 4, 2, 4]
    other = gym.load(**CHAIN_SUM, num_items=40, items_seed=1)
    assert many["test"]["id"] != other["test"]["id"]
    # Neighbouring seeds of reasoning-gym share all items but one, moved by one place.
    assert not {*many["test"]["id"][1::2]} & {*other["test"]["id"][1::2]}
    assert not {*many["test"]["id"][1::2]} & {*many["fewshot"]["id"][1::2]}


@needs_gym
def test_a_generator_that_runs_dry_says_so():
    with pytest.raises(ConfigError, match=r"chain_sum.*only \d+ distinct items; ask for fewer"):
        gym.load(**(CHAIN_SUM | {"ks": [2]}), num_items=5000)


@needs_gym
def test_a_written_answer_has_no_place_on_a_dial():
    with pytest.raises(ConfigError, match=r"eval\.depth: fastpath_gym_chain_sum: a dial shows nats"):
        gym_tasks(complex=("fastpath_chain",), depth=("fastpath_gym_chain_sum",))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" 15", "15"),
        ("15.", "15"),
        ("one, two\nAnswer: 15", "15"),
        ("8 + 7\n15\n", "15"),
        ("", ""),
        ("\n", ""),
    ],
)
def test_extract(text, answer):
    assert gym.extract(text) == answer


def test_without_the_package_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(
        ConfigError, match=r"fastpath_gym_chain_sum cannot be loaded: reasoning-gym is not insta"
    ):
        gym_tasks(complex=("fastpath_gym_chain_sum",))
