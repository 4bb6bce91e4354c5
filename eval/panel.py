"""The models of a run, as lm-eval asks them: unhealed variants ride on the base, the others run alone."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from eval.engines import build_lm
from eval.variants import VariantsLM
from eval.zoo import BASE, Zoo
from fastpath.blocks import find_blocks
from fastpath.config import EvalConfig
from fastpath.models import Lineage, is_ours
from fastpath.team import Team


class Panel:
    """One lm-eval model for each label, built when it is first asked for."""

    def __init__(self, zoo: Zoo, config: EvalConfig, *, team: Team) -> None:
        self._zoo, self._team = zoo, team
        self._batch_size, self._engine = config.batch_size, config.engine
        self._alone: dict[str, Any] = {}
        self._shared: VariantsLM | None = None
        # Blocks can only be shared by models that live in this process.
        self.cuts = unhealed_cuts(zoo) if config.engine == "hf" else {}

    def lms(
        self, output_type: str, labels: Collection[str], advance: Callable[[float], None]
    ) -> dict[str, Any]:
        """The models that answer a task of this output; those that share blocks with the base in one pass."""
        together = output_type != "generate_until" and len(self.cuts) > 1 and set(self.cuts) <= {*labels}
        lms = {label: self._of(label, together and label in self.cuts) for label in labels}
        for lm in lms.values():
            lm.advance = lambda done: advance(done * self._team.size)  # each process answers a share
        return lms

    def _of(self, label: str, together: bool) -> Any:
        if together:
            if self._shared is None:
                shared = VariantsLM(*self._zoo.get(BASE), cuts=self.cuts, batch_size=self._batch_size)
                self._shared = shared_out(shared, self._team)
            return self._shared.of(label)
        if label not in self._alone:
            lm = build_lm(self._engine, self._zoo, label, batch_size=self._batch_size)
            self._alone[label] = shared_out(lm, self._team)
        return self._alone[label]


def shared_out(lm: Any, team: Team) -> Any:
    """The same lm-eval model, which from now on answers this process's share of the items.

    lm-eval deals items to processes by rank and gathers what they answered in the first.
    """
    if team.size > 1:
        # lm-eval sets these only where it loads the weights itself.
        lm.accelerator, lm._rank, lm._world_size = team.accelerator, team.rank, team.size
    return lm


def unhealed_cuts(zoo: Zoo) -> dict[str, tuple[int, ...]]:
    """{label: dropped blocks} of the base and of every variant that is the base without some blocks."""
    cuts: dict[str, tuple[int, ...]] = {BASE: ()}
    for label, source in zoo.sources.items():
        if label != BASE and is_ours(source.folder):
            lineage = Lineage.read(source.folder)
            if is_cut_of(zoo.get(BASE)[0], zoo.get(label)[0], lineage.keep):
                cuts[label] = tuple(i for i in range(lineage.depth) if i not in lineage.keep)
    return cuts


def is_cut_of(base: PreTrainedModel, cut: PreTrainedModel, keep: Collection[int]) -> bool:
    """Whether `cut` has the very weights of `base`, block i being block keep[i] and all else the same."""
    (name, blocks), (cut_name, cut_blocks) = find_blocks(base), find_blocks(cut)
    if name != cut_name or len(cut_blocks) != len(keep) or max(keep) >= len(blocks):
        return False
    pairs = zip(cut_blocks, (blocks[i] for i in sorted(keep)), strict=True)
    return all(_same(a.state_dict(), b.state_dict()) for a, b in pairs) and _same(
        _outside(base, name), _outside(cut, name)
    )


def _outside(model: nn.Module, blocks: str) -> Mapping[str, Any]:
    return {k: v for k, v in model.state_dict().items() if not k.startswith(f"{blocks}.")}


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
