import copy

import pytest
from families import DEPTH, FULL, KEEP, SLIDING, tiny_config

from fastpath.block_config import beyond_depth, cut_config
from fastpath.errors import SurgeryError


@pytest.mark.parametrize(
    ("model_type", "field", "want"),
    [
        ("gemma3_text", "layer_types", [SLIDING, SLIDING, SLIDING, FULL]),
        ("smollm3", "no_rope_layers", [1, 0, 1, 0]),
        ("granite_swa", "layer_rope_theta", [1e4, 1e2, 1e4, 1e2]),
        ("exaone_moe", "mlp_layer_types", ["dense", "dense", "sparse", "dense"]),
        ("qwen3_moe", "mlp_only_layers", [1]),
        ("llama4_text", "moe_layers", [2]),
        ("qwen2", "max_window_layers", 2),
        ("deepseek_v3", "first_k_dense_replace", 2),
        ("afmoe", "num_dense_layers", 2),
        ("ernie4_5_moe", "moe_layer_start_index", 1),
        ("ernie4_5_moe", "moe_layer_end_index", 2),
        ("gpt2", "n_layer", 4),
    ],
)
def test_what_is_said_of_blocks_follows_them(model_type, field, want):
    config = tiny_config(model_type)
    before = copy.deepcopy(config)
    assert getattr(cut_config(config, KEEP), field) == want
    assert config == before


def test_a_list_that_may_be_per_block_is_refused_by_name():
    config = tiny_config("llama")
    config.scales = [0.5] * DEPTH
    with pytest.raises(SurgeryError, match=r"LlamaConfig: scales lists 6 things"):
        cut_config(config, KEEP)


@pytest.mark.parametrize("keep", [[], [3, 2], [0, 0], [0, 6], [-1, 2]])
def test_a_bad_plan_is_refused(keep):
    with pytest.raises(SurgeryError, match=r"LlamaConfig: cannot keep blocks .*; name some of 0 to 5"):
        cut_config(tiny_config("llama"), keep)


def test_what_a_cut_says_beside_the_number_of_blocks_is_named():
    assert beyond_depth(tiny_config("llama"), KEEP) == ()
    assert beyond_depth(tiny_config("gpt2"), KEEP) == ()
    assert beyond_depth(tiny_config("gemma3_text"), KEEP) == ("layer_types",)
