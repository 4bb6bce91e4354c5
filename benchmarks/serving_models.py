"""Models for benchmarks/serving.py: a pruned one, and small ones of a long context, made on the spot."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fastpath.blocks import keep_blocks
from fastpath.models import load_model, load_tokenizer, save_model
from fastpath.sources import locate

LONG = 32768  # tokens


def pruned(name: str, folder: Path) -> str:
    """A folder with two thirds of the model's blocks, the first and last ones."""
    source = locate(name)
    model = load_model(source.folder, dtype=torch.float32)
    depth = model.config.num_hidden_layers
    keep = [*range(depth // 2), *range(depth - depth // 6, depth)]
    save_model(keep_blocks(model, keep), load_tokenizer(source.folder), folder)
    return str(folder)


def made_up(folder: Path, *, depth: int) -> Path:
    """A folder with a random Llama over bytes that reads long prompts."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, hidden_size=128, intermediate_size=384, num_hidden_layers=depth, head_dim=32,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=LONG,
        bos_token_id=256, eos_token_id=257, tie_word_embeddings=True,
    )  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(alphabet)} | {"<s>": 256, "</s>": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
    return folder
