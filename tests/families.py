"""Tiny random models of the stock causal language models of transformers: one row a model type.

Facts of single blocks (attention kinds, dense and expert blocks, rope switches) are laid out so that KEEP
mixes them up, and windows are shorter than the test sequences, so that a wrong fact changes the logits.
Weights are drawn large (0.2): a wrong block shows in the first digit.
"""

from dataclasses import fields
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

DEPTH, KEEP = 6, [0, 2, 3, 5]

# What a config class does not know of these it is not given.
TINY = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 128,
    "sliding_window": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
OMIT = object()

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
MLA = {
    "head_dim": OMIT,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
# The first three of six blocks are dense, so two of the kept four.
DENSE_FIRST = {"n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 3}
MIXED_MLP = {"mlp_layer_types": ["dense", "sparse", "dense", "sparse", "sparse", "dense"]}
MAMBA = {
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 24,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "shared_expert_intermediate_size": 16,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "afmoe": {"num_dense_layers": 3},
    "apertus": {},
    "arcee": {},
    "axk1": {**MLA, **DENSE_FIRST},
    "bamba": {**MAMBA, "attn_layer_indices": [1, 3]},
    "biogpt": {},
    "bitnet": {},
    "bloom": {},
    "codegen": {"rotary_dim": 8},
    "cohere": {},
    "cohere2": {},
    "cohere2_moe": {},
    "ctrl": {"dff": 64},
    "cwm": {"layer_types": [FULL, SLIDING, FULL, SLIDING, SLIDING, FULL]},
    "deepseek_v2": {**MLA, **DENSE_FIRST},
    "deepseek_v3": {**MLA, **DENSE_FIRST},
    "doge": {},
    "dots1": DENSE_FIRST,
    "ernie4_5": {},
    "ernie4_5_moe": {"moe_layer_start_index": 2, "moe_layer_end_index": 4},
    "exaone4": {},
    "exaone_moe": MIXED_MLP,
    "falcon": {"head_dim": OMIT},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 96},
    "falcon_mamba": {},
    "flex_olmo": {},
    "gemma": {},
    "gemma2": {},
    "gemma3_text": {},
    "gemma4_text": {"hidden_size_per_layer_input": 0, "global_head_dim": 24},
    "glm": {},
    "glm4": {},
    "glm4_moe": DENSE_FIRST,
    "glm4_moe_lite": {**MLA, **MIXED_MLP, "n_shared_experts": 1},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 3]], "window_size": 8},
    "gpt_neox": {},
    "gpt_oss": {},
    "gptj": {"rotary_dim": 8},
    "granite": {},
    "granite_swa": {"layer_rope_theta": [1e4, 1e3, 1e2, 1e4, 1e3, 1e2]},
    "granitemoe": {},
    "granitemoehybrid": {**MAMBA, "layer_types": [LINEAR, FULL, LINEAR, FULL, LINEAR, FULL]},
    "granitemoeshared": {},
    "helium": {},
    "hunyuan_v1_dense": {},
    "hunyuan_v1_moe": {},
    "hy_v3": MIXED_MLP,
    "hyperclovax": {},
    "jais2": {},
    "jetmoe": {},
    "laguna": {**MIXED_MLP, "num_attention_heads_per_layer": [4, 4, 2, 4, 4, 2]},
    "lfm2": {"layer_types": ["conv", "conv", FULL, "conv", FULL, FULL]},
    "lfm2_moe": {"layer_types": ["conv", "conv", FULL, "conv", FULL, FULL], "num_dense_layers": 3},
    "llama": {},
    "llama4_text": {"moe_layers": [1, 3, 4], "no_rope_layers": [1, 1, 0, 1, 0, 0], "attention_chunk_size": 8},
    "mamba": {},
    "mamba2": {"num_heads": 4, "head_dim": 24, "n_groups": 1, "state_size": 8, "chunk_size": 8},
    "mellum": {**MIXED_MLP, "layer_types": [FULL, SLIDING, SLIDING, FULL, FULL, SLIDING]},
    "mimo_v2_flash": MIXED_MLP,
    "minimax": {},
    "minimax_m2": {},
    "ministral": {"layer_types": [SLIDING, FULL, FULL, SLIDING, SLIDING, FULL]},
    "mistral": {},
    "mixtral": {},
    "mpt": {},
    "nanochat": {},
    "nemotron": {},
    "nemotron_h": {
        "num_hidden_layers": OMIT,
        "layer_types": [LINEAR, "mlp", "moe", FULL, FULL, "mlp"],
        **{"mamba_num_heads": 4, "mamba_head_dim": 24, "n_groups": 1, "ssm_state_size": 8, "chunk_size": 8},
    },
    "olmo": {},
    "olmo2": {},
    "olmo3": {},
    "olmo_hybrid": {},
    "olmoe": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 48},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 3},
    "qwen2_moe": {"mlp_only_layers": [2, 4], "shared_expert_intermediate_size": 16},
    "qwen3": {"use_sliding_window": True, "max_window_layers": 3},
    "qwen3_5_text": DELTA,
    "qwen3_moe": {"mlp_only_layers": [2, 4]},
    "qwen3_next": {**DELTA, "mlp_only_layers": [2, 4]},
    "seed_oss": {},
    "smollm3": {"no_rope_layers": [1, 0, 0, 1, 1, 0], "use_sliding_window": True},
    "solar_open": {},
    "stablelm": {"hidden_size": 64},
    "starcoder2": {},
    "vaultgemma": {},
    "xglm": {"ffn_dim": 64, "init_std": 0.2},
    "youtu": MLA,
}

# model type -> (fields, what the refusal names)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bart": ({"decoder_layers": 4}, "BartForCausalLM"),
    "beam": ({**MLA, **MIXED_MLP}, "attn_residual_add_idx"),
    "diffllama": ({}, "lambda_init"),
    "gemma3n_text": (
        {"num_kv_shared_layers": 2, "layer_types": [SLIDING, FULL] * 3, "vocab_size_per_layer_input": 96},
        "num_kv_shared_layers",
    ),
    "hrm_text": ({}, "not one list of"),
    "hy_v4": ({}, "indexer_types"),
    "jamba": ({}, "layers_num_experts"),
    "longcat_flash": ({**MLA, "expert_ffn_hidden_size": 32, "ffn_hidden_size": 64}, "not one list of"),
    "minicpm3": (MLA, "residual_scale"),
    "openai-gpt": ({}, "not its stream"),
    "recurrent_gemma": ({}, "block_types"),
    "xlm": ({"emb_dim": 48, "n_layers": DEPTH, "n_heads": 4}, "not one list of"),
    "xlstm": ({"num_blocks": DEPTH, "chunk_size": 8}, "cannot be rebuilt"),
    "zamba2": (
        {**MAMBA, "layers_block_type": ["mamba", "hybrid"] * 3, "num_mem_blocks": 1},
        "hybrid_layer_ids",
    ),
}


def tiny_config(model_type: str, **changes: Any) -> PreTrainedConfig:
    """The six-block config of a model type."""
    kind = CONFIG_MAPPING[model_type]
    known = {f.name for f in fields(kind)} | set(kind.attribute_map)
    row = FAMILIES[model_type] if model_type in FAMILIES else REFUSED[model_type][0]
    values = {**{k: v for k, v in TINY.items() if k in known}, **row, **changes}
    return kind(**{k: v for k, v in values.items() if v is not OMIT})


def tiny_model(model_type: str, **changes: Any) -> PreTrainedModel:
    """A random model of that config, the same every time, in eval mode."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_config(model_type, **changes)).eval()
