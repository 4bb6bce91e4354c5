"""A model taken through its blocks one at a time, and the stream after a block."""

# B sequences, T tokens, D width

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fastpath.blocks import Streams, find_blocks, recording, replaying, tap


@torch.no_grad()
def stream_after(model: PreTrainedModel, block: int, inputs: Mapping[str, Tensor]) -> Tensor:
    """(B, T, D) residual stream after a block (-1: before the first); no later block is computed."""

    def see(i: int, before_BTD: Tensor, after_BTD: Tensor) -> None:
        if i == max(block, 0):
            raise _Reached(before_BTD if block < 0 else after_BTD)

    try:
        with tap(model, see):
            model(**inputs, use_cache=False)
    except _Reached as reached:
        return reached.x_BTD
    raise AssertionError(f"no block {block}")


class _Reached(Exception):
    """The forward pass has come to the block that was asked for."""

    def __init__(self, x_BTD: Tensor) -> None:
        self.x_BTD = x_BTD


class Stepped:
    """Fixed batches on their way through a model; between two blocks their streams lie on the host."""

    def __init__(self, model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]]) -> None:
        """`batches`: keyword arguments of the model's forward."""
        self.model, self.batches = model, batches
        self.block = 0
        """The one that comes next."""
        self._depth = len(find_blocks(model)[1])
        self._streams: list[Tensor] = []
        self._rest: list[tuple | None] = [None] * len(batches)

    def __getitem__(self, number: int) -> Tensor:
        """(B, T, D) what a batch brings to the next block, on the host; there is none before the first."""
        return self._streams[number]

    def through(self, number: int) -> Tensor:
        """(B, T, D) stream after the next block, of one batch, which does not move on."""
        inputs = {key: value.to(self.model.device) for key, value in self.batches[number].items()}
        rest = self._rest[number]
        streams: Streams = {i: (None, rest) for i in range(self._depth)}
        if self.block:
            streams[self.block] = self._streams[number].to(self.model.device), rest
        with replaying(self.model, streams, start=self.block), recording(self.model, at=()) as seen:
            after_BTD = stream_after(self.model, self.block, inputs)
        self._rest[number] = seen[self.block][1]
        return after_BTD

    def step(self) -> None:
        """Take every batch through the next block."""
        for number in range(len(self.batches)):
            self._streams[number : number + 1] = [self.through(number).cpu()]  # one set of streams at a time
        self.block += 1
