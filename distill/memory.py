"""How much memory each mode takes, before any weight is loaded; which mode fits."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from distill.students import linear_layers, num_shareable, trainable, trains_head
from distill.targets import fast_chunk_bytes
from fastpath.blocks import find_blocks
from fastpath.config_distill import MODES, DistillConfig
from fastpath.env import free_bytes
from fastpath.errors import ConfigError
from fastpath.team import is_sharded, num_processes

log = logging.getLogger("fastpath")
GIB = 2**30
CHUNKS = 6
"""float32 tensors of a chunk of logits that the loss holds at once."""
KEPT = 1.4
"""What autograd keeps of a block, over what enters and leaves its weight matrices.

Measured on 94 families at 64 tokens: median 1.35, 9 of 10 below 2.6; state-space blocks up to 8.
"""


@dataclass(frozen=True)
class Estimate:
    """Bytes of one process training in one mode."""

    mode: str
    weights: int
    """Of the student, the trained ones in float32, and of a live teacher; under FSDP a process's share."""
    training: int
    """Gradients and AdamW's two averages of the trained weights, and a head's gradient while it is summed."""
    activations: int
    """What the backward pass of one micro-batch needs, and the logits of its loss; or, if that is more, what
    the student keeps of the rows that it writes."""
    capture: int
    """Of the original and its logits, where it is asked before the training; 0 where it is live."""

    @property
    def total(self) -> int:
        """The most at one time."""
        return max(self.weights + self.training + self.activations, self.capture)

    def __str__(self) -> str:
        before = f", before it {self.capture / GIB:.2f} for the original" if self.capture else ""
        return (
            f"{self.mode} {self.total / GIB:.2f} GiB (weights {self.weights / GIB:.2f}, gradients and "
            f"averages {self.training / GIB:.2f}, activations {self.activations / GIB:.2f}{before})"
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
    base, cut = (empty_model(folder, dtype=dtype, trust=trust) for folder in (teacher, student))
    shareable = one_set and config.teacher == "live"
    modes = [mode for mode in MODES if shareable or mode != "shared-lora"]
    if config.teacher == "expected":
        modes = [m for m in modes if not trains_head(cut, m, config, start=num_shareable(m, config, keep))]
        if config.mode not in ("auto", *modes):
            raise ConfigError(
                f"distill.teacher: expected needs a frozen head, and mode {config.mode} trains it; "
                "top-k works, or mode: lora"
            )
    if config.mode not in ("auto", *modes):
        raise ConfigError(
            "distill.mode: shared-lora needs the base's own blocks, and the student's were repaired or "
            "trained; lora works"
        )
    estimates = {mode: estimate(mode, config, base, cut, keep, device=device) for mode in modes}
    free = free_bytes(device)
    log.info("memory: %.2f GiB are free; %s", free / GIB, "; ".join(map(str, estimates.values())))
    fitting = [mode for mode in modes if estimates[mode].total <= free]
    if config.mode == "auto" and fitting:
        return fitting[0]
    if config.mode in fitting:
        return config.mode
    smaller = "recompute_activations=true, micro_rows=1" + ", teacher=top-k" * config.could_keep_teacher
    advice = f"{fitting[0]} fits" if fitting else f"none fits; try {smaller}"
    raise ConfigError(
        f"distill.mode: {config.mode} would take more than the {free / GIB:.2f} GiB that are free; {advice}"
    )


def estimate(
    mode: str,
    config: DistillConfig,
    base: PreTrainedModel,
    cut: PreTrainedModel,
    keep: tuple[int, ...],
    *,
    device: torch.device,
) -> Estimate:
    """What training in this mode on `device` takes. The models may be without data."""
    start = num_shareable(mode, config, keep)
    student = base if mode == "shared-lora" else cut
    blocks = find_blocks(student)[1]
    numbers = keep if mode == "shared-lora" else range(len(keep))
    live = config.teacher == "live"
    weights = sum(map(_bytes, student.parameters()))
    weights += sum(map(_bytes, base.parameters())) if live and student is not base else 0
    if mode.endswith("lora"):
        trained = numbers[start:]
        sizes = [m.in_features + m.out_features for i in trained for m in linear_layers(blocks[i]).values()]
        num_trained = config.lora_rank * sum(sizes)
        weights += 4 * num_trained
    else:
        marked = trainable(student, mode, config, start=start)
        num_trained = sum(p.numel() for p in marked)
        weights += sum(4 * p.numel() - _bytes(p) for p in marked)
    first = len(keep) - config.last_blocks if mode == "head+last-k" else start
    tokens = config.micro_rows * config.max_tokens
    kept = [kept_bytes(student, blocks[i]) for i in numbers[first:]]
    text = student.config.get_text_config(decoder=True)
    vocabulary, width = text.vocab_size, text.hidden_size
    if config.recompute_activations:
        per_token = max(kept) + width * student.dtype.itemsize * len(kept)
    else:
        per_token = sum(kept)
    logits = CHUNKS * min(4 * tokens * vocabulary, fast_chunk_bytes(device))
    capture = 0 if live else sum(map(_bytes, base.parameters())) + logits
    held = num_processes() if is_sharded() else 1
    whole = (
        max(sum(map(_bytes, block.parameters())) for block in blocks) if held > 1 else 0
    )  # one is gathered
    copies = 4 if num_processes() > held else 3  # DDP sums the gradients in buckets
    weights, training = weights // held + whole, copies * 4 * num_trained // held
    if trains_head(student, mode, config, start=start):
        training += 2 * 4 * vocabulary * width  # the loss sums its gradient, and hands it on
    written = on_policy_bytes(student, config, blocks=len(keep))
    return Estimate(mode, weights, training, max(tokens * per_token + logits, written), capture)


def on_policy_bytes(model: PreTrainedModel, config: DistillConfig, *, blocks: int) -> int:
    """The KV cache of all rows of a step, which the student writes at once; 0 without that phase."""
    if not config.on_policy.steps:
        return 0
    text = model.config.get_text_config(decoder=True)
    if not getattr(text, "num_attention_heads", None):
        return 0  # a state-space model keeps a state of one token
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    rows = -(-config.batch_rows // num_processes())
    return 2 * blocks * heads * size * model.dtype.itemsize * rows * config.max_tokens


def kept_bytes(model: PreTrainedModel, block: nn.Module) -> int:
    """About what autograd keeps of one token in one block: what enters and leaves its matrices, and more."""
    experts = getattr(model.config.get_text_config(decoder=True), "num_experts_per_tok", None) or 1
    matrices = [p.shape for p in block.parameters() if p.dim() == 2]
    of_experts = [p.shape[1:] for p in block.parameters() if p.dim() == 3]
    features = sum(map(sum, matrices)) + experts * sum(map(sum, of_experts))
    return int(KEPT * features * model.dtype.itemsize)


def empty_model(folder: Path, *, dtype: torch.dtype, trust: bool) -> PreTrainedModel:
    """The model of a folder, without data."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, trust_remote_code=trust
        )
    model.tie_weights()
    return model


def _bytes(parameter: nn.Parameter) -> int:
    return parameter.numel() * parameter.element_size()
