"""Tiny real models with a real tokenizer, made on the spot."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fastpath import cli


def tiny_llama(*, depth: int = 6, seed: int = 0, **changes) -> LlamaForCausalLM:
    """A random Llama over bytes; its blocks are strong enough that dropping one shows."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": depth,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
        "initializer_range": 0.2, "tie_word_embeddings": True, "bos_token_id": 256, "eos_token_id": 257,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**(sizes | changes))).eval()


def narrow_llama(*, depth: int) -> LlamaForCausalLM:
    """The smallest Llama whose work can be counted by hand."""
    narrow = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": False}
    return tiny_llama(depth=depth, initializer_range=0.02, bos_token_id=1, eos_token_id=2, **narrow, **heads)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, and a few special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(alphabet)} | {"<s>": 256, "</s>": 257, "<pad>": 258}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def write_tiny(folder: Path, **changes) -> Path:
    """A folder that holds a tiny model and its tokenizer."""
    tiny_llama(**changes).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def write_recipe(path: Path, *, model: Path | str, out: Path, prune: dict | None = None, **sections) -> Path:
    """A small recipe: two tasks a suite, few items."""
    small = {
        "drop": 2, "items_per_task": 4, "chooser": "lowest",
        "simple_tasks": ["doc_type", "one_hop"], "complex_tasks": ["arithmetic", "worked"],
        "depth_tasks": ["counter"], "items_per_level": 2,
    } | (prune or {})  # fmt: skip
    evaluation = {
        "simple": ["fastpath_doc_type"], "complex": ["fastpath_arithmetic", "fastpath_worked"],
        "depth": ["fastpath_dial_counter"], "items_per_task": 6, "items_per_level": 3,
        "speed": {"prompt_tokens": 8, "new_tokens": 2},
    } | sections.pop("eval", {})  # fmt: skip
    data = {"out": str(out), "model": {"name": str(model)}, "prune": small, "eval": evaluation, **sections}
    path.write_text(yaml.safe_dump(data))
    return path


def run_stage(stage: str, *arguments: str | Path) -> int:
    """`python -m stage --config ...` in this process; its exit code."""
    from distill.run import run as distil
    from distill.show import show as show_distill
    from eval.ceilings import Sizes
    from eval.dry_run import preview
    from eval.run import run as evaluate
    from eval.show import show as show_eval
    from prune.run import run as prune
    from prune.show import show

    run, shown = {
        "prune": (prune, show), "distill": (distil, show_distill), "eval": (evaluate, show_eval)
    }[stage]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.ceilings.SIZES", {"cpu": Sizes(2**20, 64, 1)})
        patch.setattr(sys, "argv", [stage, "--config", *map(str, arguments)])
        return cli.main(stage, run, shown, preview=preview if stage == "eval" else None)
