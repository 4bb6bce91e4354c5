"""Choosers take the cheapest on the simple items, by hand-derived cases."""

import json
from itertools import combinations

import pytest

from fastpath.config import PruneConfig
from fastpath.errors import ConfigError, RunError
from fastpath.frontier import Frontier, Point, Rise, read_frontier
from fastpath.plan import Column, Scores
from prune.choose import from_scores, how_many, pick, plan_of


def scores(simple, spans=()):
    column = Column(items=1, tokens=1, cost=simple, low=simple, high=simple)
    other = column.model_copy(update={"cost": tuple(-c for c in simple)})
    return Scores(
        criterion="c",
        unit="u",
        depth=len(simple),
        simple=column,
        complex=other,
        reasoning=other,
        depth_slope=other,
        deepest=other,
        simple_spans=spans,
    )


def choose(of, config):
    """The last plan of the recipe's chooser, lowest if it names none."""
    if config.chooser == "evolution":
        config = config.model_copy(update={"chooser": "lowest"})
    return from_scores(of, config, config.drop)[-1]


def test_lowest_takes_the_cheapest_blocks_wherever_they_are():
    plan = choose(scores((5.0, 1.0, 4.0, 0.5, 3.0)), PruneConfig(drop=2))
    assert plan.drop == (1, 3)
    assert plan.cost == 1.5


@pytest.mark.parametrize("num_drop", [1, 2, 3, 4])
def test_lowest_keeps_the_next_two_cheapest_sums_of_all(num_drop):
    costs = (0.3, 5.0, 0.11, 2.0, 0.7, 1.3)
    plan = choose(scores(costs), PruneConfig(drop=num_drop, protect=(2,)))
    every = sorted(combinations((0, 1, 3, 4, 5), num_drop), key=lambda drop: sum(costs[i] for i in drop))
    assert [plan.drop, *plan.others] == every[:3]


def test_span_keeps_the_next_two_runs():
    plan = choose(scores((0.0, 9.0, 2.0, 2.0, 0.1)), PruneConfig(drop=2, chooser="span"))
    assert plan.others == ((2, 3), (0, 1))


def test_equal_costs_take_the_earlier_block_so_that_a_rerun_chooses_the_same():
    assert choose(scores((1.0, 1.0, 1.0)), PruneConfig(drop=2)).drop == (0, 1)


def test_span_takes_the_cheapest_run_though_single_blocks_elsewhere_are_cheaper():
    plan = choose(scores((0.0, 9.0, 2.0, 2.0, 0.1)), PruneConfig(drop=2, chooser="span"))
    assert plan.drop == (3, 4)


def test_span_uses_the_criterion_s_own_cost_of_a_span():
    spans = ((9.0, 9.0), (9.0, 1.0), (0.0,))  # the run 1..2 costs 1, whatever its blocks cost alone
    plan = choose(scores((0.0, 5.0, 5.0), spans=spans), PruneConfig(drop=2, chooser="span"))
    assert plan.drop == (1, 2)
    assert plan.cost == 1.0


@pytest.mark.parametrize("chooser", ["lowest", "span"])
def test_criterion_depth_ranks_by_the_questions_of_most_steps(chooser):
    """By the simple items, block 0 would go; by the deepest (here their negative) the last one does."""
    by_depth = scores((1.0, 2.0, 3.0)).model_copy(update={"ranked_by": "deepest"})
    plan = choose(by_depth, PruneConfig(drop=1, chooser=chooser, criterion="depth"))
    assert (plan.drop, plan.cost) == ((2,), -3.0)


