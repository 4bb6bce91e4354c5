"""Student and teacher under one root module whose forward is the loss: what DDP and FSDP2 wrap."""

# B rows, T tokens, N learnt tokens, D width

from typing import Any, Self

import torch
from torch import Tensor, nn

from distill.chunked import chunked_nats
from distill.codecs import Codec, Kept, from_integers
from distill.head import Head, find_head, head_inputs
from distill.losses import Objective
from distill.packing import IGNORED
from distill.students import stock_model, without_adapters
from distill.targets import Live, Targets
from fastpath.blocks import Streams, find_blocks, recording, replaying
from fastpath.nll import predicting


class Pair(nn.Module):
    """A student, and its teacher beside it or, where `teacher` is None, under its adapters.

    The first `start` blocks are the same, frozen, and run once; one set of weights skips the blocks `drop`.
    With a `codec` there is no teacher at all: each batch brings what was kept of its predictions.
    `vocabulary`: how many tokens there are, where the heads have more rows.
    """

    def __init__(
        self,
        student: Any,
        teacher: Any | None,
        *,
        start: int,
        drop: tuple[int, ...],
        objective: Objective,
        vocabulary: int,
        codec: Codec | None = None,
    ) -> None:
        super().__init__()
        self.student, self.teacher, self.codec = student, teacher, codec
        self.start, self.drop = start, drop
        self.objective, self.vocabulary = objective, vocabulary
        self._heads = [find_head(m) for m in (stock_model(student), teacher) if m is not None]
        if teacher is not None:
            teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode for the student alone."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(
        self, input_ids: Tensor, labels: Tensor, kept: Kept | None = None, **inputs: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over the learnt tokens of the batch: loss, distance from the teacher, cross-entropy.

        `labels` int64 (B, T): the token itself where it is learnt, else IGNORED; the first of a row never is.
        `kept`: a store's batch, for the codec.
        """
        counts_BT = labels != IGNORED
        at_BT, inputs = predicting(counts_BT), {"input_ids": input_ids, "use_cache": False, **inputs}
        if self.codec is None:
            teacher_ND, streams = self._teach(at_BT, inputs)
            targets: Targets = Live(teacher_ND, self._heads[-1])
        else:
            assert kept is not None, "the rows were made without the store"
            targets, streams = self.codec.targets(from_integers(kept)), {}
        student_ND = self._learn(at_BT, inputs, streams)
        # The heads are read here, after the bodies ran: before, FSDP2 has them in shards.
        nats = chunked_nats(
            student_ND, labels[counts_BT], head=self._heads[0], teacher=targets, objective=self.objective,
            vocabulary=self.vocabulary,
        )  # fmt: skip
        return nats.loss, nats.kd, nats.ce

    @property
    def student_head(self) -> Head:
        """From what `student_hidden` gives to logits."""
        return self._heads[0]

    def student_hidden(self, at_BT: Tensor, inputs: dict[str, Any]) -> Tensor:
        """(N, D): what enters the student's head at the marked positions."""
        streams = self._teach(at_BT, inputs)[1] if self.codec is None else {}
        return self._learn(at_BT, inputs, streams)

    @torch.no_grad()
    def _teach(self, at_BT: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, Streams]:
        """(teacher's hidden (N, D), what enters block `start`)."""
        if self.teacher is None:
            with without_adapters(self.student) as model, recording(model, at=[self.start]) as streams:
                return hidden_at(model, at_BT, inputs), streams
        if not self.start:
            return hidden_at(self.teacher, at_BT, inputs), {}
        with recording(self.teacher, at=[self.start]) as streams:
            return hidden_at(self.teacher, at_BT, inputs), streams

    def _learn(self, at_BT: Tensor, inputs: dict[str, Any], streams: Streams) -> Tensor:
        """Student's hidden (N, D), with gradient."""
        model = stock_model(self.student)
        if self.codec is not None or (self.teacher is not None and not self.start):
            return hidden_at(model, at_BT, inputs)
        if self.teacher is None:
            with replaying(model, streams, start=self.start, drop=self.drop):
                return hidden_at(model, at_BT, inputs)
        # Up to block `start` the student's blocks are the teacher's, so its streams are too.
        own = {i: streams[i] for i in range(len(find_blocks(model)[1]))}
        with replaying(model, own, start=self.start):
            return hidden_at(model, at_BT, inputs)


def hidden_at(model: Any, at_BT: Tensor, inputs: dict[str, Any]) -> Tensor:
    """(N, D): what enters the head of a model at the marked positions."""
    with head_inputs(model, at_BT) as seen:
        model(**inputs)
    return seen[0]
