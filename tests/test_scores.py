"""Columns of the scores: slope, intervals, rank stability and the sink on planted cases."""

import json
import re
from itertools import chain

import numpy as np
import pytest
from test_choose import scores
from tiny import run_stage, write_recipe, write_tiny

from fastpath.errors import RunError
from fastpath.items.catalog import DIALS, TASKS, generate
from fastpath.plan import Sink, read_scores
from prune.columns import Measured, depth_columns, halvings_of, ratio_column, suite_columns
from prune.criteria import CRITERIA
from prune.show import score_lines
from prune.slope import depth_lines


def dial(task, slope, *, start=1.0, num=3, noise=0.0, seed=0):
    """(costs (N, 1), ks, families, clusters) of one family on a line, a few templates."""
    random = np.random.default_rng(seed)
    ks = [k for k in TASKS[task].ks for _ in range(num)]
    costs = [[start + slope * k + noise * random.normal()] for k in ks]
    return costs, ks, [task] * len(ks), [f"{task}/{i % num}" for i in range(len(ks))]


def joined(*families):
    parts = zip(*families, strict=True)
    costs, ks, names, clusters = (list(chain(*part)) for part in parts)
    return np.array(costs), ks, names, clusters


def test_a_line_is_found_whatever_its_height():
    for start in (0.0, 5.0):
        point, draws = depth_lines(*joined(dial("counter", 0.3, start=start)))
        assert point.slope[0, 0] == pytest.approx(0.3)
        assert point.deepest[0, 0] == pytest.approx(start + 0.3 * 4)
        assert np.allclose(draws.slope, 0.3)


def test_families_count_alike_however_many_levels_and_items_they_have():
    point, _ = depth_lines(*joined(dial("counter", 0.4, num=9), dial("hops", 0.0, num=2)))
    assert point.slope[0, 0] == pytest.approx(0.2)


def test_a_gap_between_families_is_no_slope():
    """Without demeaning, the family with the larger k would make one."""
    point, _ = depth_lines(*joined(dial("counter", 0.0, start=0.0), dial("hops", 0.0, start=9.0)))
    assert point.slope[0, 0] == pytest.approx(0)


def test_slope_of_one_family_is_least_squares():
    costs, ks, names, clusters = joined(dial("swaps", 0.1, noise=0.5))
    point, _ = depth_lines(costs, ks, names, clusters)
    assert point.slope[0, 0] == pytest.approx(np.polyfit(ks, costs[:, 0], 1)[0])


def test_interval_of_the_slope_covers_the_truth_about_as_often_as_it_says():
    """Templates differ in their slope: that is what the bootstrap over templates must see."""
    hits, runs = 0, 60
    for seed in range(runs):
        random = np.random.default_rng(seed)
        families = []
        for task in ("counter", "swaps", "boolean", "hops"):
            costs, ks, names, clusters = dial(task, 0.0, num=6, noise=0.1, seed=seed)
            of_template = {cluster: random.normal(0.2, 0.3) for cluster in sorted(set(clusters))}
            costs = [[c[0] + of_template[t] * k] for c, t, k in zip(costs, clusters, ks, strict=True)]
            families.append((costs, ks, names, clusters))
        low, high = np.quantile(depth_lines(*joined(*families), draws=400)[1].slope, [0.025, 0.975])
        hits += low <= 0.2 <= high
    assert hits / runs > 0.85


def test_levels_of_a_dial_share_their_templates_so_every_cluster_holds_every_k():
    for task in DIALS:
        ks = TASKS[task].ks
        made = [generate(task, split="calibration", seed=3, num_items=5, k=k) for k in ks]
        assert len({tuple(item.template for item in level) for level in made}) == 1, task


def measured(table, items):
    return Measured(items, np.array(table), np.ones(len(items)), halvings_of(items, seed=0))


ITEMS = [i for t in ("doc_type", "routing") for i in generate(t, split="calibration", seed=0, num_items=8)]


def test_halves_are_half_of_the_templates_of_each_task_and_never_split_one():
    halvings = halvings_of(ITEMS, seed=0)
    clusters = [f"{item.task}/{item.template}" for item in ITEMS]
    for task in ("doc_type", "routing"):
        names = {c for c in clusters if c.startswith(task)}
        for half in halvings:
            inside = {c for c, h in zip(clusters, half, strict=True) if h}
            outside = {c for c, h in zip(clusters, half, strict=True) if not h}
            assert not inside & outside
            assert abs(len(inside & names) - len(outside & names)) <= 1
    assert len({half.tobytes() for half in halvings}) > 5, "not the same halves again and again"


def test_items_that_agree_rank_alike_and_noise_does_not():
    random = np.random.default_rng(0)
    order, noise = np.arange(30.0), random.normal(size=(16, 30))
    assert ratio_column(measured(order + 0.01 * noise, ITEMS), seed=0).stability > 0.99
    assert abs(ratio_column(measured(noise, ITEMS), seed=0).stability) < 0.5


