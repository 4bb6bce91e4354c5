"""What is kept of a teacher's predictions on disk, and how it becomes the targets of a loss again."""

# N tokens, C tokens of a chunk, D width, V vocabulary, K ids kept of a token

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from distill.head import Head
from distill.targets import Expected, Targets, TopK
from fastpath.config_distill import TEMPERATURES, DistillConfig
from fastpath.errors import ConfigError, ModelError

Kept = Mapping[str, Tensor]
"""Tensors of N tokens each, by name."""
OTHERS = tuple(t for t in TEMPERATURES if t != 1)
"""Temperatures that need a normaliser: log-probabilities are kept at 1."""


class Codec(Protocol):
    """One way to keep predictions. All its fields say what a store holds."""

    def encode(self, logits_CV: Tensor, head: Head) -> dict[str, Tensor]:
        """What is kept of these logits of the teacher, which `head` made."""

    def targets(self, kept: Kept) -> Targets:
        """What the student's logits are compared with."""

    def difference(self, kept: Kept, logits_CV: Tensor, head: Head) -> Tensor:
        """float32 (C,): how far these logits of the same tokens are from what was kept, as a share of what
        sets a prediction apart from a uniform one: about 1 for the predictions of two unlike models."""


@dataclass(frozen=True)
class TopKCodec:
    """The likeliest ids with their log-probabilities, and the normaliser of every other temperature."""

    k: int
    temperatures: tuple[float, ...] = OTHERS

    def encode(self, logits_CV: Tensor, head: Head) -> dict[str, Tensor]:
        """4 bytes a log-probability, 2 an id where 65,536 are enough, else 4."""
        num_ids = logits_CV.shape[-1]
        if self.k > num_ids:
            raise ConfigError(f"distill.teacher_top_k: {self.k} of {num_ids} tokens; at most {num_ids}")
        made = TopK.of(logits_CV, k=self.k, temperatures=self.temperatures)
        return {
            "ids": made.ids_NK.to(torch.uint16 if num_ids <= 2**16 else torch.int32),
            "logprobs": made.logprobs_NK.float(),
            "log_sums": torch.stack([made.log_sums[t] for t in self.temperatures], 1).float(),
        }

    def targets(self, kept: Kept) -> TopK:
        """Forward KL with one bucket for all other ids."""
        log_sums = dict(zip(self.temperatures, kept["log_sums"].unbind(1), strict=True))
        return TopK(kept["ids"].long(), kept["logprobs"], log_sums)

    def difference(self, kept: Kept, logits_CV: Tensor, head: Head) -> Tensor:
        """Root mean square of the kept log-probabilities, as a share of the logits' standard deviation."""
        logits_CV = logits_CV.float()
        off_CK = logits_CV.log_softmax(-1).gather(-1, kept["ids"].long()) - kept["logprobs"]
        return off_CK.square().mean(-1).sqrt() / logits_CV.std(-1)


@dataclass(frozen=True)
class ExpectedCodec:
    """The row of the head that the teacher expects: exact where the student's head is the same and frozen."""

    temperature: float

    def encode(self, logits_CV: Tensor, head: Head) -> dict[str, Tensor]:
        """4 D bytes, and 4 of the entropy. ModelError for a head that the loss cannot use with it."""
        if head.softcap is not None or head.linear.bias is not None:
            raise ModelError(
                "distill.teacher: expected needs a head with neither bias nor softcap; top-k works"
            )
        made = Expected.of(logits_CV, head, temperature=self.temperature)
        return {"embedding": made.embedding_ND.float(), "entropy": made.entropy_N.float()}

    def targets(self, kept: Kept) -> Expected:
        """All of the forward KL."""
        return Expected(kept["embedding"], kept["entropy"], self.temperature)

    def difference(self, kept: Kept, logits_CV: Tensor, head: Head) -> Tensor:
        """Distance of the embeddings; the share is of the distance from the mean row of the head."""
        now_CD = self.encode(logits_CV, head)["embedding"]
        mean_D = head.linear.weight[: logits_CV.shape[-1]].float().mean(0)
        return (now_CD - kept["embedding"]).norm(dim=-1) / (now_CD - mean_D).norm(dim=-1)


CODECS: dict[str, type] = {"top-k": TopKCodec, "expected": ExpectedCodec}


def codec_of(config: DistillConfig) -> Codec:
    """The codec that a recipe asks for."""
    if config.teacher == "top-k":
        return TopKCodec(config.teacher_top_k)
    return ExpectedCodec(config.temperature)


def settings_of(codec: Codec) -> dict[str, Any]:
    """The codec as JSON."""
    (name,) = (name for name, kind in CODECS.items() if isinstance(codec, kind))
    facts = asdict(codec)  # type: ignore[call-overload]
    return {"codec": name, **{k: list(v) if isinstance(v, tuple) else v for k, v in facts.items()}}


def read_codec(settings: Mapping[str, Any]) -> Codec:
    """The codec that `settings_of` described."""
    facts = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k != "codec"}
    return CODECS[settings["codec"]](**facts)


def as_integers(kept: Kept) -> dict[str, Tensor]:
    """The same bits as integers: FSDP2 and DeepSpeed cast the float inputs of a forward to their own type."""
    return {name: t.view(torch.int32) if t.is_floating_point() else t.long() for name, t in kept.items()}


def from_integers(kept: Kept) -> dict[str, Tensor]:
    """What `as_integers` was given."""
    return {name: t.view(torch.float32) if t.dtype == torch.int32 else t for name, t in kept.items()}