@pytest.mark.parametrize("chooser", ["lowest", "span"])
def test_protected_blocks_stay(chooser):
    plan = choose(scores((0.0, 1.0, 2.0, 3.0)), PruneConfig(drop=2, chooser=chooser, protect=(0,)))
    assert plan.drop == (1, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"drop": 4}, "prune.drop: 4 of 4 blocks leaves nothing; at most 3"),
        ({"drop": 9}, "prune.drop: 9 of 4"),
        ({"drop": 3, "protect": (0, 1)}, "prune.drop: 3 blocks, but only 2 of 4 are not protected"),
        ({"drop": 3, "protect": (1,), "chooser": "span"}, "prune.drop: 3 blocks in a row, but only 2 of 4"),
        ({"drop": 1, "protect": (4,)}, "prune.protect: no block 4; blocks are 0..3"),
        ({"speedup": 5.0}, "prune.speedup: 4 of 4 blocks leaves nothing"),
        ({"parameters": 0.1}, "prune.parameters: 4 of 4 blocks leaves nothing"),
        ({"parameters": 0.5, "protect": (0, 1)}, "prune.parameters: 3 blocks, but only 2 of 4"),
    ],
)
def test_impossible_size_names_the_key(config, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        how_many(PruneConfig(**config), [10] * 4, others=10)


@pytest.mark.parametrize(
    ("config", "num_drop"),
    [
        ({"drop": 3}, 3),
        ({"speedup": 1.5}, 4),  # 12 / 8
        ({"speedup": 1.51}, 5),
        ({"parameters": 0.75}, 4),  # 160 - 40 = 120
        ({"parameters": 0.74}, 5),
        ({"max_simple_nats": 0.1}, 4),  # a third
        ({"max_simple_nats": 0.1, "protect": tuple(range(10))}, 2),
        ({"max_simple_nats": 0.1, "protect": (3, 6, 10), "chooser": "span"}, 3),
    ],
)
def test_frontier_goes_as_far_as_the_recipe_needs(config, num_drop):
    assert how_many(PruneConfig(**config), [10] * 12, others=40) == num_drop


def frontier(nats, measured=None):
    """12 blocks of 10 parameters and 40 beside them; the simple costs of 1, 2, ... dropped blocks."""
    points = []
    for size, cost in enumerate(nats, 1):
        rise = Rise(nats=cost, low=cost - 0.1, high=cost + 0.1)
        points.append(
            Point(
                drop=tuple(range(size)), cost=cost, simple=rise, complex=rise, parameters=160 - 10 * size,
                predicted_prefill_ratio=12 / (12 - size), measured_ratio=measured and measured[size - 1],
            )
        )  # fmt: skip
    sizes = {"depth": 12, "parameters": 160, "simple_items": 2, "complex_items": 2}
    return Frontier(chooser="greedy", criterion="ablation", unit="u", points=points, **sizes)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"drop": 2}, 2),
        ({"speedup": 1.2}, 2),
        ({"speedup": 1.3}, 3),
        ({"max_simple_nats": 0.2}, 3),  # what costs more before it does not matter
        ({"max_simple_nats": 0.05}, 1),
        ({"parameters": 0.875}, 2),
    ],
)
def test_recipe_picks_a_point(config, size):
    given = frontier([0.0, 0.3, 0.1, 0.5])
    point = pick(given, PruneConfig(**config))
    assert len(point.drop) == size
    assert plan_of(point, given).drop == point.drop


def test_measured_speed_goes_before_predicted_speed():
    given = frontier([0.0, 0.3, 0.1], measured=[1.0, 1.1, 1.2])
    assert len(pick(given, PruneConfig(speedup=1.2, measure_speed=True)).drop) == 3
    slower_than_when_it_was_settled = pick(given, PruneConfig(speedup=1.3, measure_speed=True))
    assert len(slower_than_when_it_was_settled.drop) == 3


def test_limit_that_nothing_meets_says_what_can_be_had():
    with pytest.raises(ConfigError, match=r"max_simple_nats: dropping any block costs at least 0\.300"):
        pick(frontier([0.3, 0.4]), PruneConfig(max_simple_nats=0.2))


@pytest.mark.parametrize("drop", [(1, 0), (12,), (0, 1, 2)])
def test_frontier_edited_into_nonsense_is_refused(drop, tmp_path):
    data = frontier([0.1, 0.2]).model_dump()
    data["points"][1]["drop"] = drop
    (tmp_path / "f.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match=r"not a frontier: .*delete it"):
        read_frontier(tmp_path / "f.json")
