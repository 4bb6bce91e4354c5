"""What every suite is made of: one prompt with its gold answer, and the draw it was made from."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

T = TypeVar("T")

SPLITS = ("calibration", "evaluation", "distillation")
"""Pruning scores on the first, reports quote the second, training reads the third: nothing is shared."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A prompt and its gold answer: one of `choices`, or a worked solution whose `steps` are scored."""

    task: str
    suite: str
    """"simple", "complex", or "depth" (one level k of a dial)."""
    split: str
    prompt: str
    """The whole context with its few-shot examples; no trailing whitespace, the delimiter is one space."""
    choices: tuple[str, ...]
    """Multiple choice answers without the delimiter; () for a worked solution."""
    answer: str
    steps: tuple[tuple[int, int], ...] = ()
    """Worked only: half-open character spans of `answer`, each the result of one computed step."""
    k: int
    """Number of dependent steps."""
    template: str
    """Digests of the texts it was made from, joined by "/": the cluster of a bootstrap."""
    source: str = ""
    """Id of the problem: `id`, unless several items ask about one context (chain: one for every k)."""
    short_cut: str = ""
    """The wrong choice of a model that stops early; "" where there is no step to skip. No part of `id`."""

    def __post_init__(self) -> None:
        """Check what every reader relies on; an item that fails is a bug here, not a user's mistake."""
        assert self.prompt and self.prompt == self.prompt.rstrip(), self.prompt
        assert self.answer and self.answer == self.answer.strip(), self.answer
        assert bool(self.choices) != bool(self.steps), "choices or steps, not both"
        assert not self.choices or self.choices.count(self.answer) == 1, (self.answer, self.choices)
        assert len(set(self.choices)) == len(self.choices), self.choices
        assert self.short_cut in ("", *self.choices) and self.short_cut != self.answer, self.short_cut
        object.__setattr__(self, "source", self.source or self.id)

    @property
    def id(self) -> str:
        """Hash of what a model sees and is scored on: the same in every process and on every machine."""
        return digest(self.prompt, *self.choices, self.answer, length=16)

    @property
    def gold(self) -> int:
        """Index of the answer among the choices; a worked item has none (ValueError)."""
        return self.choices.index(self.answer)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Everything one item is a function of; `attempt` counts the tries thrown away as duplicates."""

    task: str
    suite: str
    split: str
    seed: int
    index: int
    k: int
    attempt: int = 0

    @cached_property
    def rng(self) -> random.Random:
        """The item's own stream: without k, so that a dial draws one context for every k."""
        return random.Random(f"{self._stream}/{self.index}/{self.attempt}")

    @property
    def _stream(self) -> str:
        return f"{self.task}/{self.split}/{self.seed}"

    def deal(self, name: str, options: Sequence[T], *, turn: int | None = None) -> T:
        """Option of this turn (default: the item's index): every len(options) turns deal each option once."""
        turn = self.index if turn is None else turn
        order = list(options)
        random.Random(f"{self._stream}/{name}/{turn // len(order)}").shuffle(order)
        return order[turn % len(order)]

    def choices(self, answer: str, wrong: Sequence[str]) -> tuple[str, ...]:
        """The wrong choices in random order, the answer dealt to each position equally often."""
        rest = self.rng.sample(list(wrong), len(wrong))
        position = self.deal("position", range(len(wrong) + 1))
        return (*rest[:position], answer, *rest[position:])

    def item(
        self,
        *,
        prompt: str,
        answer: str,
        template: str,
        choices: tuple[str, ...] = (),
        steps: tuple[tuple[int, int], ...] = (),
        source: str = "",
        short_cut: str = "",
    ) -> Item:
        """The finished item, with the task, suite, split and k of this draw."""
        return Item(
            task=self.task, suite=self.suite, split=self.split, k=self.k, prompt=prompt, answer=answer,
            template=template, choices=choices, steps=steps, source=source, short_cut=short_cut,
        )  # fmt: skip


def digest(*texts: str, length: int = 8) -> str:
    """First `length` hex digits of the sha256 of the texts, unambiguous about where each ends."""
    return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).hexdigest()[:length]


def template_id(*parts: str) -> str:
    """One digest a part, "/" between: two splits share no template exactly when they share no digest."""
    return "/".join(digest(part) for part in parts)
