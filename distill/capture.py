"""The original's predictions are written to disk once; then the student is trained without it."""

# B rows, T tokens, N learnt tokens, C tokens of a chunk, D width, V vocabulary

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from distill.codecs import Codec, codec_of, settings_of
from distill.data import Data, Numbered
from distill.examples import Example
from distill.head import Head, find_head, ready
from distill.memory import empty_model
from distill.packing import IGNORED, can_pack, padded_batch
from distill.pair import hidden_at
from distill.store import Store
from distill.students import num_shareable, prefix_digests, shared_prefix, trains_head, weights_digest
from distill.targets import fast_chunk_bytes
from fastpath.blocks import TOLERANCE
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError, ModelError, RunError
from fastpath.models import load_model
from fastpath.nll import predicting
from fastpath.progress import progress
from fastpath.runs import locked

log = logging.getLogger("fastpath")
SHARD_BYTES = 2**26
SHARD_SECONDS = 60.0
"""A capture that is killed loses at most this much work."""
RESCORED = 8
"""Samples of a store that the live teacher is asked again, each time it is used."""
ONE_TOKEN = 10
"""How many times as far off a single token may be as the mean of all that is asked again."""


@dataclass(frozen=True)
class Teacher:
    """The original while it is asked."""

    model: Any
    head: Head
    vocabulary: int
    """The true one."""

    @torch.no_grad()
    def logits(self, examples: Sequence[Example]) -> Iterator[Tensor]:
        """(C, V) chunks of the logits that predict the learnt tokens, in their order."""
        inputs = padded_batch([(example,) for example in examples], pad=0)
        inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
        at_BT = predicting(inputs.pop("labels") != IGNORED)
        hidden_ND, _ = hidden_at(self.model, at_BT, {**inputs, "use_cache": False})
        weights = ready(self.head.weights(), self.vocabulary)
        for hidden_CD in hidden_ND.split(max(1, fast_chunk_bytes(hidden_ND.device) // (4 * self.vocabulary))):
            logits_CV = self.head.logits(hidden_CD, weights)
            if not logits_CV.isfinite().all():
                raise ModelError(
                    f"the original's predictions are not finite in {str(self.model.dtype)[6:]}: its weights "
                    "are broken, or try model.dtype=float32"
                )
            yield logits_CV


@dataclass(frozen=True)
class Kept:
    """What a process must know to train on kept predictions."""

    store: Path
    prefix: tuple[str, ...]
    """The original's prefix_digests: which blocks of the student are its own."""


def keep_predictions(
    data: Data,
    config: DistillConfig,
    tokenizer: Any,
    teacher: Path,
    student: Path,
    *,
    mode: str,
    keep: Sequence[int],
    weights: str,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
    trust: bool,
) -> Kept:
    """Capture what the recipe's rows need and no earlier run has, and check what there is.

    `weights`: digest of the teacher's. One model is loaded at a time. Raises ConfigError for a student that
    the codec cannot teach, RunError for a store that does not hold what the teacher predicts now.
    """
    how: dict[str, Any] = {"dtype": dtype, "device": device, "trust_remote_code": trust}
    codec, most = codec_of(config), num_shareable(mode, config, keep)
    cut = load_model(student, **how)
    own_prefix, own_head = prefix_digests(cut, most), weights_digest([find_head(cut).linear.weight])
    packed = config.pack == "auto" and can_pack(cut, dtype)
    del cut  # the original comes
    original = load_model(teacher, **how)
    prefix = prefix_digests(original, most)
    start = shared_prefix(own_prefix, prefix)
    asked = Teacher(original, find_head(original), 1 + max(tokenizer.get_vocab().values()))
    if config.teacher == "expected":
        frozen = not trains_head(empty_model(student, dtype=dtype, trust=trust), mode, config, start=start)
        if not frozen or own_head != weights_digest([asked.head.linear.weight]):
            raise ConfigError(
                f"distill.teacher: expected needs the head of the original, frozen, and in mode {mode} the "
                "student's is another or is trained; top-k works"
            )
    rows = Numbered(data, config, tokenizer, seed=seed, packed=packed)
    examples = {example.key: example for i in range(len(rows)) for example in rows[i][1]}
    store = Store.of({
        "teacher_weights_sha256": weights, "dtype": str(dtype)[6:],
        "attention": original.config._attn_implementation, "vocabulary": asked.vocabulary,
        "codec": settings_of(codec),
    })  # fmt: skip
    with locked(store.folder / ".lock", wait=True):
        store = Store(store.folder)  # with what another process captured meanwhile
        store.check()
        capture(store, asked, list(examples.values()), batch_tokens=config.micro_rows * config.max_tokens)
    check_again(store, asked, list(examples.values()), seed=seed)
    return Kept(store.folder, tuple(prefix))


def capture(store: Store, teacher: Teacher, examples: Sequence[Example], *, batch_tokens: int) -> None:
    """Add to the store what it lacks of these examples, whose keys differ.

    A killed capture goes on. What goes through the teacher together depends on the examples alone, not on
    which of them are missing: their numbers are the same to the bit, whether it was killed or not.
    """
    batches = [b for b in _batches(examples, batch_tokens) if any(e.key not in store for e in b)]
    missing = [example for batch in batches for example in batch if example.key not in store]
    tokens = sum(example.num_learnt for example in missing)
    log.info(
        "%s: holds %d of %d samples; %d learnt tokens are to be captured",
        store.folder, len(examples) - len(missing), len(examples), tokens,
    )  # fmt: skip
    if not missing:
        return
    waiting: dict[str, dict[str, Tensor]] = {}
    since = time.monotonic()
    with progress("the original's predictions", tokens) as advance:
        for batch in batches:
            predicted = zip(batch, predict(teacher, store.codec, batch), strict=True)
            new = {e.key: kept for e, kept in predicted if e.key not in store}
            waiting |= new
            num_bytes = sum(t.numel() * t.element_size() for kept in waiting.values() for t in kept.values())
            if num_bytes >= SHARD_BYTES or time.monotonic() - since >= SHARD_SECONDS:
                store.add(waiting)
                waiting, since = {}, time.monotonic()
            advance(sum(e.num_learnt for e in batch if e.key in new))
        store.add(waiting)


@torch.no_grad()
def predict(teacher: Teacher, codec: Codec, examples: Sequence[Example]) -> list[dict[str, Tensor]]:
    """What the codec keeps of each example, from one forward pass."""
    chunks = [
        {name: tensor.cpu() for name, tensor in codec.encode(logits_CV, teacher.head).items()}
        for logits_CV in teacher.logits(examples)
    ]
    sizes = [example.num_learnt for example in examples]
    parts = {name: torch.cat([chunk[name] for chunk in chunks]).split(sizes) for name in chunks[0]}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(examples))]


