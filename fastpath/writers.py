"""Which linear maps of a block write to the residual stream: found by probing, so there is no table of names.

A map writes to the stream if adding noise to its output adds the same noise, times a constant, to what the
block returns. Its weights can then be changed so that its contribution to the stream is any linear function
of what it was, at no cost when the model runs.
"""

# B batch, T tokens, D width

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fastpath.blocks import TOLERANCE, find_blocks

LINEAR = (nn.Linear, Conv1D)
"""Exactly these classes: a subclass may compute something else from its weight."""


@dataclass(frozen=True)
class Writer:
    """A linear map of a block whose output is added to the stream."""

    name: str
    """Path inside the block."""
    module: Any
    scale: float
    """The stream gains `scale` times the output (1 but for families with a residual multiplier)."""


@dataclass(frozen=True)
class BlockWriters:
    """The writers of one block, the last to run first."""

    found: tuple[Writer, ...]
    complete: bool
    """Whether they are all that the block adds: with them silent it passes the stream through."""


@torch.no_grad()
def find_writers(model: PreTrainedModel) -> list[BlockWriters]:
    """The writers of every block, from one forward pass on a short sequence.

    None are found where a norm follows the last map (Gemma 2, OLMo 2), and routed experts are not maps of
    their own: such blocks have no writer or are not complete.
    """
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(vocabulary, (1, 12), generator=generator).to(model.device)
    found: list[BlockWriters] = []

    def hook(block: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        # block.forward, not block(): a call would come back to this hook.
        found.append(_probe(block, lambda: _stream(block.forward(*args, **kwargs)), _before(args, kwargs)))

    handles = [block.register_forward_hook(hook, with_kwargs=True) for block in find_blocks(model)[1]]
    try:
        model(ids_BT, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _probe(block: nn.Module, run: Callable[[], Tensor], before_BTD: Tensor) -> BlockWriters:
    order: dict[str, nn.Module] = {}
    named = {m: name for name, m in block.named_modules() if type(m) in LINEAR}

    def note(module: nn.Module, args: tuple, out: Tensor) -> None:
        if out.shape[-1] == before_BTD.shape[-1] and out.numel() == before_BTD.numel():
            order[named[module]] = module

    handles = [module.register_forward_hook(note) for module in named]
    run()
    for handle in handles:
        handle.remove()
    noise_BTD = torch.randn(before_BTD.shape, generator=torch.Generator().manual_seed(1))
    noise_BTD = noise_BTD.to(before_BTD) * before_BTD.float().std().clamp(min=1e-3).to(before_BTD.dtype)
    limit = TOLERANCE[before_BTD.dtype]
    writers: list[Writer] = []
    for name, module in reversed(order.items()):  # what runs later must be silent before what it reads
        silent = [writer.module for writer in writers]
        gained = (_run(run, silent, add=(module, noise_BTD)) - _run(run, silent)).double()
        noise = noise_BTD.double()
        scale = ((gained * noise).sum() / noise.square().sum()).item()
        if abs(scale) > 1e-3 and (gained - scale * noise).norm() <= limit * gained.norm():
            writers.append(Writer(name, module, scale))
    rest = _run(run, [writer.module for writer in writers]) - before_BTD
    complete = bool(rest.abs().max() <= limit * before_BTD.abs().max())
    return BlockWriters(tuple(writers), complete)


def _run(
    run: Callable[[], Tensor], silent: Collection[nn.Module], add: tuple[nn.Module, Tensor] | None = None
) -> Tensor:
    """What the block returns with some outputs zeroed and, perhaps, noise added to one."""
    handles = [m.register_forward_hook(lambda _, args, out: torch.zeros_like(out)) for m in silent]
    if add is not None:
        module, noise_BTD = add
        handles.append(module.register_forward_hook(lambda _, args, out: out + noise_BTD.view_as(out)))
    try:
        return run()
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def transformed(writer: Writer, map_DD: Tensor) -> dict[str, Tensor]:
    """The weight (and bias) that make the writer's output y_D into y_D @ map_DD; computed in float64."""
    map_DD = map_DD.double()
    weight = writer.module.weight.double()
    is_conv1d = isinstance(writer.module, Conv1D)  # its weight is (in, out)
    new = {"weight": weight @ map_DD if is_conv1d else map_DD.T @ weight}
    if writer.module.bias is not None:
        new["bias"] = writer.module.bias.double() @ map_DD
    return {f"{writer.name}.{key}": value.to(writer.module.weight.dtype) for key, value in new.items()}


def scaled(writer: Writer, factor: float) -> dict[str, Tensor]:
    """The weight (and bias) that multiply the writer's output by a number."""
    return {f"{writer.name}.{key}": value.data * factor for key, value in writer.module.named_parameters()}


def _stream(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def _before(args: tuple, kwargs: dict) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]
