"""The attention sink is found where it is planted, and nowhere else."""

import numpy as np
import pytest
import torch
from tiny import tiny_llama

from fastpath.data import Batch
from prune.criteria import CRITERIA
from prune.sink import find_sink


def sink_model():
    """Block 3 writes a sink: only token 256 reads into width 0, and its MLP blows that up."""
    model = tiny_llama(initializer_range=0.02, tie_word_embeddings=False)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight.normal_(0, 1)
        embedding[:, 0] = 0
        embedding[256] = 0
        embedding[256, 0] = 5
        mlp = model.model.layers[3].mlp
        for projection in (mlp.gate_proj, mlp.up_proj):
            projection.weight.zero_()
            projection.weight[0, 0] = 8
        mlp.down_proj.weight.zero_()
        mlp.down_proj.weight[1, 0] = 1
    return model


def first_token_batch(token):
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(250, (4, 20), generator=random)
    ids[:, 0] = token
    real = torch.ones_like(ids, dtype=torch.bool)
    return Batch(tuple(range(4)), ids, real, real)


def test_sink_is_the_block_where_the_first_token_s_norm_jumps():
    sink = find_sink(sink_model(), [first_token_batch(256)])
    assert sink.block == 3
    assert sink.ratio > 100


def test_no_jump_and_a_jump_of_all_tokens_are_no_sink():
    model = sink_model()
    assert find_sink(model, [first_token_batch(7)]) is None
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(1e-2)  # the first block makes every token many times larger
        model.model.layers[0].mlp.down_proj.weight.normal_(0, 10)
    assert find_sink(model, [first_token_batch(7)]) is None


@pytest.mark.parametrize("criterion", ["cosine", "norm_ratio"])
def test_without_the_first_token_a_sink_writer_looks_harmless(criterion):
    part = CRITERIA[criterion].function(sink_model(), first_token_batch(256))
    whole = np.array(part.sums) / np.array(part.tokens)[:, None]
    rest = np.array(part.without_first) / (np.array(part.tokens) - 1)[:, None]
    assert (whole[:, 3] > 10 * rest[:, 3]).all()
    first = (np.array(part.sums) - np.array(part.without_first))[:, 3]
    assert np.allclose(first + rest[:, 3] * 19, np.array(part.sums)[:, 3])
