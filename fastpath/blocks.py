"""THE surgery, the one place that knows what a block is: find, tap, skip, replay, keep, check.

A block is one element of the model's list of decoder layers. Everything here works from two facts that hold
for stock transformers models: that list is a ModuleList as long as `config.num_hidden_layers`, and a block
takes the residual stream first and returns it first (alone, or at the head of a tuple). There is no table of
families: a cut model proves that it computes what the original computes when the dropped blocks are skipped,
or it is refused. What a config says of single blocks is in block_config.py.
"""

# B batch, T tokens, D width, N real tokens of a batch, V vocabulary

import copy
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import PreTrainedModel

from fastpath.block_config import check_keep, cut_config, depth_of, refusing, settings_of
from fastpath.errors import SurgeryError

# What entered block i in a recorded forward (None: not held), and what it returned after it (None: no tuple).
Streams = dict[int, tuple[Tensor | None, tuple | None]]

# Allowed difference, as a share of the largest logit. Both sides run the same kernels on the same numbers, so
# it is 0 in practice; the room is for kernels that sum in any order (a scatter of experts on a GPU).
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def find_blocks(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """(dotted path, ModuleList) of the decoder blocks; SurgeryError unless there is exactly one such list."""
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise SurgeryError(f"{name}: not a transformers model; merge its adapters or unwrap it first")
    depth = depth_of(model.config)
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth}
    outer = {n: m for n, m in lists.items() if not any(n.startswith(f"{o}.") for o in lists)}
    if len(outer) > 1:  # e.g. a vision tower of the same depth
        decoder = set(model.get_decoder().modules())
        outer = {n: m for n, m in outer.items() if m in decoder}
    if len(outer) != 1:
        found = ", ".join(sorted(outer)) or "none"
        raise SurgeryError(
            f"{name}: not one list of {depth} blocks ({found}); stock decoder-only models work"
        )
    return next(iter(outer.items()))


@contextmanager
def tap(model: PreTrainedModel, see: Callable[[int, Tensor, Tensor], Any]) -> Iterator[None]:
    """Inside the context every forward pass calls `see(i, before_BTD, after_BTD)` at each block i.

    Hooks, not output_hidden_states: its last entry is after the final norm. Wherever a device map has put the
    block, both streams come where the model's inputs are.
    """
    device = model.device

    def seen(i: int, before_BTD: Tensor, after_BTD: Tensor, _: tuple | None) -> None:
        see(i, before_BTD.to(device), after_BTD.to(device))

    with _hooked(model, see=seen):
        yield


@contextmanager
def skipping(model: PreTrainedModel, drop: Collection[int]) -> Iterator[None]:
    """Inside the context the blocks `drop` pass the residual stream through (call with use_cache=False).

    They are still computed: this measures quality, not speed.
    """
    with _hooked(model, skip=drop):
        yield


@contextmanager
def recording(model: PreTrainedModel, *, at: Collection[int] | None = None) -> Iterator[Streams]:
    """Inside the context a forward pass (use_cache=False) fills the Streams: depth x B x T x D numbers.

    In `skipping` or `replaying` they are the smaller model's. `at`: only what enters these blocks is held.
    """
    streams: Streams = {}

    def see(i: int, before_BTD: Tensor, _: Tensor, rest: tuple | None) -> None:
        streams[i] = (before_BTD if at is None or i in at else None, rest)

    with _hooked(model, see=see):
        yield streams


@contextmanager
def replaying(
    model: PreTrainedModel, streams: Streams, *, start: int, drop: Collection[int] = ()
) -> Iterator[None]:
    """Inside the context a forward of the recorded inputs (use_cache=False) skips blocks < start and `drop`.

    Block `start` gets its recorded stream. Exact for every family: the model's own forward still makes masks,
    positions, final norm and head. ValueError if the inputs are not those recorded, where block 0 holds them.
    """
    blocks = find_blocks(model)[1]
    _check_indices(model, [start, *drop], len(blocks))
    if len(streams) != len(blocks) or (start and streams[start][0] is None):
        raise ValueError(f"no stream of block {start} in {len(streams)}; run a forward in recording()")
    first_BTD, start_BTD = streams[0][0], streams[start][0]

    def passing(i: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            x_BTD = _stream(args, kwargs)
            if i == 0 < start and first_BTD is not None and not torch.equal(x_BTD, first_BTD):
                raise ValueError("other inputs than the recorded ones; record this batch first")
            return _joined(start_BTD if i < start and start_BTD is not None else x_BTD, streams[i][1])

        return forward

    replaced = sorted({*range(start), *drop})
    # Somebody else (accelerate) may have set a forward on the instance: it comes back afterwards.
    others = {i: vars(blocks[i])["forward"] for i in replaced if "forward" in vars(blocks[i])}
    try:
        for i in replaced:
            blocks[i].forward = passing(i)
        yield
    finally:
        for i in replaced:
            del blocks[i].forward
            if i in others:
                blocks[i].forward = others[i]


def keep_blocks(model: PreTrainedModel, keep: Sequence[int]) -> PreTrainedModel:
    """A new model of the same class with only the blocks `keep` (old indices, rising), in eval mode.

    Rebuilt from a cut config, not patched: attention type, window, rope and cache index are read when a block
    is constructed, so deleting modules in place leaves them stale. Weights are SHARED with `model`: train
    neither. SurgeryError if this model or this cut is refused.
    """
    name, (path, blocks) = type(model).__name__, find_blocks(model)
    devices = {str(p.device) for p in model.parameters()}
    if len(devices) > 1 or "meta" in devices:
        raise SurgeryError(f"{name}: weights lie on {', '.join(sorted(devices))}; load them on one device")
    config = cut_config(model.config, keep)
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith(f"{path}.")}
    for new, old in enumerate(keep):
        state |= {f"{path}.{new}.{key}": tensor for key, tensor in blocks[old].state_dict().items()}
    with refusing(f"{name}: cannot be rebuilt with blocks {list(keep)} of {len(blocks)}"):
        with init_empty_weights(include_buffers=False):
            pruned = type(model)._from_config(config, dtype=model.dtype)
        pruned.load_state_dict(state, strict=True, assign=True)
        pruned.tie_weights()
    if model.can_generate():
        pruned.generation_config = copy.deepcopy(model.generation_config)
    return pruned.to(model.device).eval()  # moves the buffers that are not saved


