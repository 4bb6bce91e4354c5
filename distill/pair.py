"""Student and teacher under one root module whose forward is the loss: what DDP and FSDP2 wrap."""

# B rows, T tokens, N learnt tokens, D width

from typing import Any, Self

import torch
from torch import Tensor, nn

from distill.step import batch_nats
from distill.students import stock_model, without_adapters
from fastpath.blocks import Streams, find_blocks, recording, replaying
from fastpath.config_distill import DistillConfig
from fastpath.nll import hidden_at, predicting

IGNORED = -100
"""Label of a token that is not learnt, as in transformers."""


class Pair(nn.Module):
    """A student, and its teacher beside it or, where `teacher` is None, under its adapters.

    The first `start` blocks are the same, frozen, and run once; one set of weights skips the blocks `drop`.
    """

    def __init__(
        self, student: Any, teacher: Any | None, config: DistillConfig, *, start: int, drop: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self.config, self.start, self.drop = config, start, drop
        if teacher is not None:
            teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode for the student alone."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, input_ids: Tensor, labels: Tensor, **inputs: Any) -> Tensor:
        """Summed nats of the batch. `labels` int64 (B, T): the token itself where it is learnt, else IGNORED."""
        counts_BT = labels != IGNORED
        at_BT, inputs = predicting(counts_BT), {"input_ids": input_ids, "use_cache": False, **inputs}
        teacher_ND, streams = self._teach(at_BT, inputs)
        student_ND = self._learn(at_BT, inputs, streams)
        student = stock_model(self.student)
        # The heads are read here, after the bodies ran: before, FSDP2 has them in shards.
        teacher = student if self.teacher is None else self.teacher
        return batch_nats(student, student_ND, teacher, teacher_ND, labels[counts_BT], self.config)

    def student_hidden(self, at_BT: Tensor, inputs: dict[str, Any]) -> Tensor:
        """(N, D): what enters the student's head at the marked positions."""
        return self._learn(at_BT, inputs, self._teach(at_BT, inputs)[1])

    @torch.no_grad()
    def _teach(self, at_BT: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, Streams]:
        """(teacher's hidden (N, D), what enters block `start`)."""
        if self.teacher is None:
            with without_adapters(self.student) as model, recording(model, at=[self.start]) as streams:
                return hidden_at(model, at_BT, **inputs), streams
        if not self.start:
            return hidden_at(self.teacher, at_BT, **inputs), {}
        with recording(self.teacher, at=[self.start]) as streams:
            return hidden_at(self.teacher, at_BT, **inputs), streams

    def _learn(self, at_BT: Tensor, inputs: dict[str, Any], streams: Streams) -> Tensor:
        """Student's hidden (N, D), with gradient."""
        model = stock_model(self.student)
        if self.teacher is None:
            with replaying(model, streams, start=self.start, drop=self.drop):
                return hidden_at(model, at_BT, **inputs)
        if not self.start:
            return hidden_at(model, at_BT, **inputs)
        with replaying(model, self._of_student(streams), start=self.start):
            return hidden_at(model, at_BT, **inputs)

    def _of_student(self, streams: Streams) -> Streams:
        """The teacher's streams as the student's: up to block `start` they are the same blocks."""
        return {i: streams[i] for i in range(len(find_blocks(stock_model(self.student))[1]))}