def test_constant_costs_have_no_ranks():
    assert ratio_column(measured(np.ones((16, 4)), ITEMS), seed=0).stability is None


def test_reasoning_is_complex_minus_simple_also_in_the_halves():
    random = np.random.default_rng(0)
    simple, extra = random.normal(size=6), np.arange(6.0)
    columns = suite_columns(
        measured(np.tile(simple, (16, 1)), ITEMS), measured(np.tile(simple + extra, (16, 1)), ITEMS), seed=0
    )
    assert columns["reasoning"].cost == pytest.approx(tuple(extra))
    assert columns["reasoning"].stability == pytest.approx(1)
    assert columns["reasoning"].items == 32


def test_depth_columns_of_items():
    items = [i for k in (0, 2, 4) for i in generate("swaps", split="calibration", seed=0, num_items=4, k=k)]
    table = [[2.0 + 0.5 * item.k, 7.0, -item.k] for item in items]
    columns = depth_columns(measured(table, items), seed=0)
    assert columns["depth_slope"].cost == pytest.approx((0.5, 0.0, -1.0), abs=1e-9)
    assert columns["deepest"].cost == pytest.approx((4.0, 7.0, -4.0))
    assert columns["depth_slope"].stability == pytest.approx(1)


def test_words_warn_of_few_items_and_name_the_sink():
    made = scores((1.0, 2.0, 3.0))
    stable = made.model_copy(update={"simple": made.simple.model_copy(update={"stability": 0.9})})
    assert "warning" not in " ".join(score_lines(stable))
    unstable = made.model_copy(
        update={
            "simple": made.simple.model_copy(update={"stability": 0.41}),
            "sink": Sink(block=2, ratio=155.2),
            "simple_without_first": made.simple.model_copy(update={"cost": (1.0, 2.0, 0.5)}),
        }
    )
    text = "\n".join(score_lines(unstable))
    assert "warning: not enough calibration items to rank blocks by simple: the halves agree at 0.41" in text
    assert "block 2 writes the attention sink: the first token's norm grows 155 times as much as that" in text
    assert "1. costliest of 3 blocks, 3. without that token" in text


def test_depth_ranks_by_what_the_deepest_questions_lose():
    made = scores((1.0, 2.0, 3.0))
    assert made.ranking == made.simple
    by_depth = made.model_copy(update={"ranked_by": CRITERIA["depth"].ranked_by})
    assert by_depth.ranking == made.deepest
    assert by_depth.ranking != made.simple


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


def test_scores_of_an_older_version_are_refused_in_one_line(base, tmp_path, capsys):
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune={"criterion": "cosine"}
    )
    assert run_stage("prune", recipe) == 0
    path = tmp_path / "run/prune/scores.json"
    old = json.loads(path.read_text())
    del old["depth_slope"]
    path.write_text(json.dumps(old))
    with pytest.raises(RunError, match=r"^\S+scores\.json: not scores of this version \(depth_slope: Field"):
        read_scores(path)
    (tmp_path / "run/prune/DONE").unlink()
    capsys.readouterr()
    assert run_stage("prune", recipe) == 2
    assert len(re.findall("^error: .*delete it to have it made again$", capsys.readouterr().err, re.M)) == 1


@pytest.mark.parametrize("criterion", ["norm_ratio", "linear", "taylor", "kl", "depth"])
def test_every_new_criterion_prunes_and_draws(base, tmp_path, capsys, criterion):
    small = {"criterion": criterion, "items_per_task": 2}
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune=small)
    assert run_stage("prune", recipe) == 0
    assert "depth slope" in capsys.readouterr().out
    made = read_scores(tmp_path / "run/prune/scores.json")
    assert made.depth_slope.items == 10
    assert (made.simple_without_first is not None) == (criterion in ("norm_ratio", "linear"))
    svg = (tmp_path / "run/prune/scores.svg").read_text()
    assert svg.startswith("<svg")
    for word in ("simple", "complex", "depth slope", made.unit):
        assert word in svg


def test_dials_only_in_depth_tasks(base, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run")
    assert run_stage("prune", recipe, "prune.depth_tasks=[routing]") == 2
    assert "prune.depth_tasks: unknown task 'routing'; known tasks: chain, counter" in capsys.readouterr().err
    assert run_stage("prune", recipe, "prune.depth_tasks=[]") == 2
    assert "prune.depth_tasks: empty" in capsys.readouterr().err


def test_default_depth_tasks_are_the_dials_in_english():
    from fastpath.config import PruneConfig

    assert PruneConfig(drop=1).depth_tasks == tuple(dial for dial in DIALS if not dial.startswith("tiny"))
