"""What benchmarks/scoring.py compares with: the naive way, sides in alternation, operations counted."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from fastpath.blocks import skipping
from fastpath.config import PruneConfig
from fastpath.data import Batch
from fastpath.items.catalog import generate
from fastpath.nll import answer_nll, predicting, token_nats
from prune.search import Drop

SIMPLE = PruneConfig(drop=1).simple_tasks


def made_up(vocabulary: int) -> Any:
    """A random Llama of 16 blocks."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, tie_word_embeddings=True, hidden_size=512, intermediate_size=1408,
        num_hidden_layers=16, num_attention_heads=8, num_key_value_heads=4, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def items_of(num: int) -> list:
    """`num` calibration items of each simple task."""
    return [i for t in SIMPLE for i in generate(t, split="calibration", seed=0, num_items=num)]


def num_answer_tokens(batches: Sequence[Batch]) -> int:
    """What a cost is divided by."""
    return sum(int(b.answer.sum()) for b in batches)


@torch.no_grad()
def naive_nats(model: Any, batch: Batch) -> np.ndarray:
    """(sequences,) summed nats of the answers, from the logits of all positions."""
    at_BT = predicting(batch.answer)
    nats_N, _ = token_nats(model(**batch.inputs, use_cache=False).logits[at_BT], batch.ids[batch.answer])
    return np.bincount(at_BT.nonzero()[:, 0].numpy(), nats_N.numpy(), minlength=len(at_BT))


def lean_nats(model: Any, batch: Batch) -> np.ndarray:
    """The same with the head at the answer positions only."""
    return answer_nll(model, batch).nats.numpy()


def naive_gains(model: Any, batches: Sequence[Batch], drops: Sequence[Drop], nats_of: Any) -> np.ndarray:
    """(drop sets, items) of summed nats over the base: a whole forward for each, and one for the base."""
    out = np.empty((len(drops), sum(len(b.index) for b in batches)))
    for batch in batches:
        base = nats_of(model, batch)
        for row, drop in enumerate(drops):
            with skipping(model, drop):
                out[row, list(batch.index)] = nats_of(model, batch) - base
    return out


def alternate(
    sides: dict[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of every turn and last result of each side; who goes first rotates."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, Any] = {}
    for turn in range(repeats):
        names = list(sides)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            results[name] = sides[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds, results


def flops(work: Callable[[], Any]) -> int:
    """Floating point operations of matrix products and attention while `work` runs."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
