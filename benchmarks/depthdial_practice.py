"""What the reference model is trained on: contexts of the distillation split with a target at every link."""

from dataclasses import dataclass
from random import Random

import torch

from fastpath.items.item import Draw
from fastpath.items.tiny import (
    Fact,
    asks,
    fact_text,
    given,
    interleaved_chains,
    link,
    shuffled_together,
    tiny_field,
    tiny_label,
    tiny_lookup,
)
from fastpath.items.tiny_words import LAYOUTS, NAMES, QUESTIONS, vocabulary

SPLIT = "distillation"
SIMPLE = {"tiny_lookup": (tiny_lookup, 1), "tiny_field": (tiny_field, 1), "tiny_label": (tiny_label, 2)}
"""Task -> its generator, and how many blocks after the first its answer takes."""
SIMPLE_SHARE, CHAIN_SHARE = 0.2, 0.5
"""Of all sequences those of simple tasks, and of the others those of chains as they are tested."""
TREE_FACTS = 18
TOKEN = {word: index for index, word in enumerate(vocabulary())}


@dataclass(frozen=True)
class Targets:
    """A padded batch, what its marked positions say, and how many blocks after the first that takes."""

    ids: torch.Tensor
    """int64 (B, T)."""
    at: torch.Tensor
    """bool (B, T): the positions with a target, N in all."""
    answer: torch.Tensor
    """int64 (N,)."""
    hops: torch.Tensor
    """int64 (N,)."""

    def to(self, device: str) -> "Targets":
        """The same batch on another device."""
        return Targets(*(part.to(device) for part in (self.ids, self.at, self.answer, self.hops)))


Sequence = tuple[list[int], dict[int, tuple[int, int]]]
"""Token ids, and position -> (answer's token, hops)."""


def practice(*, seed: int, step: int, level: int, max_links: int, batch_size: int) -> Targets:
    """The batch of one step, a function of these numbers alone; links go up to two beyond the level asked."""
    rng = Random(f"{seed}/{step}")
    depth = min(level + 2, max_links)
    sequences = []
    for _ in range(batch_size):
        if rng.random() < SIMPLE_SHARE:
            sequences.append(_simple(rng))
        else:
            sequences.append(_dial(rng, depth=depth, level=level, tree=rng.random() >= CHAIN_SHARE))
    return _padded(sequences)


def _simple(rng: Random) -> Sequence:
    name = rng.choice(list(SIMPLE))
    make, hops = SIMPLE[name]
    draw = Draw(task=name, suite="simple", split=SPLIT, seed=rng.getrandbits(40), index=0, k=1)
    item = make(draw)
    ids = _tokens("<s> " + item.prompt)
    return ids, {len(ids) - 1: (TOKEN[item.answer], hops)}


def _dial(rng: Random, *, depth: int, level: int, tree: bool) -> Sequence:
    summed = rng.random() < 0.5
    names = rng.sample(NAMES[SPLIT], max(TREE_FACTS, 3 * (depth + 1)))
    if tree:
        facts = _tree(rng, names[:TREE_FACTS], depth=depth, summed=summed)
    else:
        facts = shuffled_together(rng, interleaved_chains(rng, names, depth=depth, summed=summed))
    take, between = rng.choice(LAYOUTS[SPLIT])
    ids, targets = [TOKEN["<s>"]], {}
    for number, fact in enumerate(facts):
        ids += _tokens(between if number else "") + _tokens(fact_text(fact, take))
        targets[len(ids) - 1] = (TOKEN[str(fact.digit)], fact.links)
    asked = rng.choice([fact for fact in facts if fact.links <= level])
    ids += _tokens(asks(rng.choice(QUESTIONS[SPLIT]), asked.name))
    targets[len(ids) - 1] = (TOKEN[str(asked.digit)], asked.links + 1)
    return ids, targets


def _tree(rng: Random, names: list[str], *, depth: int, summed: bool) -> list[Fact]:
    """A few digits, then links to any earlier fact: many targets of every depth in a short context."""
    starts = rng.sample(range(10), rng.randint(3, 6))
    facts = [given(name, digit) for name, digit in zip(names, starts, strict=False)]
    for name in names[len(starts) :]:
        source = rng.choice([fact for fact in facts if fact.links < depth])
        facts.append(link(rng, name, source, summed=summed))
    return facts


def _tokens(text: str) -> list[int]:
    return [TOKEN[word] for word in text.split()]


def _padded(sequences: list[Sequence]) -> Targets:
    width = max(len(ids) for ids, _ in sequences)
    ids_BT = torch.tensor([ids + [TOKEN["<pad>"]] * (width - len(ids)) for ids, _ in sequences])
    at_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for row, (_, targets) in enumerate(sequences):
        at_BT[row, list(targets)] = True
    in_order = [targets[place] for _, targets in sequences for place in sorted(targets)]
    answer_N, hops_N = torch.tensor(in_order).T
    return Targets(ids_BT, at_BT, answer_N, hops_N)
