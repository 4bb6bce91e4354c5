"""What is trained in each mode, and how it becomes a stock model again."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fastpath.blocks import find_blocks
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError


def prefix_digests(model: PreTrainedModel, most: int) -> list[str]:
    """Of what turns tokens into the stream, then of each of the first `most` blocks."""
    states = [block.state_dict().values() for block in find_blocks(model)[1][:most]]
    return [weights_digest(tensors) for tensors in (_embeddings(model), *states)]


def shared_prefix(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Leading blocks that are the same in both models, with all that enters them, by their prefix_digests."""
    same = [a == b for a, b in zip(ours, theirs, strict=True)]
    return max(0, (same.index(False) if False in same else len(same)) - 1)


def weights_digest(tensors: Iterable[Tensor]) -> str:
    """One digest of the bytes of these tensors."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


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
        frozen |= {id(weight) for weight in _embeddings(student)}
    return [p for p in student.parameters() if id(p) not in frozen]


def trains_head(student: PreTrainedModel, mode: str, config: DistillConfig, *, start: int) -> bool:
    """Whether `mode` changes the head, with the first `start` blocks frozen."""
    head: Any = student.get_output_embeddings()
    return not mode.endswith("lora") and any(
        p is head.weight for p in trainable(student, mode, config, start=start)
    )


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
        with warnings.catch_warnings():
            # peft asks transformers for a name that it renamed
            warnings.simplefilter("ignore", FutureWarning)
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
