"""Short simple tasks of many kinds, which need no dataset: what a cut model practises beside its own tasks.

A model that is healed on a few families gets these back and no others; many kinds, each in many wordings,
are meant to bring back families that it was not trained on too (benchmarks/distill_gain.py asks). None is a
task of the catalogue or of a public suite, but some are like one, and some stand in the usual frame
"Question: ... Answer:". English words.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from distill.own_data import Row
from distill.practice_labels import (
    category,
    larger,
    member,
    odd_one_out,
    purpose,
    relation,
    sentiment,
    speech,
    topic,
)
from distill.practice_lookups import (
    cell,
    contains,
    location,
    note,
    number,
    position,
    possession,
    speaker,
    time,
)
from distill.practice_task import Task
from fastpath.errors import UserError

NAME = "practice"
"""Name of these rows among the sources."""
TRIES = 20
"""Draws for each row before the kinds are called exhausted."""

KINDS: Mapping[str, Callable[[Random], Task]] = {
    make.__name__: make
    for make in (
        category, odd_one_out, member, possession, location, time, number, cell, note, speaker, position,
        contains, relation, purpose, sentiment, topic, speech, larger,
    )
}  # fmt: skip


def practice_rows(num: int, kinds: Sequence[str], *, seed: int) -> list[Row]:
    """`num` different rows of form "answer", the kinds in turn: the same ones for a seed.

    Raises UserError if the kinds have not so many.
    """
    rng = Random(f"{NAME}/{seed}")
    made: dict[str, Task] = {}
    for turn in range(TRIES * num):
        task = KINDS[kinds[turn % len(kinds)]](rng)
        made.setdefault(task.prompt, task)
        if len(made) == num:
            return [Row(f"{NAME}, row {n}", "answer", task._asdict()) for n, task in enumerate(made.values())]
    raise UserError(f"distill.practice: {', '.join(kinds)} have {len(made)} different tasks, not {num}")
