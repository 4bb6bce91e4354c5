"""Load the model of a folder, choose dtype and device, save a stock Hugging Face folder with its lineage."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from fastpath.config import ModelConfig
from fastpath.env import fast_dtype
from fastpath.errors import ModelError
from fastpath.quiet import quiet
from fastpath.runs import read_json, write_json
from fastpath.team import num_processes


@dataclass(frozen=True)
class Lineage:
    """Where an exported model comes from; lineage.json beside its weights."""

    base: str
    revision: str
    base_weights_sha256: str
    weights_sha256: str
    depth: int
    keep: tuple[int, ...]
    code: str
    calibration_items: tuple[str, ...]
    """Ids of the items that the plan was chosen on and the weights trained on: never to be scored on."""
    repair: str = "none"
    """How the weights around the dropped blocks were mended without training (folders older than the key:
    not at all)."""
    distillation: dict[str, Any] | None = None
    """How the weights were trained after the cut, as facts: mode, steps, tokens ...; None: they were not."""

    def write(self, folder: Path) -> None:
        """Write FOLDER/lineage.json."""
        write_json(folder / "lineage.json", asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Lineage":
        """Read FOLDER/lineage.json."""
        data = read_json(folder / "lineage.json")
        lists = {key: tuple(data[key]) for key in ("keep", "calibration_items")}
        return cls(**{**data, **lists})


def is_ours(folder: Path) -> bool:
    """Whether fastpath exported this model folder."""
    return (folder / "lineage.json").is_file()


def pick_device(config: ModelConfig) -> torch.device:
    """The device that the recipe names; auto takes an accelerator where there is one."""
    if config.device != "auto":
        try:
            probe = torch.zeros(1, device=config.device)
            probe.cpu()  # the meta device computes nothing
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"model.device: {config.device!r} cannot be used here ({reason})") from None
        device = torch.device(config.device)  # "cuda" without a number is each process's own
        if device.index is not None and num_processes() > 1:
            raise ModelError(f"model.device: {config.device!r} is one device for several processes; use auto")
        return device
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def pick_dtype(config: ModelConfig, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype to compute in, and why."""
    if config.dtype != "auto":
        return getattr(torch, config.dtype), "as the recipe says"
    return fast_dtype(device)


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype | str,
    device: torch.device | str = "cpu",
    device_map: str | dict[str, Any] = "none",
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """A causal language model in eval mode, every weight read from `folder`; dtype "auto" is the stored one.

    `device_map`, unless "none", is transformers' own: it spreads the blocks, and `device` does not count.
    Raises ModelError if it is quantised, not causal, or if weights are missing.
    """
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            _refuse_quantized(config, folder)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                device_map=None if device_map == "none" else device_map,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
    except ModelError:
        raise
    except Exception as error:  # configs and weights of strangers fail in any way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder}: cannot be loaded as a causal language model: {reason}") from None
    model, info = loaded
    if info["missing_keys"]:  # transformers would fill these with random numbers
        raise ModelError(
            f"{folder}: {len(info['missing_keys'])} weights are missing, {min(info['missing_keys'])} first"
        )
    if device_map == "none":
        return model.to(device).eval()
    if model.device.type == "meta":  # where its inputs go
        raise ModelError(
            f"{folder}: not even the embeddings fit the first device; model.device_map: none works"
        )
    return model.eval()


def _refuse_quantized(config: Any, folder: Path) -> None:
    quantization = getattr(config, "quantization_config", None)
    if quantization is not None:
        method = (
            quantization.get("quant_method") if isinstance(quantization, dict) else quantization.quant_method
        )
        raise ModelError(
            f"{folder}: quantised weights ({getattr(method, 'value', method)}) cannot be cut; "
            "name the original unquantised checkpoint, and quantise the result"
        )


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder. Raises ModelError if there is none."""
    if not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        raise ModelError(f"{folder}: no usable tokenizer: the folder holds no tokenizer.json")
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder}: no usable tokenizer: {reason}") from None


def check_tokenizer(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Raise ModelError if the tokenizer knows tokens that the model has no embedding for."""
    embeddings: Any = model.get_input_embeddings()
    rows = len(embeddings.weight)
    if (largest := max(tokenizer.get_vocab().values(), default=0)) >= rows:
        raise ModelError(
            f"{folder}: the tokenizer has token {largest}, the model's vocabulary ends at {rows - 1}"
        )


def save_model(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Write a stock Hugging Face folder: safetensors, config, generation config, tokenizer."""
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def weights_sha256(folder: Path) -> str:
    """One digest of all safetensors files of a folder, their names included."""
    whole = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as handle:
            whole.update(f"{file.name} {hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
