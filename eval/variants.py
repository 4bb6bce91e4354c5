"""Several unhealed cuts of one base, scored in one go: blocks before the first dropped one are run once."""

# B rows of a batch, T tokens, N scored positions, V vocabulary

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Self

from torch import Tensor
from transformers import DynamicCache

from eval.lm import Answer, FastLM
from eval.rows import Request
from fastpath.blocks import find_blocks, recording, replaying


class VariantsLM(FastLM):
    """A base and cuts of it, {label: dropped blocks}; `of(label)` says whose answers are given.

    The first question is answered for all of them; asked again under another label, the answer is known. A
    variant whose weights were trained since shares nothing with the base: give it a FastLM of its own.
    """

    def __init__(
        self, pretrained: Any, tokenizer: Any, *, cuts: Mapping[str, Collection[int]], **settings: Any
    ) -> None:
        super().__init__(pretrained, tokenizer, **settings)
        find_blocks(self.model)  # SurgeryError now, not in the middle
        self.cuts = {label: tuple(sorted(drop)) for label, drop in cuts.items()}
        self.num_models, self.label = len(self.cuts), next(iter(self.cuts))
        self._known: dict[str, Any] = {}

    def forget(self) -> None:
        """Answer the next question anew."""
        self._known.clear()

    def of(self, label: str) -> Self:
        """The model that answers for the base or cut of that label; what one is asked, all know."""
        if label not in self.cuts:
            raise ValueError(f"no cut {label!r}: there are {', '.join(self.cuts)}")
        _ = self._abilities  # tried once, here
        view = copy.copy(self)
        view.label = label
        return view

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Only of the base: a cut is faster than the base when it generates by itself."""
        if self.cuts[self.label]:
            raise NotImplementedError(f"{self.label}: cut the model and give it a FastLM to generate")
        return super().generate_until(requests, disable_tqdm)

    def _answers(self, requests: Sequence[Request], *, batch_size: int) -> list[Answer]:
        if self._known.get("requests") != list(requests):
            scored = self._score(requests, batch_size, *self._abilities, self._advance_all)
            self._known |= {"requests": list(requests), "answers": scored}
        return self._known["answers"][list(self.cuts).index(self.label)]

    def _advance_all(self, requests: float) -> None:
        self.advance(requests * self.num_models)

    def _forward(self, at_BT: Tensor, caches: Sequence[Any] | None, inputs: Any) -> Iterator[Tensor]:
        # The base is run first, whether it was asked for or not; its own cache is the last one.
        base: Any = caches[-1] if caches else None
        with recording(self.model) as streams:
            whole_NV = self._logits(at_BT, base, inputs)
        for number, drop in enumerate(self.cuts.values()):
            cache = caches[number] if caches else None
            if drop:
                with replaying(self.model, streams, start=drop[0], drop=drop):
                    logits_NV = self._logits(at_BT, cache, inputs)
            else:
                logits_NV = whole_NV
            if cache is not None:
                # Dropped blocks get the base's as well: nobody reads them, but the first tells the length.
                run = {*range(drop[0], len(base.layers))} - {*drop} if drop else set()
                cache.layers = [
                    cache.layers[i] if i in run else base.layers[i] for i in range(len(base.layers))
                ]
            yield logits_NV

    def _empty(self) -> list[Any]:
        return [DynamicCache() for _ in range(len(self.cuts) + 1)]