@torch.no_grad()
def check_again(store: Store, teacher: Teacher, examples: Sequence[Example], *, seed: int) -> float:
    """Ask the teacher again for random samples, each alone: the mean share that their tokens are off by.

    Raises RunError if it is more than rounding explains: another order of summation, in other batches. The
    mean is of all of them: an item with choices is one token.
    """
    some = Random(seed).sample(sorted(examples, key=lambda e: e.key), min(RESCORED, len(examples)))
    off = {example.key: _off(store, teacher, example) for example in some}
    off_N, limit = torch.cat(list(off.values())), TOLERANCE[teacher.model.dtype]
    mean, most = off_N.mean().item(), off_N.max().item()
    if not (mean <= limit and most <= ONE_TOKEN * limit):
        worst = max(off, key=lambda key: off[key].max().item())
        raise RunError(
            f"{store.folder}: off by {mean:.2g} of their spread (allowed {limit:.2g}), sample {worst[:16]} "
            f"by {most:.2g} ({ONE_TOKEN * limit:.2g}), from what the original predicts now: other weights, "
            "or another version of its code; delete the folder"
        )
    log.info(
        "%s: %d samples, %.1f MiB; %d of them asked again, %.1e of their spread off",
        store.folder, len(store), store.num_bytes / 2**20, len(some), mean,
    )  # fmt: skip
    return mean


def _off(store: Store, teacher: Teacher, example: Example) -> Tensor:
    """(N,): how far what is kept of each learnt token is from what the teacher predicts."""
    kept, done, parts = store[example.key], 0, []
    for logits_CV in teacher.logits([example]):
        part = {n: t[done : done + len(logits_CV)].to(logits_CV.device) for n, t in kept.items()}
        done += len(logits_CV)
        parts.append(store.codec.difference(part, logits_CV, teacher.head))
    return torch.cat(parts)


def _batches(examples: Sequence[Example], batch_tokens: int) -> list[list[Example]]:
    """All examples, those of a length together, at most so many tokens at once, pads among them."""
    batches: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: (-len(e.ids), e.key)):
        if not batches or (len(batches[-1]) + 1) * len(batches[-1][0].ids) > batch_tokens:
            batches.append([])
        batches[-1].append(example)
    return batches
