"""What is trained in each mode, and how it becomes a stock model again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from fastpath.blocks import find_blocks
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError


def shared_prefix(student: PreTrainedModel, teacher: PreTrainedModel, most: int) -> int:
    """Number of leading blocks, at most `most`, that are the same in both models, embeddings included."""
    pairs = list(zip(find_blocks(student)[1], find_blocks(teacher)[1], strict=False))[:most]
    inputs = zip(_embeddings(student), _embeddings(teacher), strict=True)
    if not all(torch.equal(a, b) for a, b in inputs):
        return 0
    same = [_equal(a.state_dict(), b.state_dict()) for a, b in pairs]
    return same.index(False) if False in same else len(same)


def num_shareable(mode: str, config: DistillConfig, keep: Sequence[int]) -> int:
    """Leading blocks of the student that its cut left as they were and that `mode` does not train.

    Raises ConfigError if there are fewer blocks than are to be trained.
    """
    if config.last_blocks > len(keep):
        raise ConfigError(
            f"distill.last_blocks: {config.last_blocks} of {len(keep)} blocks; at most {len(keep)}"
        )
    if mode != "head+last-k" and not config.freeze_prefix:
        return 0
    first_cut = next((new for new, old in enumerate(keep) if new != old), len(keep))
    return min(first_cut, len(keep) - config.last_blocks)


def trainable(
    student: PreTrainedModel, mode: str, config: DistillConfig, *, start: int
) -> list[nn.Parameter]:
    """What full and head+last-k train, at most what comes after the first `start` blocks.

    What is frozen in front takes the embeddings with it, and a head that is tied to them.
    """
    blocks = find_blocks(student)[1]
    first = len(blocks) - config.last_blocks if mode == "head+last-k" else start
    frozen = {id(p) for block in blocks[:first] for p in block.parameters()}
    if first:
        frozen |= {id(p) for p in _embeddings(student)}
    return [p for p in student.parameters() if id(p) not in frozen]


def set_trainable(student: PreTrainedModel, parameters: Sequence[nn.Parameter]) -> PreTrainedModel:
    """The model with these parameters to be trained, in float32, and all others frozen."""
    student.requires_grad_(False)
    for parameter in parameters:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return student


def with_adapters(student: PreTrainedModel, config: DistillConfig, blocks: Sequence[int]) -> Any:
    """The model as a peft model: low-rank adapters on the linear layers of `blocks`, all else frozen.

    Raises ConfigError if these have no linear layers, or peft refuses them.
    """
    from peft import LoraConfig, get_peft_model

    path, all_blocks = find_blocks(student)
    names = [f"{path}.{i}.{name}" for i in blocks for name in linear_layers(all_blocks[i])]
    if not names:
        raise ConfigError(
            f"distill.mode: {type(student).__name__} has no linear layers for adapters; full works"
        )
    adapters = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=names, lora_dropout=0.0, bias="none"
    )  # fmt: skip
    try:
        return get_peft_model(student, adapters)
    except ValueError as error:  # for example of state-space blocks
        reason = str(error).splitlines()[0][:160]
        raise ConfigError(
            f"distill.mode: no adapters for {type(student).__name__} ({reason}); full works"
        ) from None


def linear_layers(block: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a block, by their names in it; no subclass: some routers return a tuple."""
    return {name: module for name, module in block.named_modules() if type(module) is nn.Linear}


@contextmanager
def without_adapters(student: Any) -> Iterator[PreTrainedModel]:
    """The model under the adapters, as it was before it got them, in eval mode inside the block."""
    training = student.training
    student.eval()
    student.base_model.disable_adapter_layers()
    try:
        yield student.get_base_model()
    finally:
        student.base_model.enable_adapter_layers()
        student.train(training)


def stock_model(student: Any) -> PreTrainedModel:
    """The transformers model inside a student, adapters still on it."""
    return student if isinstance(student, PreTrainedModel) else student.get_base_model()


def _embeddings(model: PreTrainedModel) -> list[Any]:
    """What turns tokens and positions into the stream: the weights of all embedding modules."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