@torch.no_grad()
def check_surgery(
    model: PreTrainedModel, pruned: PreTrainedModel, keep: Sequence[int], *, atol: float | None = None
) -> float:
    """Largest difference of a logit between `pruned` and `model` with the dropped blocks skipped.

    Two proofs, SurgeryError if one fails. Each kept block holds the settings it had (kind, window, scale),
    which short sequences need not show; and on fixed sequences, whole and padded, the logits agree within
    `atol` (None: a share of the largest logit, see TOLERANCE).
    """
    name, blocks, cut_blocks = type(model).__name__, find_blocks(model)[1], find_blocks(pruned)[1]
    check_keep(name, keep, len(blocks))
    if model.training or pruned.training:
        raise SurgeryError(f"{name}: in training mode dropout hides differences; call eval() on both models")
    if len(cut_blocks) != len(keep):
        raise SurgeryError(f"{name}: the cut model has {len(cut_blocks)} blocks, the plan {len(keep)}")
    for new, old in enumerate(keep):
        if changed := settings_of(blocks[old]) ^ settings_of(cut_blocks[new]):
            said = ", ".join(f"{key} = {value}" for key, value in sorted(changed, key=str))[:200]
            raise SurgeryError(f"{name}: block {old} changes as block {new} ({said}); another plan may work")
    drop = sorted(set(range(len(blocks))) - set(keep))
    differences, scales = [], []
    for inputs in _probes(model):
        real_BT = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
        with skipping(model, drop):
            want_NV = model(**inputs, use_cache=False).logits[real_BT].double()
        got_NV = pruned(**inputs, use_cache=False).logits[real_BT].double()
        differences.append((got_NV - want_NV).abs().max())
        scales.append(want_NV.abs().max())
    worst = torch.stack(differences).max().item()  # NaN if any is
    limit = torch.stack(scales).max().item() * TOLERANCE[model.dtype] if atol is None else atol
    if not worst <= limit:
        raise SurgeryError(
            f"{name}: cut to blocks {list(keep)} a logit is off by {worst:.2g} (allowed {limit:.2g}) from "
            "the original with the others skipped: its blocks depend on their place; another plan may work"
        )
    return worst


def _probes(model: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """Fixed inputs to compare two models on: one sequence, and a batch padded on either side."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids_BT = torch.randint(vocabulary, (4, 40), generator=torch.Generator().manual_seed(0)).to(model.device)
    yield {"input_ids": ids_BT[:1]}
    if "attention_mask" in inspect.signature(model.forward).parameters:
        mask_BT = torch.ones_like(ids_BT[1:])
        mask_BT[1, -9:] = 0
        mask_BT[2, :9] = 0
        yield {"input_ids": ids_BT[1:], "attention_mask": mask_BT}


def _check_indices(model: PreTrainedModel, indices: Collection[int], depth: int) -> None:
    if wrong := [i for i in indices if not 0 <= i < depth]:
        raise SurgeryError(f"{type(model).__name__}: no block {wrong[0]}; its blocks are 0 to {depth - 1}")


@contextmanager
def _hooked(
    model: PreTrainedModel, *, see: Callable[..., Any] | None = None, skip: Collection[int] = ()
) -> Iterator[None]:
    """Inside the context `see(i, before_BTD, after_BTD, rest)` runs after block i; `skip` pass it on."""
    blocks = find_blocks(model)[1]
    _check_indices(model, skip, len(blocks))

    def hook_of(i: int) -> Callable[..., Any]:
        def hook(block: nn.Module, args: tuple, kwargs: dict, out: Any) -> Any:
            # transformers 5 blocks return a plain tensor: out[0] of that would be batch item 0
            after_BTD, rest = (out[0], out[1:]) if isinstance(out, tuple) else (out, None)
            if not isinstance(after_BTD, Tensor):
                raise SurgeryError(f"{type(block).__name__}: returns a {type(out).__name__}, not its stream")
            if see is not None:
                see(i, _stream(args, kwargs), after_BTD, rest)
            return _joined(_stream(args, kwargs), rest) if i in skip else None

        return hook

    handles = [block.register_forward_hook(hook_of(i), with_kwargs=True) for i, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stream(args: tuple, kwargs: dict) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _joined(x_BTD: Tensor, rest: tuple | None) -> Any:
    return x_BTD if rest is None else (x_BTD, *rest)
