"""`python -m prune` with a search: frontier.json, the point picked, and what a kill changes (nothing)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny import byte_tokenizer, run_stage, tiny_llama, write_recipe, write_tiny

from fastpath.ablations import Ablations
from fastpath.config import PruneConfig
from fastpath.data import item_batches
from fastpath.frontier import read_frontier
from fastpath.models import Lineage
from fastpath.plan import read_plan, read_scores
from fastpath.recipe_file import load_recipe
from prune.calibration import calibration_items, dial_items, held_out_items
from prune.frontier import remembered
from prune.judge import repair_items
from prune.search import beam, greedy
from prune.speed import fewest_for

ROOT = Path(__file__).parents[1]
DEPTH = 8


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model", depth=DEPTH)


def pruned(base, tmp_path, **prune):
    """(frontier, plan, folder) of a finished run."""
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune=prune)
    assert run_stage("prune", recipe) == 0
    folder = tmp_path / "run" / "prune"
    return read_frontier(folder / "frontier.json"), read_plan(folder / "plan.json"), folder


CHOICES = {
    "lowest": {"protect": [0]},
    "span": {"protect": [0], "criterion": "angular"},
    "greedy": {"protect": [0], "complex_weight": 1.0, "stream_gib": 0.0},
    "beam": {"protect": [0], "beam_width": 2},
    "evolution": {"protect": [0], "generations": 2, "offspring": 4},
    "spans": {"protect": [0]},
}


@pytest.mark.parametrize("chooser", CHOICES)
def test_frontier_holds_each_number_of_blocks_and_the_plan_is_one_of_them(base, tmp_path, chooser):
    frontier, plan, folder = pruned(base, tmp_path, chooser=chooser, drop=3, **CHOICES[chooser])
    assert [len(point.drop) for point in frontier.points] == [1, 2, 3]
    assert plan.drop == frontier.points[2].drop and plan.chooser == chooser
    assert all(0 not in point.drop for point in frontier.points)
    model = tiny_llama(depth=DEPTH)
    sizes = [sum(p.numel() for p in block.parameters()) for block in model.model.layers]
    for point in frontier.points:
        for rise in (point.simple, point.complex):
            assert rise.low <= rise.nats <= rise.high
        assert point.parameters == frontier.parameters - sum(sizes[i] for i in point.drop)
    assert Lineage.read(folder / "model").keep == plan.keep


def test_costs_of_the_frontier_are_those_of_held_out_items(base, tmp_path):
    frontier, _, _ = pruned(base, tmp_path, chooser="greedy", drop=2)
    config = PruneConfig(
        drop=2, items_per_task=4, simple_tasks=("doc_type", "one_hop"), complex_tasks=("arithmetic", "worked")
    )
    model, drops = tiny_llama(depth=DEPTH), [point.drop for point in frontier.points]
    sides = zip(held_out_items(config, seed=0), calibration_items(config, seed=0), strict=True)
    for name, (held, seen) in zip(("simple", "complex"), sides, strict=True):
        batches = item_batches(held, byte_tokenizer(), batch_tokens=10**6)
        ablations = Ablations(model, batches, device_bytes=10**8)
        want = ablations.gains(drops).sum(1) / ablations.tokens.sum()
        assert [getattr(p, name).nats for p in frontier.points] == pytest.approx(want.tolist(), abs=1e-5)
        if name == "simple":  # what was minimised, on other items
            ablations = Ablations(
                model, item_batches(seen, byte_tokenizer(), batch_tokens=10**6), device_bytes=10**8
            )
            costs = ablations.gains(drops).sum(1) / ablations.tokens.sum()
            assert [p.cost for p in frontier.points] == pytest.approx(costs.tolist(), abs=1e-5)


def test_lineage_names_every_item_that_was_looked_at(base, tmp_path):
    _, _, folder = pruned(base, tmp_path, chooser="greedy", drop=1, repair="linear")
    config = load_recipe(folder / "config.yaml").prune
    suites = [
        *calibration_items(config, seed=0), dial_items(config, seed=0), *held_out_items(config, seed=0),
    ]  # fmt: skip
    ids = {item.id for items in suites for item in items} | set(repair_items(config, seed=0).ids)
    seen = Lineage.read(folder / "model").calibration_items
    assert set(seen) == ids and len(seen) == len(ids)


def test_held_out_items_are_new_calibration_items_of_other_templates():
    config = PruneConfig(drop=1, items_per_task=4)
    seen = [item for items in calibration_items(config, seed=3) for item in items]
    held = [item for items in held_out_items(config, seed=3) for item in items]
    assert len(held) == len(seen)
    dials = dial_items(config, seed=3)
    assert [i.task for i in held] == [i.task for i in seen]
    assert {item.split for item in held} == {"calibration"}
    assert not {item.id for item in held} & {item.id for item in [*seen, *dials]}
    templates = {(item.task, item.template) for item in [*seen, *dials]}
    assert not [item for item in held if (item.task, item.template) in templates]


@pytest.mark.parametrize(
    ("size", "num_drop"),
    [({"speedup": 1.6}, 3), ({"parameters": 0.8}, 2), ({"max_simple_nats": 5.0}, 3)],
)
def test_recipe_may_ask_for_speed_size_or_loss(base, tmp_path, size, num_drop):
    _, plan, _ = pruned(base, tmp_path, criterion="cosine", **{"drop": None, **size})
    assert len(plan.drop) == num_drop


def test_loss_that_cannot_be_kept_is_one_line_and_nothing_is_cut(base, tmp_path, capsys):
    prune = {"drop": None, "max_simple_nats": 1e-9, "criterion": "cosine", "simple_tasks": ["one_hop"]}
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune=prune)
    code = run_stage("prune", recipe)
    if code:  # a random model may well gain from a drop
        assert "error: prune.max_simple_nats: dropping any block costs at least" in capsys.readouterr().err
        assert not (tmp_path / "run/prune/model").exists()


def test_plan_edited_after_a_search_costs_what_its_blocks_cost_by_the_criterion(base, tmp_path, capsys):
    _, _, folder = pruned(base, tmp_path, chooser="greedy", criterion="cosine", drop=2)
    data = json.loads((folder / "plan.json").read_text()) | {"keep": [0, 1, 2, 5, 6, 7]}
    (folder / "plan.json").write_text(json.dumps(data))
    (folder / "DONE").unlink()
    _, plan, _ = pruned(base, tmp_path, chooser="greedy", criterion="cosine", drop=2)
    cost = read_scores(folder / "scores.json").simple.cost
    assert (plan.chooser, plan.criterion, plan.unit) == ("edited by hand", "cosine", "1 - cosine")
    assert plan.cost == cost[3] + cost[4]
    assert "The sum of" in capsys.readouterr().out


def test_work_that_was_begun_on_other_weights_is_refused(tmp_path, capsys):
    base = write_tiny(tmp_path / "m", depth=4)
    pruned(base, tmp_path, criterion="cosine", drop=1)
    shutil.rmtree(tmp_path / "run/prune/model")
    (tmp_path / "run/prune/DONE").unlink()
    write_tiny(base, depth=4, seed=1)
    assert run_stage("prune", tmp_path / "r.yaml") == 2
    assert "run/prune: begun with other weights than there are now; delete it, or" in capsys.readouterr().err


def test_size_for_a_measured_speed_is_settled_before_anything_is_scored(base, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("prune.speed.speed_ratio", lambda model, drop: 1 + 0.1 * len(drop))
    model = tiny_llama(depth=DEPTH)
    assert fewest_for(model, 1.35, range(1, DEPTH), range(1, DEPTH)) == 4
    prune = {"drop": None, "speedup": 1.9, "measure_speed": True, "criterion": "cosine"}
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune=prune)
    assert run_stage("prune", recipe) == 2
    assert "prune.speedup: 7 blocks dropped are 1.70 times as fast here" in capsys.readouterr().err
    assert not (tmp_path / "run/prune/scores").exists()


def test_measured_speed_is_in_the_frontier_and_the_table(base, tmp_path, capsys):
    frontier, _, _ = pruned(base, tmp_path, criterion="cosine", drop=2, measure_speed=True)
    assert all(point.measured_ratio > 0 for point in frontier.points)
    assert "measured" in capsys.readouterr().out


def test_shown_table_fits_80_columns(base, tmp_path, capsys):
    frontier, _, _ = pruned(base, tmp_path, criterion="cosine", drop=7, measure_speed=True)
    from rich.console import Console

    from prune.show import frontier_table

    plan = read_plan(tmp_path / "run/prune/plan.json")
    capsys.readouterr()
    Console(width=200).print(frontier_table(frontier, plan))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def costs_of(seed, asked):
    pair = np.random.default_rng(seed).normal(size=(DEPTH, DEPTH))

    def costs(drops, num):
        asked.append(len(drops))
        return [float(pair[np.ix_(sorted(d), sorted(d))].sum()) for d in drops]

    return costs


def test_search_that_died_is_told_what_it_knew_and_ends_the_same(tmp_path):
    calm = beam(costs_of(0, []), range(DEPTH), 4, width=3)
    asked = []

    def dying(drops, num):
        if len(asked) == 3:
            raise KeyboardInterrupt
        return costs_of(0, asked)(drops, num)

    with pytest.raises(KeyboardInterrupt):
        beam(remembered({None: dying}, tmp_path / "s")[0], range(DEPTH), 4, width=3)
    again = []
    assert beam(remembered({None: costs_of(0, again)}, tmp_path / "s")[0], range(DEPTH), 4, width=3) == calm
    before = []
    beam(costs_of(0, before), range(DEPTH), 4, width=3)
    assert again == before[3:]


def test_answers_to_other_questions_are_not_believed(tmp_path):
    greedy(remembered({None: costs_of(0, [])}, tmp_path)[0], range(DEPTH), 2)
    asked = []
    found = greedy(remembered({None: costs_of(0, asked)}, tmp_path)[0], range(1, DEPTH), 2)
    assert asked == [DEPTH - 1, DEPTH - 2]
    assert found == greedy(costs_of(0, []), range(1, DEPTH), 2)


@pytest.mark.parametrize("kills", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_searches_end_with_the_same_frontier(base, tmp_path, kills):
    prune = {
        "chooser": "evolution", "generations": 6, "drop": 3, "items_per_task": 12, "criterion": "cosine",
        "batch_tokens": 1,
    }  # fmt: skip
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "calm", prune=prune)
    command = [sys.executable, "-m", "prune", "--config", str(recipe)]
    start = partial(
        subprocess.Popen,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert start(command).wait() == 0
    folder = tmp_path / "killed" / "prune"
    for _ in range(kills):
        process = start([*command, f"out={folder.parent}"])
        known = len(list(folder.glob("search/*.json")))
        while process.poll() is None and len(list(folder.glob("search/*.json"))) < known + 3:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was at work"
        assert not (folder / "frontier.json").exists()
    assert start([*command, f"out={folder.parent}"]).wait() == 0
    for name in ("frontier.json", "plan.json", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "calm" / "prune" / name).read_bytes(), name
