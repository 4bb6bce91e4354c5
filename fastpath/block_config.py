"""What a config, or a block itself, says of single blocks, and the config of the model that keeps some."""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from fastpath.errors import SurgeryError

# Lists with one entry per block: those that some classes compute instead of storing, and those whose name
# does not speak of layers or blocks. All others are found by their name and length.
COMPUTED = ("layer_types", "layers_block_type", "layers_num_experts")
UNNAMED = ("indexer_types",)
# Lists of block indices, from 0.
BLOCK_INDICES = ("mlp_only_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices")
# "The first n blocks are different", and the last block of a kind.
LEADING_COUNTS = ("max_window_layers", "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
LAST_INDICES = ("moe_layer_end_index",)
# What a module calls its place in the stack, and a switch that does not change what it computes.
NOT_SETTINGS = ("layer_idx", "layer_id", "layer_index", "num_hidden_layers", "gradient_checkpointing")


def cut_config(config: PreTrainedConfig, keep: Sequence[int]) -> PreTrainedConfig:
    """A copy of `config` for the blocks `keep`: what it says of single blocks follows them to new places.

    Lists with an entry per block are indexed by `keep` (never truncated), lists of indices renumbered, counts
    re-based. A list that might be about blocks and is not understood is refused, not guessed. Computed fields
    must come out right by themselves, and all must survive being saved and read back. SurgeryError otherwise.
    """
    name, depth = type(config).__name__, depth_of(config)
    check_keep(name, keep, depth)
    cut = copy.deepcopy(config)
    text = cut.get_text_config(decoder=True)
    _check_cuttable(name, cut)
    want = {"num_hidden_layers": len(keep), **_renumbered(text, keep)}
    for key, entries in _per_block(name, text, depth).items():
        want[key] = [entries[i] for i in keep]
    with refusing(f"{name}: no config of this class describes blocks {list(keep)} of {depth}"):
        for key, value in want.items():
            with suppress(AttributeError):  # computed, not stored
                setattr(text, key, value)
        for made in (cut, _read_back(cut)):
            for key, value in want.items():
                if (says := _says(made.get_text_config(decoder=True), key)) != value:
                    raise ValueError(f"{key} would be {says}, not {value}")
    return cut


def beyond_depth(config: PreTrainedConfig, keep: Sequence[int]) -> tuple[str, ...]:
    """Keys besides the number of blocks that the config of the blocks `keep` says otherwise. SurgeryError."""
    text = config.get_text_config(decoder=True)
    depth = text.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    before, after = text.to_dict(), cut_config(config, keep).get_text_config(decoder=True).to_dict()
    return tuple(sorted(key for key in after if key != depth and after[key] != before.get(key)))


def _check_cuttable(name: str, config: PreTrainedConfig) -> None:
    if getattr(config, "quantization_config", None):
        raise SurgeryError(
            f"{name}: quantised weights cannot be cut; load the original checkpoint, prune it, quantise again"
        )
    text = config.get_text_config(decoder=True)
    for key, lone in (("num_kv_shared_layers", 0), ("kv_source_layers", None), ("indexer_types", "full")):
        said = getattr(text, key, lone)
        if said and set(said if isinstance(said, list) else [said]) != {lone}:
            raise SurgeryError(
                f"{name}: some blocks reuse what others compute ({key}); only independent blocks can be cut"
            )


def depth_of(config: PreTrainedConfig) -> int:
    """Number of decoder blocks; SurgeryError if the config does not say, or describes an encoder-decoder."""
    name = type(config).__name__
    if config.is_encoder_decoder:
        raise SurgeryError(f"{name}: an encoder-decoder; decoder-only language models can be cut")
    depth = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    if not isinstance(depth, int):
        raise SurgeryError(f"{name}: no num_hidden_layers; stock decoder-only language models can be cut")
    return depth


def check_keep(name: str, keep: Sequence[int], depth: int) -> None:
    """SurgeryError unless `keep` is a plan: old indices, rising, at least one, all below `depth`."""
    if not keep or list(keep) != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= depth:
        raise SurgeryError(
            f"{name}: cannot keep blocks {list(keep)}; name some of 0 to {depth - 1}, each once, rising"
        )


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Whatever a model's own code raises inside is a refusal of this cut: SurgeryError, with the reason."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SurgeryError(f"{what} ({lines[-1].strip()[:200]}); another plan or family may work") from error


def _per_block(name: str, text: PreTrainedConfig, depth: int) -> dict[str, list]:
    """The lists with one entry per block; SurgeryError for one that may be about blocks in an unknown way."""
    found: dict[str, list] = {}
    for key, entries, nested in _lists(text):
        speaks_of_blocks = ("layer" in key or "block" in key) and not key.startswith("mtp_")
        if key in BLOCK_INDICES or "token" in key:
            continue
        if not nested and len(entries) == depth and (speaks_of_blocks or key in UNNAMED):
            found[key] = entries
        elif speaks_of_blocks or (not nested and len(entries) == depth):
            raise SurgeryError(
                f"{name}: {key} lists {len(entries)} things, perhaps for its {depth} blocks, in a way not "
                "known here; if it has an entry per block, name it in fastpath/block_config.py"
            )
    for key in COMPUTED:
        if isinstance(computed := getattr(text, key, None), list) and len(computed) == depth:
            found[key] = computed
    return found


def _lists(text: PreTrainedConfig) -> Iterator[tuple[str, list, bool]]:
    """(name, entries, whether it is inside a dict) of every non-empty list that a config stores."""
    stored = vars(text)
    for owner in (stored, *(value for value in stored.values() if isinstance(value, dict))):
        for key, entries in owner.items():
            if isinstance(entries, list | tuple) and entries:
                yield str(key), list(entries), owner is not stored


def _renumbered(text: PreTrainedConfig, keep: Sequence[int]) -> dict[str, Any]:
    """What a config says with indices or counts of blocks, in terms of the kept ones."""
    want: dict[str, Any] = {}
    for key in BLOCK_INDICES:
        if isinstance(indices := getattr(text, key, None), list | tuple):
            want[key] = [keep.index(i) for i in indices if i in keep]
    for key in LEADING_COUNTS:
        if isinstance(count := getattr(text, key, None), int):
            want[key] = sum(i < count for i in keep)
    for key in LAST_INDICES:
        if isinstance(last := getattr(text, key, None), int):
            want[key] = sum(i <= last for i in keep) - 1
    if overrides := _says(text, "per_layer_config"):
        want["per_layer_config"] = {keep.index(i): said for i, said in overrides.items() if i in keep}
    return want


def _read_back(config: PreTrainedConfig) -> PreTrainedConfig:
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return type(config).from_pretrained(folder)


def _says(text: PreTrainedConfig, key: str) -> Any:
    if key == "per_layer_config":  # {index: fields that differ in this block}, a view until it is written out
        return {int(i): said for i, said in (text.to_dict().get(key) or {}).items()}
    value = getattr(text, key)
    return list(value) if isinstance(value, tuple) else value


def settings_of(block: nn.Module) -> set[tuple[str, Any]]:
    """Plain attributes and classes of all modules of a block: what it is, but for weights and place."""
    found: dict[str, Any] = {}
    for name, module in block.named_modules():
        said = {k: v for k, v in vars(module).items() if k not in NOT_SETTINGS and not k.startswith("_")}
        said = {k: v for k, v in said.items() if isinstance(v, bool | int | float | str | None)}
        said["class"] = type(module).__name__
        found |= {f"{name}.{k}".lstrip("."): v for k, v in said.items()}
    return set(found.items())
