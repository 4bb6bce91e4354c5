"""What the hardware could do at best, measured in the same run, and what a forward pass cannot do without.

The ceiling of a pass is the longer of two times: its matrix products at the measured matrix rate, and the
bytes that it must read at the measured copy rate (the roofline of Williams, Waterman and Patterson, 2009).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from eval.passes import Clock, cache_of, last_only

# B sequences, T prompt tokens


@dataclass(frozen=True)
class Sizes:
    """Bytes of the buffer that is copied, rows of the square matrices, and how often at a time."""

    copy_bytes: int
    rows: int
    times: int


# Source and destination together are far larger than the last cache of the device.
SIZES = {"cpu": Sizes(2**28, 2048, 1), "gpu": Sizes(2**29, 8192, 10)}


@dataclass(frozen=True)
class Rates:
    """Bytes read + bytes written a second by a copy, multiplications + additions a second by a product."""

    copy_bytes_per_second: float
    matmul_flops_per_second: float


class Ceilings:
    """Samples of a device's rates. Taken between the rounds of a measurement, a drift hits both alike."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._samples = device, list[Rates]()
        self._sizes = SIZES["cpu" if device.type == "cpu" else "gpu"]
        shape = (self._sizes.rows, self._sizes.rows)
        self._source = torch.ones(self._sizes.copy_bytes, dtype=torch.uint8, device=device)
        self._left, self._right = (torch.randn(shape, device=device).to(dtype) for _ in range(2))
        self._copied, self._product = torch.empty_like(self._source), torch.empty_like(self._left)
        self.sample()  # warm-up: pages are mapped, kernels chosen
        self._samples.clear()

    @torch.inference_mode()
    def sample(self) -> None:
        """Measure both rates once more."""
        copied = 2 * self._sizes.copy_bytes / self._seconds(lambda: self._copied.copy_(self._source))
        product = self._seconds(lambda: torch.mm(self._left, self._right, out=self._product))
        self._samples.append(Rates(copied, 2 * self._sizes.rows**3 / product))

    def median(self) -> Rates:
        """The median of each rate."""
        rates = [(s.copy_bytes_per_second, s.matmul_flops_per_second) for s in self._samples]
        return Rates(*(float(rate) for rate in np.median(rates, axis=0)))

    def _seconds(self, work: Callable[[], Any]) -> float:
        clock = Clock(self._device)
        clock.mark()
        for _ in range(self._sizes.times):
            work()
        clock.mark()
        return clock.seconds()[0] / self._sizes.times


@dataclass(frozen=True)
class Work:
    """What one forward pass cannot do without."""

    flops: int
    bytes: float

    def seconds(self, rates: Rates) -> float:
        """The least time it takes at these rates."""
        return max(self.flops / rates.matmul_flops_per_second, self.bytes / rates.copy_bytes_per_second)


@dataclass(frozen=True)
class Needs:
    """The work of a prefill, of the average decode step after it, and the bytes of the cache they share."""

    prefill: Work
    step: Work
    kv_bytes_per_token: float


@torch.no_grad()
def needs_of(model: PreTrainedModel, prompt_BT: torch.Tensor, new_tokens: int) -> Needs:
    """Counted on one prefill and one step: matrix products by torch's own counter, the cache by its tensors.

    A pass reads each weight once, a step also the cache, which holds prompt + new_tokens / 2 tokens on
    average. Raises ValueError if the model returns no KV cache.
    """
    num_sequences, length = prompt_BT.shape
    with _counter() as counter:
        out = model(input_ids=prompt_BT, use_cache=True, **last_only(model))
    prefill_flops = _flops(counter, seen=(length + 1) / (2 * length))
    cache = cache_of(model, out)
    cache_bytes = kv_bytes(cache)
    with _counter() as counter:
        model(input_ids=prompt_BT[:, -1:], past_key_values=cache, use_cache=True)
    weights = weight_bytes_read(model)
    context = (length + new_tokens / 2) / length
    return Needs(
        prefill=Work(prefill_flops, weights + cache_bytes),
        step=Work(_flops(counter, seen=1.0), weights + cache_bytes * context),
        kv_bytes_per_token=cache_bytes / (num_sequences * length),
    )


def weight_bytes_read(model: PreTrainedModel) -> int:
    """Bytes of the weights that every pass reads whole: blocks and head, not tables it only looks rows up in.

    A head tied to the embeddings is a product like any other, so its table counts. Assumption: of a mixture
    of experts all are read, which holds for large batches only.
    """
    head = model.get_output_embeddings()
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    looked_up = tables - ({id(head.weight)} if head is not None else set())
    return sum(p.nbytes for p in model.parameters() if id(p) not in looked_up)


def kv_bytes(cache: Cache) -> int:
    """Bytes of the keys and values. What linear attention keeps instead does not grow, and is left out."""
    kept = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    return sum(tensor.nbytes for tensor in kept if tensor is not None)


def _counter() -> FlopCounterMode:
    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        num_sequences, num_heads, num_queries, width = query  # the keys may have fewer heads
        return 2 * num_sequences * num_heads * num_queries * key[-2] * (width + value[-1])

    def experts(rows: Any, weights: Any, *_: Any, **__: Any) -> int:
        return 2 * math.prod(rows) * weights[-1]  # each row meets one expert

    # Kernels that torch's counter does not know, or not in every version with fewer heads of keys.
    aten = torch.ops.aten
    kernels = {
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten._scaled_dot_product_flash_attention: attention,
        aten._scaled_dot_product_efficient_attention: attention,
        aten._scaled_dot_product_cudnn_attention: attention,
        aten._grouped_mm: experts,
    }
    return FlopCounterMode(display=False, custom_mapping=kernels)


def _flops(counter: FlopCounterMode, *, seen: float) -> int:
    """Of an attention kernel only the share `seen` counts: the rest is masked, and kernels skip it."""
    counts = counter.get_flop_counts().get("Global", {})
    return round(sum(n * seen if "attention" in str(op) else n for op, n in counts.items()))
