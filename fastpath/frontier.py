"""The frontier as data: for every number of dropped blocks the best plan found, its costs, its gains."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastpath.errors import RunError
from fastpath.runs import read_json


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rise(_Data):
    """Nats per answer token gained over the base on items that the search did not see, 95 % interval."""

    nats: float
    low: float
    high: float


class Point(_Data):
    """The best plan found for one number of dropped blocks."""

    drop: Annotated[tuple[int, ...], Field(min_length=1)]
    """Old indices, 0-based, rising."""
    cost: float
    """What was minimised, on the items that were searched on: optimistic."""
    simple: Rise
    complex: Rise
    parameters: int
    """Of the cut model, embeddings included."""
    predicted_prefill_ratio: float
    """Speed of the prefill over the base's, if all blocks take the same time and nothing else does."""
    runners_up: tuple[tuple[int, ...], ...] = ()
    """The next cheapest drop sets of this size, as far as the search knows: candidates for a distillation,
    after which the order may be another."""
    measured_ratio: float | None = None
    """Speed of a short prefill and decode over the base's, on the machine of the run; null: not measured."""


class Frontier(_Data):
    """Points in the order of their number of dropped blocks: 1, 2, ..."""

    depth: int = Field(ge=2)
    chooser: str
    criterion: str
    unit: str
    """Of `cost`."""
    parameters: int
    """Of the base."""
    simple_items: int
    complex_items: int
    points: Annotated[tuple[Point, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_point_a_size(self) -> Self:
        for size, point in enumerate(self.points, 1):
            if len(point.drop) != size or sorted(set(point.drop)) != list(point.drop):
                raise ValueError(f"point {size} does not drop {size} blocks in rising order")
            if point.drop[0] < 0 or point.drop[-1] >= self.depth:
                raise ValueError(f"point {size} drops blocks outside 0..{self.depth - 1}")
        return self


def read_frontier(path: Path) -> Frontier:
    """The frontier in a JSON file. Raises RunError naming the file and the fault."""
    try:
        return Frontier.model_validate(read_json(path))
    except ValidationError as error:
        raise RunError(
            f"{path}: not a frontier: {error.errors()[0]['msg']}; delete it to have it made again"
        ) from None
