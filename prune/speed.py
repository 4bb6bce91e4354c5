"""How much faster a cut model is, measured in memory: a short prefill and a few decoding steps."""

import logging
import statistics
import time
from collections.abc import Collection, Sequence
from typing import Any

import torch

from fastpath.blocks import find_blocks, keep_blocks
from fastpath.errors import ConfigError

log = logging.getLogger("fastpath")
PROMPT_TOKENS, NEW_TOKENS, REPEATS = 128, 8, 5


def fewest_for(model: Any, speedup: float, free: Sequence[int], sizes: Sequence[int]) -> int:
    """The first of some sizes at which the model is so many times faster without as many blocks, as measured.

    The last ones of `free` are dropped for it: which ones hardly matters to speed. Raises ConfigError if even
    the last size is too few.
    """
    ratio = 1.0
    for size in sizes:
        ratio = speed_ratio(model, free[-size:])
        log.info("speed: %d blocks fewer are %.2f times as fast", size, ratio)
        if ratio >= speedup:
            return size
    raise ConfigError(f"prune.speedup: {sizes[-1]} blocks dropped are {ratio:.2f} times as fast here")


@torch.no_grad()
def speed_ratio(model: Any, drop: Collection[int]) -> float:
    """Median seconds of the base over those of the model without the blocks `drop`, in alternation."""
    cut = keep_blocks(model, [i for i in range(len(find_blocks(model)[1])) if i not in drop])
    seconds: dict[str, list[float]] = {"base": [], "cut": []}
    for turn in range(REPEATS + 1):
        for name, timed in (("base", model), ("cut", cut)):
            start = time.perf_counter()
            _answer(timed)
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
    return statistics.median(seconds["base"]) / statistics.median(seconds["cut"])


def _answer(model: Any) -> None:
    """Read a prompt and write a few tokens, greedily, with the model's own cache."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids = (torch.arange(PROMPT_TOKENS, device=model.device) % vocabulary)[None]
    cache = None
    for _ in range(NEW_TOKENS):
        out = model(ids, past_key_values=cache, use_cache=True)
        cache, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
    ids.cpu()  # wait for the device
