"""Every task of the suites in one dict, and `generate`, which makes items of one of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fastpath.errors import UserError
from fastpath.items.arithmetic import arithmetic
from fastpath.items.boolean import boolean
from fastpath.items.brackets import brackets
from fastpath.items.chain import chain
from fastpath.items.counter import counter
from fastpath.items.dates import date_pick
from fastpath.items.documents import doc_type
from fastpath.items.facts import one_hop
from fastpath.items.fields import field_lookup
from fastpath.items.hops import hops
from fastpath.items.item import SPLITS, Draw, Item
from fastpath.items.routing import routing
from fastpath.items.swaps import swaps
from fastpath.items.tiny import MAX_LINKS, tiny_field, tiny_label, tiny_links, tiny_lookup, tiny_sums
from fastpath.items.worked import worked

ATTEMPTS = 50
"""Tries for one new item before the generator is called exhausted."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One generator: item = make(draw), `ks` the depths it can be asked for (dealt when none is named)."""

    suite: str
    make: Callable[[Draw], Item]
    ks: tuple[int, ...] = (1,)


TASKS: dict[str, Task] = {
    "doc_type": Task(suite="simple", make=doc_type),
    "date_pick": Task(suite="simple", make=date_pick),
    "routing": Task(suite="simple", make=routing),
    "field_lookup": Task(suite="simple", make=field_lookup),
    "one_hop": Task(suite="simple", make=one_hop),
    "worked": Task(suite="complex", make=worked, ks=(2, 3, 4)),
    "arithmetic": Task(suite="complex", make=arithmetic, ks=(1, 2)),
    "chain": Task(suite="complex", make=chain, ks=(1, 2, 3, 4)),
    "counter": Task(suite="depth", make=counter, ks=(0, 1, 2, 3, 4)),
    "swaps": Task(suite="depth", make=swaps, ks=(0, 1, 2, 3, 4)),
    "boolean": Task(suite="depth", make=boolean, ks=(1, 2, 3, 4)),
    "brackets": Task(suite="depth", make=brackets, ks=(1, 2, 3, 4)),
    "hops": Task(suite="depth", make=hops, ks=(1, 2, 3, 4)),
    # In the words of embedded:depthdial alone:
    "tiny_label": Task(suite="simple", make=tiny_label),
    "tiny_field": Task(suite="simple", make=tiny_field),
    "tiny_lookup": Task(suite="simple", make=tiny_lookup),
    "tiny_links": Task(suite="depth", make=tiny_links, ks=tuple(range(MAX_LINKS + 1))),
    "tiny_sums": Task(suite="depth", make=tiny_sums, ks=tuple(range(MAX_LINKS + 1))),
}

DIALS = ("chain", *(name for name, task in TASKS.items() if task.suite == "depth"))
"""Tasks whose levels k differ in nothing but the number of dependent steps."""


def generate(task: str, *, split: str, seed: int, num_items: int, k: int | None = None) -> list[Item]:
    """The first `num_items` distinct items of a task: item i depends on (task, split, seed, i, k) alone.

    With k the items are one level of a depth dial (suite "depth"); without, depths are dealt evenly.
    UserError for an unknown task, split or k, and when the generator has no more distinct items.
    """
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}: known are {', '.join(TASKS)}")
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: known are {', '.join(SPLITS)}")
    spec = TASKS[task]
    if k is not None and k not in spec.ks:
        raise UserError(f"task {task!r} has no k={k}: it has {', '.join(map(str, spec.ks))}")
    if num_items < 1:
        raise UserError(f"num_items must be at least 1, found {num_items}")
    items: dict[str, Item] = {}
    for index in range(num_items):
        item = _new_item(spec, items, task=task, split=split, seed=seed, index=index, k=k)
        if item is None:
            raise UserError(
                f"task {task!r}, split {split!r}, seed {seed}: only {len(items)} distinct items"
                f" could be made of the {num_items} asked for; ask for fewer"
            )
        items[item.id] = item
    return list(items.values())


def _new_item(
    spec: Task, known: dict[str, Item], *, task: str, split: str, seed: int, index: int, k: int | None
) -> Item | None:
    """Item of this index that is not among the known ones; None when ATTEMPTS tries found none."""
    for attempt in range(ATTEMPTS):
        suite = spec.suite if k is None else "depth"
        draw = Draw(task=task, suite=suite, split=split, seed=seed, index=index, k=0, attempt=attempt)
        level = draw.deal("k", spec.ks) if k is None else k
        item = spec.make(replace(draw, k=level))
        if item.id not in known:
            return item
    return None
