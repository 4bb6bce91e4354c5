"""Drop sets cost what skipping them costs, whatever is reused, kept, offloaded or computed again."""

import itertools
import random

import numpy as np
import pytest
import torch
from families import tiny_model
from tiny import byte_tokenizer, tiny_llama

from fastpath.blocks import find_blocks, skipping
from fastpath.data import Batch, item_batches
from fastpath.items.catalog import generate
from fastpath.nll import answer_nll
from prune.objective import Ablations
from prune.store import Allowance, allowances, describe

ITEMS = [i for t in ("doc_type", "arithmetic") for i in generate(t, split="calibration", seed=0, num_items=3)]
DEPTH = 8
SETS = [
    set(), {0}, {7}, {3}, {6, 7}, {0, 7}, {1, 2, 5}, {1, 2, 6}, {2}, {0, 1, 2, 3, 4, 5, 6}, {4, 5, 6, 7}, {3},
]  # fmt: skip


def batches(batch_tokens=900, items=ITEMS):
    return item_batches(items, byte_tokenizer(), batch_tokens=batch_tokens)


def naive(model, drop_sets, of):
    """The same numbers by skipping every drop set in a whole forward."""
    out = np.empty((len(drop_sets), sum(len(b.index) for b in of)))
    for batch in of:
        base = answer_nll(model, batch).nats
        for row, drop in enumerate(drop_sets):
            with skipping(model, drop):
                nats = answer_nll(model, batch)
            out[row, list(batch.index)] = ((nats.nats - base) / nats.tokens).numpy()
    return out


def stream_bytes(model, of):
    return [b.ids.numel() * model.config.hidden_size * 4 for b in of]


@pytest.fixture(scope="module")
def model():
    return tiny_llama(depth=DEPTH)


@pytest.mark.parametrize("streams", [0, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("host", [0, 20_000_000])
def test_any_budget_gives_the_numbers_of_skipping_and_is_kept(model, streams, host):
    of = batches()
    budget = streams * max(stream_bytes(model, of))
    ablations = Ablations(model, of, device_bytes=budget, host_bytes=host)
    assert np.abs(ablations.rises(SETS) - (want := naive(model, SETS, of))).max() < 1e-5
    again = np.random.default_rng(0).permutation(len(SETS))
    assert np.abs(ablations.rises([SETS[i] for i in again]) - want[again]).max() < 1e-5
    assert ablations.peak_stream_bytes <= budget + host


@pytest.mark.parametrize("family", ["bloom", "gemma3_text", "mamba", "qwen3_moe"])
def test_every_kind_of_block_is_exact(family):
    model = tiny_model(family)
    ids = torch.randint(3, 96, (3, 20), generator=torch.Generator().manual_seed(0))
    attention = torch.ones_like(ids).bool()
    attention[1, 15:] = False
    answer = torch.zeros_like(attention)
    answer[:, 12:14] = True
    batch = Batch((0, 1, 2), ids, attention, answer)
    sets = [set(c) for n in range(4) for c in itertools.combinations(range(6), n)]
    found = Ablations(model, [batch], device_bytes=10**7).rises(sets)
    assert np.abs(found - naive(model, sets, [batch])).max() < 1e-5


def test_batching_order_and_padding_change_nothing(model):
    want = Ablations(model, batches(1), device_bytes=10**8).rises(SETS)
    for of, columns in ((batches(10**6), slice(None)), (batches(900, ITEMS[::-1]), slice(None, None, -1))):
        assert np.allclose(Ablations(model, of, device_bytes=10**8).rises(SETS)[:, columns], want, atol=1e-4)


def test_every_shared_prefix_is_computed_once(model):
    """Counted in blocks that really ran: a base pass, then the suffixes."""
    of = batches(10**6)
    runs = []
    inner = [next(block.children()) for block in find_blocks(model)[1]]
    handles = [module.register_forward_hook(lambda *_: runs.append(1)) for module in inner]
    ablations = Ablations(model, of, device_bytes=10**8)
    ablations.gains([{i} for i in range(DEPTH)])
    for handle in handles:
        handle.remove()
    assert len(runs) == ablations.block_runs == DEPTH + DEPTH * (DEPTH - 1) // 2


def test_a_greedy_round_computes_nothing_before_the_last_drop_twice(model):
    ablations = Ablations(model, batches(10**6), device_bytes=10**8)
    ablations.gains([{i} for i in range(DEPTH)])
    for drop in ({4}, {2, 4}, {2, 4, 6}):
        before = ablations.block_runs
        free = [i for i in range(DEPTH) if i not in drop]
        ablations.gains([drop | {i} for i in free])
        suffixes = [sum(j > i for j in free) for i in free]
        last = {1: 4, 2: 2, 3: 6}[len(drop)]  # the block dropped last: its path is new from here on
        assert ablations.block_runs - before == sum(suffixes) + sum(last < j < free[-1] for j in free)


def test_random_trees_are_exact_within_any_room(model):
    random.seed(0)
    of = batches(10**6)
    for num_streams in (1, 2, 4, 7):
        sets = [set(random.sample(range(DEPTH), random.randrange(1, 6))) for _ in range(25)]
        ablations = Ablations(model, of, device_bytes=num_streams * stream_bytes(model, of)[0])
        assert np.abs(ablations.rises(sets) - naive(model, sets, of)).max() < 1e-5
        assert ablations.peak_stream_bytes <= num_streams * stream_bytes(model, of)[0]


def test_first_batches_alone(model):
    ablations = Ablations(model, batches(), device_bytes=10**8)
    some = ablations.gains([{1}, {2}], first=1)
    known = list(ablations.batches[0].index)
    assert np.isfinite(some[:, known]).all() and np.isnan(np.delete(some, known, axis=1)).all()
    mean = ablations.mean_rises([{1}, {2}], first=1)
    assert mean == pytest.approx(some[:, known].sum(1) / ablations.tokens[known].sum())


def test_allowances_share_out_the_budget():
    assert allowances([10, 10], depth=5, device_bytes=80, host_bytes=0) == [Allowance(4, "kept")] * 2
    three = allowances([10, 10, 10], depth=5, device_bytes=80, host_bytes=40)
    assert three == [Allowance(4, "kept"), Allowance(4, "offloaded"), Allowance(4, "recomputed")]
    (few,) = allowances([10], depth=5, device_bytes=25, host_bytes=0)
    assert few == Allowance(2, "recomputed")
    assert allowances([10], depth=5, device_bytes=0, host_bytes=0) == [Allowance(0, "recomputed")]
    said = describe([10, 10, 10], three, depth=5)
    for words in ("1 kept (", "1 offloaded to host memory (", "1 recomputed (0 MiB, 4 of 4 at once)"):
        assert words in said
