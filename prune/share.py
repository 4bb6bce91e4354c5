"""Batches shared out over the processes of `accelerate launch -m prune`; a single process computes them all.

The first process tells its helpers what it asks for, everybody computes the batches that are theirs on their
own copy of the model, and the first one collects. Batch n belongs to process n % size for good, so that the
streams which a search holds stay where they are; every number is the one that a single process computes.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpath.ablations import Ablations
from fastpath.data import Batch
from fastpath.team import Team
from prune.part import Part

log = logging.getLogger("fastpath")


@dataclass(frozen=True)
class Room:
    """Batches, and the bytes of streams that each process may hold of its share of them."""

    batches: Sequence[Batch]
    device_bytes: int
    host_bytes: int
    rounds: bool = False
    """Whether the next call asks for the same drop sets with one more block."""


class SharedAblations(Ablations):
    """Ablations whose batches the processes compute side by side."""

    def __init__(self, model: Any, room: Room, *, team: Team, place: int) -> None:
        super().__init__(
            model,
            room.batches,
            device_bytes=room.device_bytes,
            host_bytes=room.host_bytes,
            mine=team.is_mine,
            rounds=room.rounds,
        )
        self._team, self._place = team, place

    def nats_of(self, numbers: Sequence[int], drop_sets: Sequence[Collection[int]]) -> list[np.ndarray]:
        """(drop sets, sequences) of each of these batches: summed nats of the answers."""
        self._team.tell(("nats", self._place, numbers, drop_sets))
        return _collected(self._team.gather(self.my_nats(numbers, drop_sets)))

    def my_nats(self, numbers: Sequence[int], drop_sets: Sequence[Collection[int]]) -> dict[int, np.ndarray]:
        """The same by number, of the batches that are this process's."""
        return {n: self.nats(n, drop_sets) for n in numbers if self._team.is_mine(n)}


def share_ablations(model: Any, rooms: Sequence[Room], team: Team) -> list[SharedAblations]:
    """Ablations of each list of batches; the helpers now hold these and no others."""
    team.tell(("ablations", rooms))
    return _ablations(model, rooms, team)


def share_parts(
    model: Any, function: Callable[[Any, Batch], Part], batches: Sequence[Batch], team: Team
) -> list[Part]:
    """What each batch adds to the scores of a criterion."""
    team.tell(("parts", function, batches))
    return _collected(team.gather(_parts(model, function, batches, team)))


def help_out(model: Any, team: Team) -> None:
    """Of a helper: do one's share of whatever the first process asks for, until it sends one home."""
    held: list[SharedAblations] = []
    while (asked := team.hear()) is not None:
        match asked:
            case "parts", function, batches:
                team.gather(_parts(model, function, batches, team))
            case "ablations", rooms:
                held = _ablations(model, rooms, team)
            case "nats", place, numbers, drop_sets:
                team.gather(held[place].my_nats(numbers, drop_sets))


def _ablations(model: Any, rooms: Sequence[Room], team: Team) -> list[SharedAblations]:
    made = [SharedAblations(model, room, team=team, place=place) for place, room in enumerate(rooms)]
    for ablations in made:
        log.info("%s", ablations.plan)
    return made


def _parts(
    model: Any, function: Callable[[Any, Batch], Part], batches: Sequence[Batch], team: Team
) -> dict[int, Part]:
    """By number, of the batches that are this process's."""
    mine = {number: batch for number, batch in enumerate(batches) if team.is_mine(number)}
    return {number: function(model, batch.to(model.device)) for number, batch in mine.items()}


def _collected(shares: Sequence[dict[int, Any]]) -> list[Any]:
    """The values of all processes in the order of their numbers."""
    found = {number: value for share in shares for number, value in share.items()}
    return [found[number] for number in sorted(found)]
