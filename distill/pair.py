"""Student and teacher under one root module whose forward is the loss: what DDP and FSDP2 wrap."""

# B rows, T tokens, N learnt tokens, D width

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distill.chunked import chunked_nats
from distill.codecs import Codec, Kept, from_integers
from distill.head import find_head, head_inputs
from distill.hidden import Pairs, hidden_error, outputs_of
from distill.losses import Objective
from distill.packing import IGNORED
from distill.students import stock_model, without_adapters
from distill.targets import Live, Targets
from fastpath.blocks import Streams, find_blocks, recording, replaying, skipping
from fastpath.nll import predicting

Outputs = dict[int, Tensor]


class Pair(nn.Module):
    """A student, and its teacher beside it or, where `teacher` is None, under its adapters.

    The first `start` blocks are the same, frozen, and run once; one set of weights skips the blocks not in
    `keep`. `matched`: (block of the student, block of the teacher) whose outputs should agree, by the
    numbers that the blocks have in their models. `vocabulary`: tokens there are, where heads have more rows.
    `dtype`: what is computed in; trained weights are float32 all the same.
    With a `codec` there is no teacher at all: each batch brings what was kept of its predictions. A teacher
    that has no share of the loss (kd_weight 0, nothing matched) is not run.
    """

    _keys_to_ignore_on_save: ClassVar[None] = None  # the Trainer asks for it when it resumes

    def __init__(
        self,
        student: Any,
        teacher: Any | None,
        *,
        start: int,
        keep: tuple[int, ...],
        drop: tuple[int, ...],
        matched: Pairs,
        objective: Objective,
        vocabulary: int,
        dtype: torch.dtype,
        codec: Codec | None = None,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.student, self.teacher, self.codec = student, teacher, codec
        self._is_one_set = teacher is None and codec is None
        self.start, self.keep, self.drop, self.matched = start, keep, drop, matched
        self.objective, self.vocabulary = objective, vocabulary
        stock = stock_model(student)
        with self.computing():
            self._heads = [find_head(model) for model in (stock, teacher) if model is not None]
        self._no_split_modules = sorted(stock._no_split_modules or [])  # what FSDP2 shards one by one
        self._prefix = prefix_of(stock, start) if start else []
        if teacher is not None:
            teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode for the student alone, and there for what is trained: the prefix has no dropout,
        whether its streams are the teacher's or its own."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        for module in self._prefix:
            module.eval()
        return self

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        *,
        kept: Kept | None = None,
        hidden_weight: float = 0.0,
        predicts: bool = True,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sums over the learnt tokens: loss, distance from the teacher, cross-entropy, hidden error.

        `labels` int64 (B, T): the token itself where it is learnt, else IGNORED; the first of a row never is.
        `kept`: what a store has of these tokens. Without `predicts` the hidden error is all: what only the
        head needs is left out.
        """
        counts_BT = labels != IGNORED
        inputs = {"input_ids": input_ids, "use_cache": False, **inputs}
        # No positions, not no call: what no loss reaches would have no gradient, and DDP waits for one.
        asked_BT = counts_BT if predicts else torch.zeros_like(counts_BT)
        at_BT = predicting(asked_BT)
        matched = self.matched if hidden_weight else ()
        targets, theirs, streams = self._targets(at_BT, inputs, {j for _, j in matched}, kept)
        student_ND, ours = self._learn(at_BT, inputs, {i for i, _ in matched}, streams)
        # The heads are read here, after the bodies ran: before, FSDP2 has them in shards.
        nats = chunked_nats(
            student_ND, labels[asked_BT], head=self._heads[0], teacher=targets, objective=self.objective,
            vocabulary=self.vocabulary,
        )  # fmt: skip
        if not matched:
            return nats.loss, nats.kd, nats.ce, torch.zeros_like(nats.kd)
        error = hidden_error(ours, theirs, matched, predicting(counts_BT))
        return nats.loss + hidden_weight * error, nats.kd, nats.ce, error.detach()

    def computing(self) -> torch.autocast:
        """The context in which float32 weights meet frozen ones of another type."""
        device = next(self.parameters()).device.type
        return torch.autocast(device, dtype=self.dtype, enabled=self.dtype != torch.float32)

    @contextmanager
    def student_alone(self) -> Iterator[PreTrainedModel]:
        """A model that computes what the student does, inside the block, called with use_cache=False."""
        model = stock_model(self.student)
        with self.computing(), skipping(model, self.drop) if self._is_one_set else nullcontext():
            yield model

    def _targets(
        self, at_BT: Tensor, inputs: dict[str, Any], blocks: Collection[int], kept: Kept | None
    ) -> tuple[Targets | None, Outputs, Streams]:
        """(what the student's predictions are compared with, and as _teach)."""
        compared = self.objective.kd_weight > 0
        if not compared and not blocks:
            return None, {}, {}
        if self.codec is None:
            teacher_ND, theirs, streams = self._teach(at_BT, inputs, blocks)
            return Live(teacher_ND, self._heads[-1]) if compared else None, theirs, streams
        assert kept is not None, "the rows were made without the store"
        return self.codec.targets(from_integers(kept)), {}, {}

    @torch.no_grad()
    def _teach(
        self, at_BT: Tensor, inputs: dict[str, Any], blocks: Collection[int]
    ) -> tuple[Tensor, Outputs, Streams]:
        """(teacher's hidden (N, D), outputs of `blocks`, what enters block `start`)."""
        if self.teacher is None:
            with without_adapters(self.student) as model, recording(model, at=[self.start]) as streams:
                return *hidden_at(model, at_BT, inputs, blocks), streams
        if not self.start:
            return *hidden_at(self.teacher, at_BT, inputs, blocks), {}
        with recording(self.teacher, at=[self.start]) as streams:
            return *hidden_at(self.teacher, at_BT, inputs, blocks), streams

    def _learn(
        self, at_BT: Tensor, inputs: dict[str, Any], blocks: Collection[int], streams: Streams
    ) -> tuple[Tensor, Outputs]:
        """(student's hidden (N, D), outputs of `blocks`), with gradient."""
        model = stock_model(self.student)
        if not streams:
            with skipping(model, self.drop) if self._is_one_set else nullcontext():
                return hidden_at(model, at_BT, inputs, blocks)
        if self._is_one_set:
            with replaying(model, streams, start=self.start, drop=self.drop):
                return hidden_at(model, at_BT, inputs, blocks)
        # Up to block `start` the student's blocks are the teacher's, so its streams are too.
        own = {i: streams[i] for i in range(len(self.keep))}
        with replaying(model, own, start=self.start):
            return hidden_at(model, at_BT, inputs, blocks)


def prefix_of(model: PreTrainedModel, start: int) -> list[nn.Module]:
    """The first `start` blocks, and the dropout of the embeddings before them."""
    path, blocks = find_blocks(model)
    body = model.get_submodule(path.rpartition(".")[0])
    return [*(module for module in body.children() if isinstance(module, nn.Dropout)), *blocks[:start]]


def hidden_at(
    model: Any, at_BT: Tensor, inputs: dict[str, Any], blocks: Collection[int] = ()
) -> tuple[Tensor, Outputs]:
    """((N, D) what enters the head at the marked positions, {block: its output} of `blocks`)."""
    taps: AbstractContextManager[Outputs] = outputs_of(model, blocks) if blocks else nullcontext({})
    with head_inputs(model, at_BT) as seen, taps as outputs:
        model(**inputs)
    return seen[0], outputs
