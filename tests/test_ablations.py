"""Drop sets cost what skipping them costs, whatever is reused, kept, offloaded or computed again."""

import itertools
import random

import numpy as np
import pytest
import torch
from families import tiny_model
from tiny import byte_tokenizer, tiny_llama

from fastpath.ablations import Ablations
from fastpath.blocks import find_blocks, skipping
from fastpath.data import Batch, item_batches
from fastpath.items.catalog import generate
from fastpath.nll import answer_nll
from fastpath.streams import Allowance, allowances, describe
from prune.race import Objective, grouped_batches

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


def test_with_spare_room_a_round_computes_only_what_follows_the_last_drop(model):
    of = batches(10**6)
    ablations = Ablations(model, of, device_bytes=10**8, rounds=True)
    ablations.gains([{i} for i in range(DEPTH)])
    drop = set()
    for last in (5, 2, 6, 3):
        before = ablations.block_runs
        drop.add(last)
        free = [i for i in range(DEPTH) if i not in drop]
        sets = [drop | {i} for i in free]
        assert np.abs(ablations.rises(sets) - naive(model, sets, of)).max() < 1e-5
        assert ablations.block_runs - before == sum(j > max(i, last) for i in free for j in free)


@pytest.mark.parametrize("num_streams", [DEPTH, DEPTH + 3, 2 * DEPTH])
def test_rounds_are_exact_within_any_spare_room(model, num_streams):
    of = batches(10**6)
    room = num_streams * stream_bytes(model, of)[0]
    plain, spare = (Ablations(model, of, device_bytes=room, rounds=rounds) for rounds in (False, True))
    for drop in ({}, {5}, {5, 2}, {5, 2, 6}):
        sets = [{*drop, i} for i in range(DEPTH) if i not in drop]
        assert np.abs(plain.rises(sets) - spare.rises(sets)).max() < 1e-5
        assert spare.peak_stream_bytes <= room
    assert spare.block_runs <= plain.block_runs


def test_random_trees_are_exact_within_any_room(model):
    random.seed(0)
    of = batches(10**6)
    for num_streams in (1, 2, 4, 7):
        sets = [set(random.sample(range(DEPTH), random.randrange(1, 6))) for _ in range(25)]
        ablations = Ablations(model, of, device_bytes=num_streams * stream_bytes(model, of)[0])
        assert np.abs(ablations.rises(sets) - naive(model, sets, of)).max() < 1e-5
        assert ablations.peak_stream_bytes <= num_streams * stream_bytes(model, of)[0]


def test_costs_are_simple_plus_weighted_complex_and_spare_what_cannot_win(model):
    """Every cost that is told is exact; those of the cheapest are told, whatever else is not computed."""
    simple, other = (Ablations(model, batches(1, of), device_bytes=10**8) for of in (ITEMS[:3], ITEMS[3:]))
    drops = [frozenset(c) for c in itertools.combinations(range(DEPTH), 2)]
    for weight in (0.0, 0.5):
        objective = Objective([(simple, 1.0), (other, weight)])
        want = sum(w * a.gains(drops).sum(1) / a.tokens.sum() for a, w in ((simple, 1.0), (other, weight)))
        assert objective.costs(drops, len(drops)) == pytest.approx(want, abs=1e-9)
        for num in (1, 4):
            told = np.array(objective.costs(drops, num))
            exact = np.isfinite(told)
            assert told[exact] == pytest.approx(want[exact], abs=1e-9)
            assert set(np.argsort(want)[:num]) <= set(np.flatnonzero(exact))


def test_costs_do_not_depend_on_how_many_batches_are_asked_for_at_once(model):
    """Not even which of them are told."""
    simple, other = (Ablations(model, batches(1, of), device_bytes=10**8) for of in (ITEMS[:3], ITEMS[3:]))
    drops = [frozenset(c) for c in itertools.combinations(range(DEPTH), 2)]
    for num in (1, 4, len(drops)):
        told = [Objective([(simple, 1.0), (other, 0.5)], at_once=k).costs(drops, num) for k in (1, 2, 4, 99)]
        assert told[0] == told[1] == told[2] == told[3]


def test_a_plan_that_cannot_win_is_not_computed_to_the_end(model):
    with torch.no_grad():
        worse = tiny_llama(depth=DEPTH)
        for i in range(4):  # these may go; any other block counts
            worse.model.layers[i].self_attn.o_proj.weight.zero_()
            worse.model.layers[i].mlp.down_proj.weight.zero_()
    ablations = Ablations(worse, batches(1), device_bytes=10**8)
    drops = [frozenset({i}) for i in range(DEPTH)]
    Objective([(ablations, 1.0)]).costs(drops, len(drops))
    whole, ablations.block_runs = ablations.block_runs, 0
    told = Objective([(ablations, 1.0)]).costs(drops, 1)
    assert ablations.block_runs < whole
    assert min(told) == pytest.approx(min(Objective([(ablations, 1.0)]).costs(drops, len(drops))))


def test_groups_are_growing_parts_of_the_items(model):
    groups = [ITEMS[::2], ITEMS[1::2]]
    of = grouped_batches(groups, byte_tokenizer(), batch_tokens=900)
    assert sorted(i for batch, _ in of for i in batch.index) == list(range(len(ITEMS)))
    ablations = Ablations(model, [batch for batch, _ in of], device_bytes=10**8)
    objective = Objective([(ablations, 1.0)], groups=[[group for _, group in of]])
    half = Ablations(model, batches(900, groups[0]), device_bytes=10**8)
    drops = [frozenset({1}), frozenset({2, 3})]
    want = half.gains(drops).sum(1) / half.tokens.sum()
    assert objective.costs(drops, 2, first_groups=1) == pytest.approx(want, abs=1e-6)
    whole = ablations.gains(drops).sum(1) / ablations.tokens.sum()
    assert objective.costs(drops, 2) == pytest.approx(whole, abs=1e-9)


def test_allowances_share_out_the_budget():
    assert allowances([10, 10], depth=5, device_bytes=80, host_bytes=0) == [Allowance(4, "kept")] * 2
    three = allowances([10, 10, 10], depth=5, device_bytes=80, host_bytes=40)
    assert three == [Allowance(4, "kept"), Allowance(4, "offloaded"), Allowance(4, "recomputed")]
    assert (
        allowances([10, 10], depth=5, device_bytes=139, host_bytes=0, rounds=True)
        == [Allowance(6, "kept")] * 2
    )
    (most,) = allowances([10], depth=5, device_bytes=10**6, host_bytes=0, rounds=True)
    assert most.num_streams == 4 + 10
    (few,) = allowances([10], depth=5, device_bytes=25, host_bytes=0)
    assert few == Allowance(2, "recomputed")
    assert allowances([10], depth=5, device_bytes=0, host_bytes=0) == [Allowance(0, "recomputed")]
    said = describe([10, 10, 10], three, depth=5)
    for words in ("1 kept (", "1 offloaded to host memory (", "1 recomputed (0 MiB, 4 of 4 at once)"):
        assert words in said
