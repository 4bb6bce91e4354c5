"""The reference model while it is trained: its shape, its start, its exits and its checkpoints.

Block 0 starts as heads that look one and two words back, block 1 as heads that look for the name they stand
on (the two halves of an induction head, Olsson et al. 2022); without this start the look-up was at chance
after 400 steps. From block 1 on all blocks are one and the same module until `part` copies it: every hop is
the same step, so that one learned hop is all of them.
"""

# B sequences, T tokens, D width, N marked positions, V vocabulary

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fastpath.items.tiny_words import all_names, vocabulary

WIDTH, HEADS, HEAD_WIDTH, MLP = 128, 4, 32, 256
BACK = (1, 2, 2, 2)
"""How many words back the heads of block 0 look at the start: a name stands two before its fact ends."""
ROPE_BASE = 1e5
UNKNOWN = vocabulary().index("<unk>")
NUM_SPOKEN = len(vocabulary()) - len(all_names())
"""Words that can be an answer; the names come after them."""


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, between white space; `<s>` in front."""
    ids = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", ids["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        model_max_length=512,
    )  # fmt: skip


def new_model(*, seed: int, num_blocks: int) -> Any:
    """A Llama in float32, blocks 1 and up one module."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary()), hidden_size=WIDTH, intermediate_size=MLP, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=HEAD_WIDTH, initializer_range=0.06,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, max_position_embeddings=512,
        tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        _start_embeddings(model)
        for block in model.model.layers:  # what attention copies, it copies as it is
            block.self_attn.o_proj.weight.copy_(block.self_attn.v_proj.weight.T)
            block.mlp.down_proj.weight.mul_(0.5)
        _start_induction(*(block.self_attn for block in model.model.layers))
    for _ in range(num_blocks - 2):
        grow(model)
    return model


def _start_embeddings(model: Any) -> None:
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    embedding.normal_(0, 0.5)
    embedding[:, 0] = 0.5  # the same for every word: what the heads of block 0 look back with
    head.normal_(0, 0.02)
    head[:NUM_SPOKEN] = embedding[:NUM_SPOKEN]
    model.model.norm.weight.fill_(0.2)


def _start_induction(first: Any, second: Any) -> None:
    """`first` writes the name two back into the residual; `second` looks where its own was written."""
    half, rows = HEAD_WIDTH // 2, (HEADS - 1) * HEAD_WIDTH
    frequency = ROPE_BASE ** (-torch.arange(half) / half)
    for weight in (first.q_proj.weight, first.k_proj.weight):
        weight.mul_(0.3)
    for head, back in enumerate(BACK):
        query, key = (w.weight[head * HEAD_WIDTH :][:HEAD_WIDTH] for w in (first.q_proj, first.k_proj))
        query[:half, 0], query[half:, 0] = 5.0, 0.0
        key[:half, 0], key[half:, 0] = 5 * torch.cos(frequency * back), 5 * torch.sin(frequency * back)
    written, read = (torch.linalg.qr(torch.randn(WIDTH, rows))[0] for _ in range(2))
    first.v_proj.weight[HEAD_WIDTH:] = read.T
    first.o_proj.weight[:, HEAD_WIDTH:] = 0.5 * written
    slow = [row for row in range(HEAD_WIDTH) if row % half >= 7]  # nearly the same angle at every distance
    for head in range(HEADS):
        mix = 1.5 * torch.linalg.qr(torch.randn(rows, len(slow)))[0].T
        query, key = (w.weight[head * HEAD_WIDTH :][:HEAD_WIDTH] for w in (second.q_proj, second.k_proj))
        query.mul_(0.2)[slow] += mix @ read.T
        key.mul_(0.2)[slow] += mix @ written.T


def grow(model: Any) -> None:
    """One more block on top: the same module as the one below."""
    model.model.layers.append(model.model.layers[-1])
    model.config.num_hidden_layers += 1


def part(model: Any) -> None:
    """Make every block a module of its own, alike at first."""
    layers = model.model.layers
    for index in range(2, len(layers)):
        layers[index] = copy.deepcopy(layers[1])
    for index, block in enumerate(layers):
        block.self_attn.layer_idx = index


def exits(model: Any, ids_BT: torch.Tensor, at_BT: torch.Tensor) -> list[torch.Tensor]:
    """(N, V) logits after every block but the first, as if the model ended there."""
    after: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, __, output: after.append(output))
        for block in dict.fromkeys(model.model.layers)  # a shared block is called, and heard, again and again
    ]
    try:
        model.model(input_ids=ids_BT, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return [model.lm_head(model.model.norm(hidden_BTD[at_BT])) for hidden_BTD in after[1:]]


@torch.no_grad()
def draw_names(model: Any, *, seed: int, step: int) -> None:
    """New embeddings for every name, a function of (seed, step): no name is learnt, so all are as good.

    With 384 names whose embeddings stayed, k = 2 was right in 96 % for these and in 66 % for held-out names.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    names = model.model.embed_tokens.weight[NUM_SPOKEN:, 1:]
    names.copy_(torch.randn(names.shape, generator=generator) * 0.5)  # drawn on the CPU: the same everywhere


def tie_gradients(model: Any) -> None:
    """Words have one gradient as input and as output, so that a resolved digit looks like a written one."""
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    both = embedding.grad[:NUM_SPOKEN] + head.grad[:NUM_SPOKEN]
    embedding.grad[:NUM_SPOKEN] = head.grad[:NUM_SPOKEN] = both
    embedding.grad[NUM_SPOKEN:] = 0


def save_state(path: Path, model: Any, optimizer: torch.optim.Optimizer, facts: dict[str, Any]) -> None:
    """Weights, both moments of Adam and `facts` in one safetensors file, renamed when whole."""
    tensors = {}
    for name, weight in model.named_parameters():  # a shared block once
        tensors[name] = weight.detach().contiguous()
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{key}/{name}"] = value
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished, metadata={"facts": json.dumps(facts)})
    unfinished.replace(path)


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a saved state."""
    with safe_open(path, framework="pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
    return facts


def load_state(path: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Restore the tensors of `save_state` into a model of the same blocks."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        names = set(file.keys())
        for name, weight in model.named_parameters():
            weight.copy_(file.get_tensor(name))
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in names]
            if keys:
                moments = {key: file.get_tensor(f"{key}/{name}") for key in keys}
                optimizer.state[weight] = {
                    k: m if k == "step" else m.to(weight.device) for k, m in moments.items()
                }
