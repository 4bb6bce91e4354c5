"""Which task families benchmarks/plans.py calibrates on and asks about: those in the words of the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastpath.config import PruneConfig
from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import Item
from fastpath.items.tiny_words import vocabulary


@dataclass(frozen=True)
class Families:
    """Names of generators by what they are for."""

    folds: Mapping[str, tuple[str, ...]]
    """Simple families that each fold is calibrated on; it is asked all others."""
    complex: tuple[str, ...]
    dials: tuple[str, ...]
    """What the criterion `depth` scores on."""
    items_per_level: int
    """Dial items of each level k."""
    drops: tuple[int, ...]
    """Numbers of dropped blocks to compare by default."""

    @property
    def simple(self) -> tuple[str, ...]:
        """The families of all folds, each once."""
        return tuple(dict.fromkeys(task for fold in self.folds.values() for task in fold))

    def asked(self, fold: str) -> list[str]:
        """Simple families that the fold is not calibrated on."""
        return [task for task in self.simple if task not in self.folds[fold]]

    def dial_items(self) -> list[Item]:
        """Calibration items of every level k of every dial."""
        return [
            item
            for task in self.dials
            for k in TASKS[task].ks
            for item in generate(task, split="calibration", seed=0, num_items=self.items_per_level, k=k)
        ]

    def recipe(self, **keys: Any) -> PruneConfig:
        """What the stage prune is told when it works on these families."""
        return PruneConfig(
            simple_tasks=self.simple, complex_tasks=self.complex, depth_tasks=self.dials,
            items_per_level=self.items_per_level, **keys,
        )  # fmt: skip


ENGLISH = Families(
    folds={"a": ("routing", "field_lookup"), "b": ("doc_type", "date_pick", "one_hop")},
    complex=("worked", "arithmetic", "chain"),
    dials=("counter", "boolean", "brackets", "hops"),  # no chain, which is held out
    items_per_level=3,
    drops=(3, 6, 9),
)
TINY = Families(
    folds={
        "a": ("tiny_field", "tiny_lookup"),
        "b": ("tiny_label", "tiny_lookup"),
        "c": ("tiny_label", "tiny_field"),
    },
    complex=("tiny_links", "tiny_sums"),
    dials=("tiny_links", "tiny_sums"),
    items_per_level=6,
    drops=(1, 2, 3, 4),
)


def families_of(tokenizer: Any) -> Families:
    """TINY for the tokenizer of embedded:depthdial, whichever weights it came with, else ENGLISH."""
    return TINY if tokenizer.get_vocab().keys() == set(vocabulary()) else ENGLISH
