"""Scores and plans as data: validated, frozen, JSON, no torch. A plan can be edited by hand."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastpath.errors import RunError
from fastpath.runs import read_json


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Column(_Data):
    """What dropping each block costs on one kind of items, with 95 % intervals; LOW goes first."""

    items: int
    tokens: int
    cost: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    stability: float | None = None
    """Spearman correlation of the costs on two halves of the items, mean over random halvings (clusters stay
    whole); null where it is not defined, for example for a single block."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if not len(self.cost) == len(self.low) == len(self.high):
            raise ValueError("cost, low and high differ in length")
        return self


class Sink(_Data):
    """The block that writes the attention sink: across it the norm of the first token jumps."""

    block: int
    ratio: float
    """Growth of the first token's norm across the block, over that of the other tokens."""


class Scores(_Data):
    """The cost of every block (and span) on simple, on complex and on depth-dial items, by one criterion."""

    criterion: str
    unit: str
    depth: int = Field(ge=1)
    simple: Column
    complex: Column
    reasoning: Column
    """complex - simple: what a block contributes beyond what the simple items need."""
    depth_slope: Column
    """Rise of the cost with every dependent step k, at one format and length, in `unit` per step: what a
    block contributes to reasoning depth."""
    deepest: Column
    """The cost at the largest k of each dial, by the same lines, mean over the dials."""
    ranked_by: Literal["simple", "deepest"] = "simple"
    """The column that a plan is to be cheap on."""
    sink: Sink | None = None
    """null: no block writes one."""
    simple_without_first: Column | None = None
    """`simple` without the first token of every item; null where a criterion does not average over tokens."""
    simple_spans: tuple[tuple[float, ...], ...] = ()
    """[i][n-1]: cost of dropping the n blocks from i on; empty where a span costs the sum of its blocks."""

    @model_validator(mode="after")
    def _one_cost_a_block(self) -> Self:
        for name in ("simple", "complex", "reasoning", "depth_slope", "deepest"):
            if len(getattr(self, name).cost) != self.depth:
                raise ValueError(f"{name} has not one cost for each of {self.depth} blocks")
        return self

    @property
    def ranking(self) -> Column:
        """The column that a plan is to be cheap on; LOW goes first."""
        return self.simple if self.ranked_by == "simple" else self.deepest


class Repair(_Data):
    """What a repair without training did on calibration items that it was not fitted on.

    Nats per answer token of the cut model before and after, and the rise (negative: better) with its 95 %
    interval over templates.
    """

    method: str
    applied: bool
    notes: tuple[str, ...]
    """What was done to each dropped span, or why nothing was."""
    simple_items: int
    simple_before_nats: float
    simple_after_nats: float
    simple_rise: tuple[float, float, float]
    """(rise, low, high)"""
    complex_items: int
    complex_before_nats: float
    complex_after_nats: float
    complex_rise: tuple[float, float, float]
    """(rise, low, high)"""


class Plan(_Data):
    """What is kept of a model of `depth` blocks: old indices, 0-based, rising."""

    depth: int = Field(ge=2)
    keep: Annotated[tuple[int, ...], Field(min_length=1)]
    criterion: str
    chooser: str
    cost: float | None
    """Predicted cost of what was minimised (by default on the simple items): the sum over the dropped blocks,
    or the cost of all of them together; None for a plan that was given: nothing was scored."""
    unit: str
    repair: Repair | None = None
    """What the repair did; None where the recipe asks for none."""

    @model_validator(mode="after")
    def _indices_rise_inside(self) -> Self:
        rising = all(a < b for a, b in zip(self.keep, self.keep[1:], strict=False))
        if not rising or self.keep[0] < 0 or self.keep[-1] >= self.depth:
            raise ValueError(f"keep must rise and lie in 0..{self.depth - 1}, got {list(self.keep)}")
        if len(self.keep) == self.depth:
            raise ValueError("keep holds every block: nothing would be dropped")
        return self

    @property
    def drop(self) -> tuple[int, ...]:
        """The blocks that go: old indices, rising."""
        return tuple(sorted(set(range(self.depth)) - set(self.keep)))


def read_plan(path: Path) -> Plan:
    """The plan in a JSON file. Raises RunError naming the file and the fault."""
    try:
        return Plan.model_validate(read_json(path))
    except ValidationError as error:
        raise RunError(f"{path}: not a plan: {error.errors()[0]['msg']}") from None


def repair_words(repair: Repair | None) -> str:
    """The repair in one sentence, with what it did to simple and to complex items."""
    if repair is None:
        return "no repair."
    nats = ", ".join(
        f"{suite} {before:.3f} -> {after:.3f} ({rise:+.3f} [{low:+.3f}, {high:+.3f}])"
        for suite, before, after, (rise, low, high) in (
            ("simple", repair.simple_before_nats, repair.simple_after_nats, repair.simple_rise),
            ("complex", repair.complex_before_nats, repair.complex_after_nats, repair.complex_rise),
        )
    )
    verdict = "applied" if repair.applied else "NOT applied"
    items = repair.simple_items + repair.complex_items
    return (
        f"{repair.method}, {verdict}; nats per answer token on {items} calibration items held out from it: "
        f"{nats}. {'; '.join(repair.notes)}."
    )


def read_scores(path: Path) -> Scores:
    """The scores in a JSON file. Raises RunError naming the file and the fault."""
    try:
        return Scores.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise RunError(
            f"{path}: not scores of this version ({where and where + ': '}{fault['msg']}); "
            "delete it to have it made again"
        ) from None


def spans_of(drop: tuple[int, ...]) -> list[tuple[int, int]]:
    """Half-open spans of neighbouring indices: (3, 4, 5, 9) -> [(3, 6), (9, 10)]."""
    spans: list[tuple[int, int]] = []
    for i in drop:
        if spans and spans[-1][1] == i:
            spans[-1] = (spans[-1][0], i + 1)
        else:
            spans.append((i, i + 1))
    return spans
