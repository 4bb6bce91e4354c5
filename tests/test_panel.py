"""Models of a run: unhealed cuts answer in one pass with the base, exactly as each does alone."""

import copy

import pytest
import torch
from tiny import byte_tokenizer, tiny_llama

from eval.harness import evaluate_task, load_suites
from eval.panel import Panel, is_cut_of, unhealed_cuts
from fastpath.blocks import keep_blocks
from fastpath.config import EvalConfig
from fastpath.models import Lineage
from fastpath.sources import Source
from fastpath.team import Team
from fastpath.writers import find_writers, transformed
from prune.repair import put

KEEP = (0, 1, 2, 4, 5)


class TinyZoo:
    """A base, a cut of it, and the same cut with one weight changed since, all in memory."""

    def __init__(self, folder):
        base = tiny_llama(depth=6)
        cut = keep_blocks(base, KEEP)
        healed = copy.deepcopy(cut)
        with torch.no_grad():
            healed.model.layers[3].mlp.up_proj.weight[0, 0] += 1
        self.models = {"base": base, "fast": cut, "healed": healed}
        self.sources = {}
        for label in self.models:
            (folder / label).mkdir()
            self.sources[label] = Source(label, "local", folder / label)
            if label != "base":
                Lineage("base", "main", "0", "0", 6, KEEP, "", ()).write(folder / label)

    def get(self, label):
        return self.models[label], byte_tokenizer()


@pytest.fixture
def zoo(tmp_path):
    return TinyZoo(tmp_path)


def test_only_the_very_weights_of_the_base_ride_on_it(zoo):
    assert unhealed_cuts(zoo) == {"base": (), "fast": (3,)}
    base, fast, healed = zoo.models.values()
    assert is_cut_of(base, fast, KEEP)
    assert not is_cut_of(base, fast, (0, 1, 2, 3, 5))
    assert not is_cut_of(base, healed, KEEP)


def test_repaired_cut_does_not_ride_on_the_base(zoo):
    """Its folded weights are no block of the base: it must answer alone."""
    base, cut = zoo.models["base"], zoo.models["fast"]
    writer = find_writers(cut)[2].found[0]
    weights = {f"model.layers.2.{k}": v for k, v in transformed(writer, 1.5 * torch.eye(32)).items()}
    assert is_cut_of(base, cut, KEEP)
    put(cut, weights)
    assert not is_cut_of(base, cut, KEEP)
    assert unhealed_cuts(zoo) == {"base": ()}


def test_each_model_answers_together_as_it_does_alone(zoo):
    config = EvalConfig(
        items_per_task=4, simple=("fastpath_doc_type",), complex=("fastpath_worked",), depth=()
    )
    suites = load_suites(config, seed=0)
    tasks = {name: task for suite in suites.values() for name, task in suite.items()}
    panel = Panel(zoo, config, team=Team())
    for task in tasks.values():
        done = []
        together = panel.lms(task.OUTPUT_TYPE, list(zoo.models), done.append)
        found = {label: evaluate_task(lm, task, config) for label, lm in together.items()}
        assert together["base"] is not together["fast"]
        for label in zoo.models:
            (alone,) = panel.lms(task.OUTPUT_TYPE, [label], lambda _: None).values()
            want = evaluate_task(alone, task, config)
            assert found[label]["rows"] != found["base"]["rows"] or label == "base"
            for have, expected in zip(found[label]["rows"], want["rows"], strict=True):
                assert have["nats"] == pytest.approx(expected["nats"], abs=1e-4)
                assert have["right"] == expected["right"]
        assert sum(done) == 3 * len(task.instances), "the bar ends at its end"
