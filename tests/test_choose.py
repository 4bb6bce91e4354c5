"""Choosers take the cheapest on the simple items, by hand-derived cases."""

import pytest

from fastpath.config import PruneConfig
from fastpath.errors import ConfigError
from fastpath.plan import Column, Scores
from prune.choose import check_drop, choose


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


def test_lowest_takes_the_cheapest_blocks_wherever_they_are():
    plan = choose(scores((5.0, 1.0, 4.0, 0.5, 3.0)), PruneConfig(drop=2))
    assert plan.drop == (1, 3)
    assert plan.simple_cost == 1.5


def test_equal_costs_take_the_earlier_block_so_that_a_rerun_chooses_the_same():
    assert choose(scores((1.0, 1.0, 1.0)), PruneConfig(drop=2)).drop == (0, 1)


def test_span_takes_the_cheapest_run_though_single_blocks_elsewhere_are_cheaper():
    plan = choose(scores((0.0, 9.0, 2.0, 2.0, 0.1)), PruneConfig(drop=2, chooser="span"))
    assert plan.drop == (3, 4)


def test_span_uses_the_criterion_s_own_cost_of_a_span():
    spans = ((9.0, 9.0), (9.0, 1.0), (0.0,))  # the run 1..2 costs 1, whatever its blocks cost alone
    plan = choose(scores((0.0, 5.0, 5.0), spans=spans), PruneConfig(drop=2, chooser="span"))
    assert plan.drop == (1, 2)
    assert plan.simple_cost == 1.0


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
        ({"drop": 1, "protect": (4,)}, "prune.protect: no block 4; blocks are 0..3"),
    ],
)
def test_impossible_drop_names_the_key(config, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        check_drop(PruneConfig(**config), 4)


def test_span_that_nothing_leaves_room_for_is_an_error():
    with pytest.raises(ConfigError, match="no run of 2 blocks is free of the protected"):
        choose(scores((0.0, 1.0, 2.0)), PruneConfig(drop=2, chooser="span", protect=(1,)))
