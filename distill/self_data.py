"""The original model's own answers as training data: sampled, verified, written once for one content.

A model heals best on what it would have written itself (self-data distillation, arXiv 2410.09982); every
distinct verified answer is kept, as in rejection sampling (arXiv 2308.01825).
"""

import json
import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

from fastpath.items.item import Item, digest
from fastpath.own_answers import ends_in_gold, write_answers
from fastpath.progress import progress
from fastpath.runs import read_json, write_json

log = logging.getLogger("fastpath")
Job = TypeVar("Job")


@dataclass(frozen=True)
class Sampler:
    """How an answer is written."""

    temperature: float = 1.0
    top_p: float = 0.95
    max_new_tokens: int = 256


class SeededSampling(LogitsProcessor):
    """Leaves each row one token, drawn from its scores by the row's own stream of random numbers.

    The likeliest token then is a sample that does not depend on what else is in the batch, nor on torch's
    global generator.
    """

    def __init__(self, streams: Sequence[str]) -> None:
        """One stream a row, known by its name."""
        self._rngs = [Random(stream) for stream in streams]

    def __call__(self, ids_BT: Tensor, scores_BV: Tensor) -> Tensor:
        """(B, V) scores: 0 for the token drawn, -inf for all others."""
        cumulated_BV = scores_BV.float().softmax(-1).cumsum(-1)
        drawn_B = cumulated_BV.new_tensor([rng.random() for rng in self._rngs])
        # Not 1 but what the rounded sum ends at: a token beyond it has no probability.
        at_B1 = torch.searchsorted(cumulated_BV, drawn_B[:, None] * cumulated_BV[:, -1:], right=True)
        at_B1 = at_B1.clamp(max=scores_BV.shape[-1] - 1)
        return torch.full_like(scores_BV, -torch.inf).scatter(1, at_B1, 0.0)


def own_answers(
    load: Callable[[], Any],
    tokenizer: Any,
    items: Sequence[Item],
    *,
    samples: int,
    sampler: Sampler,
    weights: str,
    seed: int,
    folder: Path,
    batch_size: int,
) -> list[Item]:
    """The items, each worked one with every distinct answer of the model's own that is right, else as it was.

    Right is a finished answer that ends in the gold result. An item with choices stays as it is: its right
    answer is the reference. Sample n of a prompt is kept in FOLDER/self_data/ under the digest of prompt,
    `weights` (digest of the model's), sampler, seed and n, so that a killed run goes on there, and more
    samples or items are added to those there are. `load` gives the model, if anything is missing.
    """
    settings = json.dumps(asdict(sampler), sort_keys=True)
    keys = {
        (item.prompt, number): digest(item.prompt, str(number), weights, settings, str(seed), "1", length=32)
        for item in items
        if item.steps
        for number in range(samples)
    }
    paths = {job: folder / "self_data" / f"{key}.json" for job, key in keys.items()}
    missing = {job for job in paths if not paths[job].exists()}
    with progress("the original writes its own answers", len(missing)) as advance:
        for batch in unfinished(
            sorted(paths, key=lambda job: (job[1], len(job[0]), job[0])), missing, batch_size
        ):
            prompts, streams = [prompt for prompt, _ in batch], [keys[job] for job in batch]
            said = sampled(load(), tokenizer, prompts, streams=streams, sampler=sampler)
            for job, answer in zip(batch, said, strict=True):
                paths[job].parent.mkdir(parents=True, exist_ok=True)
                if job in missing:
                    write_json(paths[job], answer)
            advance(len(missing.intersection(batch)))
    made: list[Item] = []
    num_right = 0
    for item in items:
        written = [read_json(paths[item.prompt, number]) for number in range(samples)] if item.steps else []
        right = right_answers(item, written)
        num_right += bool(right)
        made += [replace(item, answer=text, steps=((0, len(text)),)) for text in right] or [item]
    log.info(
        "the original's own answers: of %d worked items %d have one that is right, the others the reference;"
        " %d examples in all", sum(bool(item.steps) for item in items), num_right, len(made),
    )  # fmt: skip
    return made


def unfinished(jobs: Sequence[Job], missing: Set[Job], batch_size: int) -> list[Sequence[Job]]:
    """The batches of all jobs that hold a missing one.

    What is written together depends on the jobs alone, not on which are missing: pads, and so the rounding,
    are the same whether it was killed or not.
    """
    batches = [jobs[start : start + batch_size] for start in range(0, len(jobs), batch_size)]
    return [batch for batch in batches if not missing.isdisjoint(batch)]


def right_answers(item: Item, written: Sequence[dict[str, Any]]) -> list[str]:
    """The distinct answers that came to their end and are right, in the order they were written."""
    ended = (said["answer"] for said in written if said["finished"])
    return list(dict.fromkeys(answer for answer in ended if ends_in_gold(item, answer)))


def sampled(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    streams: Sequence[str],
    sampler: Sampler,
    raw: bool = False,
) -> list[dict[str, Any]]:
    """`write_answers` with a sampler: row n draws by the stream of random numbers that streams[n] names."""
    draw = [
        TemperatureLogitsWarper(sampler.temperature),
        TopPLogitsWarper(sampler.top_p),
        SeededSampling(streams),
    ]
    limit = sampler.max_new_tokens
    return write_answers(model, tokenizer, prompts, max_new_tokens=limit, processors=draw, raw=raw)
