"""How much memory each mode takes, before anything is loaded: counted on models without data."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from distill.students import num_shareable, set_trainable, stock_model, with_adapters
from fastpath.blocks import find_blocks
from fastpath.config_distill import MODES, DistillConfig
from fastpath.env import free_bytes
from fastpath.errors import ConfigError

log = logging.getLogger("fastpath")
LOGIT_COPIES = 6
"""fp32 tensors of the size of the logits that the loss holds at once."""
GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """Bytes of one process training in one mode."""

    mode: str
    weights: int
    """Of teacher and student, the trained ones in float32."""
    training: int
    """Gradients and AdamW's two averages of the trained weights, float32."""
    activations: int
    """What the backward pass of one micro-batch keeps, and the logits of its loss."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.training + self.activations

    def __str__(self) -> str:
        return (
            f"{self.mode} {self.total / GIB:.2f} GiB (weights {self.weights / GIB:.2f}, "
            f"optimiser {self.training / GIB:.2f}, activations {self.activations / GIB:.2f})"
        )


def choose_mode(
    config: DistillConfig,
    teacher: Path,
    student: Path,
    keep: tuple[int, ...],
    *,
    one_set: bool,
    dtype: torch.dtype,
    device: torch.device,
    trust: bool,
) -> str:
    """The recipe's mode, or for auto the first that fits the memory; says what each would take.

    `one_set`: the student's blocks are the teacher's own. Raises ConfigError for a mode that does not fit or
    cannot be, with one that does.
    """
    modes = [mode for mode in MODES if one_set or mode != "shared-lora"]
    if config.mode not in ("auto", *modes):
        raise ConfigError("distill.mode: shared-lora needs the base's own blocks, these were repaired or trained; "
                          "lora works")  # fmt: skip
    estimates = {
        mode: estimate(mode, config, teacher, student, keep, dtype=dtype, trust=trust) for mode in modes
    }
    free = free_bytes(device)
    log.info("memory: %.2f GiB are free; %s", free / GIB, "; ".join(map(str, estimates.values())))
    fitting = [mode for mode in modes if estimates[mode].total <= free]
    if config.mode == "auto" and fitting:
        return fitting[0]
    if config.mode in fitting:
        return config.mode
    advice = f"{fitting[-1]} fits" if fitting else "none fits: try recompute_activations=true or micro_rows=1"
    raise ConfigError(
        f"distill.mode: {config.mode!r} would take more than the {free / GIB:.2f} GiB that are free; {advice}"
    )


def estimate(
    mode: str,
    config: DistillConfig,
    teacher: Path,
    student: Path,
    keep: tuple[int, ...],
    *,
    dtype: torch.dtype,
    trust: bool,
) -> Estimate:
    """What training in this mode takes, by tensors that have a shape and no data."""
    base, start = _empty(teacher, dtype, trust), num_shareable(mode, config, keep)
    cut = base if mode == "shared-lora" else _empty(student, dtype, trust)
    if mode == "shared-lora":
        trained: Any = with_adapters(cut, config, keep[start:])
    elif mode == "lora":
        trained = with_adapters(cut, config, range(start, len(keep)))
    else:
        trained = set_trainable(cut, mode, config, start=start)
    models = [trained] if mode == "shared-lora" else [trained, base]
    weights = sum(_bytes(p) for model in models for p in model.parameters())
    num_trained = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    stock = stock_model(trained)
    tokens = config.micro_rows * config.max_tokens
    logits = LOGIT_COPIES * 4 * tokens * stock.config.get_text_config(decoder=True).vocab_size
    if mode == "shared-lora":
        _leave_out(stock, keep)
    kept = kept_bytes(stock, config)
    return Estimate(mode, weights, 3 * 4 * num_trained, kept + logits)


def kept_bytes(model: PreTrainedModel, config: DistillConfig) -> int:
    """Bytes that autograd keeps of a micro-batch between the forward and the backward pass of the blocks."""
    if config.recompute_activations:
        model.activation_checkpointing_enable({"use_reentrant": False})
    ids_BT = torch.zeros(config.micro_rows, config.max_tokens, dtype=torch.int64, device="meta")
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}  # held, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept.setdefault(storage, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.train().get_decoder()(input_ids=ids_BT, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _empty(folder: Path, dtype: torch.dtype, trust: bool) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust)


def _leave_out(model: PreTrainedModel, keep: tuple[int, ...]) -> None:
    """Of a model that is thrown away: the blocks that the student skips."""
    path, blocks = find_blocks(model)
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, nn.ModuleList(blocks[i] for i in keep))


def _bytes(parameter: nn.Parameter) -> int:
    return parameter.numel() * parameter.element_size()
