"""Each criterion is exact on hand-derived cases and blind to padding, batching and precision."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from tiny import byte_tokenizer, tiny_llama

from fastpath.blocks import skipping
from fastpath.data import item_batches
from fastpath.items.catalog import generate
from fastpath.nll import answer_nll
from prune.criteria import CRITERIA, spans

ITEMS = [i for t in ("doc_type", "arithmetic") for i in generate(t, split="calibration", seed=0, num_items=3)]


def costs(model, criterion, *, batch_tokens=4096, items=ITEMS):
    """(items, columns) of per-token costs."""
    out = np.empty((len(items), len(spans(6)) if CRITERIA[criterion].spans else 6))
    batches = item_batches(items, byte_tokenizer(), batch_tokens=batch_tokens)
    half = np.array([item.id < sorted(i.id for i in items)[len(items) // 2] for item in items])
    with TemporaryDirectory() as folder:
        function = CRITERIA[criterion].ready(model, batches, half, Path(folder))
    for batch in batches:
        part = function(model, batch)
        out[part.index] = np.array(part.sums) / np.array(part.tokens)[:, None]
    return out


def silence(model, block):
    """Make a block the identity: what it adds to the stream is zero."""
    with torch.no_grad():
        model.model.layers[block].self_attn.o_proj.weight.zero_()
        model.model.layers[block].mlp.down_proj.weight.zero_()
    return model


@pytest.mark.parametrize("block", [0, 3, 5])  # the first and the last are candidates like any other
@pytest.mark.parametrize("criterion", CRITERIA)
def test_block_that_does_nothing_costs_nothing(criterion, block):
    table = costs(silence(tiny_llama(), block), criterion)
    column = spans(6).index((block, block + 1)) if CRITERIA[criterion].spans else block
    exact = 1e-7 if criterion in ("cosine", "angular") else 0  # a cosine of equal vectors rounds
    assert np.abs(table[:, column]).max() <= exact
    if criterion not in ("ablation", "depth"):  # dropping a random block may well lower the loss
        assert np.delete(table.mean(0), column).min() > 1e-3


@pytest.mark.parametrize("criterion", CRITERIA)
def test_padding_and_batch_shape_change_nothing(criterion):
    model = tiny_llama()
    one_by_one = costs(model, criterion, batch_tokens=1)
    assert np.allclose(costs(model, criterion, batch_tokens=10**6), one_by_one, atol=1e-4)
    assert np.allclose(costs(model, criterion, items=ITEMS[::-1])[::-1], one_by_one, atol=1e-4)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_float32_agrees_with_float64(criterion):
    single, double = costs(tiny_llama(), criterion), costs(tiny_llama().double(), criterion)
    assert np.allclose(single, double, atol=1e-4)


def test_cosine_is_one_minus_the_cosine_of_streams_first_token_included():
    model, (item,) = tiny_llama(), ITEMS[:1]
    (batch,) = item_batches([item], byte_tokenizer(), batch_tokens=4096)
    with torch.no_grad():
        streams = model(batch.ids, output_hidden_states=True).hidden_states[
            :6
        ]  # the last one is after the norm
    for i in range(5):
        want = 1 - torch.cosine_similarity(streams[i].double(), streams[i + 1].double(), dim=-1).mean()
        assert costs(model, "cosine", items=[item])[0, i] == pytest.approx(want.item(), abs=1e-6)


def test_angular_of_a_span_is_the_angle_at_the_last_real_token():
    model, (item,) = tiny_llama(), ITEMS[:1]
    (batch,) = item_batches([item], byte_tokenizer(), batch_tokens=4096)
    with torch.no_grad():
        streams = [h[0, -1].double() for h in model(batch.ids, output_hidden_states=True).hidden_states[:6]]
    row = costs(model, "angular", items=[item])[0]
    for i, j in ((0, 1), (1, 4), (2, 5)):
        angle = math.acos(torch.cosine_similarity(streams[i], streams[j], dim=0).clamp(-1, 1)) / math.pi
        assert row[spans(6).index((i, j))] == pytest.approx(angle, abs=1e-6)


def test_angles_of_a_span_obey_the_triangle_inequality():
    table = costs(tiny_llama(), "angular").mean(0)
    cost = dict(zip(spans(6), table, strict=True))
    assert cost[1, 4] <= cost[1, 2] + cost[2, 4] + 1e-9
    assert all(0 <= c <= 1 for c in table)


def test_ablation_equals_skipping_the_block_the_naive_way():
    model = tiny_llama()
    (batch,) = item_batches(ITEMS, byte_tokenizer(), batch_tokens=10**6)
    part = CRITERIA["ablation"].function(model, batch)
    base = answer_nll(model, batch).nats
    for i in range(6):
        with skipping(model, [i]):
            naive = answer_nll(model, batch).nats - base
        assert np.allclose(np.array(part.sums)[:, i], naive.numpy(), atol=1e-5)


def test_literals_of_the_recipe_are_the_choices_there_are():
    from typing import get_args

    from fastpath.config import PruneConfig
    from prune.choose import CHOOSERS
    from prune.frontier import SEARCHES

    assert set(get_args(PruneConfig.model_fields["criterion"].annotation)) == set(CRITERIA)
    assert set(get_args(PruneConfig.model_fields["chooser"].annotation)) == set(CHOOSERS) | set(SEARCHES)
