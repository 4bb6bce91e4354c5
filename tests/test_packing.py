"""Packed rows: no document sees another, none is lost, and what cannot pack is measured, not listed."""

import pickle

import pytest
import torch
from families import tiny_model
from tiny import tiny_llama

from distill.examples import Example
from distill.mixture import Mixture
from distill.packing import IGNORED, Rows, can_pack, fill, packed_batch, packing_error, padded_batch
from fastpath.nll import predicting

PACKS = ["llama", "qwen3", "gemma3_text", "gpt2", "smollm3", "olmo2", "llama4_text"]
CANNOT = ["bloom", "falcon", "gpt_oss", "lfm2", "mamba2", "mpt"]


def examples(num=40, *, longest=30, vocabulary=96):
    generator = torch.Generator().manual_seed(0)

    def draw(low, high, size=1):
        return torch.randint(low, high, (size,), generator=generator).tolist()

    made = []
    for _ in range(num):
        size = draw(2, longest + 1)[0]
        start = draw(1, size)[0]
        made.append(Example(tuple(draw(3, vocabulary, size)), tuple(i >= start for i in range(size)), "text"))
    return made


def mixture(**keys):
    return Mixture({"all": examples(**keys)}, {"all": 1}, seed=0)


@torch.no_grad()
def nats(model, batch):
    """Summed nats of the labels, and how many there are."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    counts_BT = batch["labels"] != IGNORED
    logits_NV = model(**inputs, use_cache=False).logits[predicting(counts_BT)].double()
    nats_N = torch.nn.functional.cross_entropy(logits_NV, batch["labels"][counts_BT], reduction="none")
    return nats_N.sum().item(), len(nats_N)


def alone(model, rows):
    """The same sums of every example in a batch of its own, without pads."""
    sums = [nats(model, padded_batch([(example,)], pad=0)) for row in rows for example in row]
    return sum(n for n, _ in sums), sum(t for _, t in sums)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", PACKS)
def test_packed_loss_is_the_sum_of_each_alone(model_type, attention):
    model = tiny_model(model_type)
    model.set_attn_implementation(attention)
    rows = Rows(mixture(), max_tokens=64, num_rows=6, packed=True)
    batch = packed_batch([rows[i] for i in range(6)], pad=0)
    assert max(len(rows[i]) for i in range(6)) > 2 and can_pack(model, torch.float32)
    (packed, tokens), (want, num) = nats(model, batch), alone(model, [rows[i] for i in range(6)])
    assert tokens == num and packed == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("model_type", CANNOT)
def test_a_model_that_mixes_documents_is_found_out_and_learns_padded(model_type):
    model = tiny_model(model_type)
    assert not can_pack(model, torch.float32), packing_error(model)
    rows = Rows(mixture(), max_tokens=64, num_rows=6, packed=False)
    batch = padded_batch([rows[i] for i in range(6)], pad=0)
    (padded, tokens), (want, num) = nats(model, batch), alone(model, [rows[i] for i in range(6)])
    assert tokens == num and padded == pytest.approx(want, rel=1e-5)


def test_kernels_that_tell_documents_apart_in_one_row_alone_are_found_out(monkeypatch):
    """As FlashAttention 2 does by position ids: in a batch of more rows each attends to all before it."""
    model = tiny_model(PACKS[0])
    calls = model.forward

    def forward(input_ids, position_ids=None, **keys):
        keys |= {"position_ids": position_ids} if len(input_ids) == 1 else {}
        return calls(input_ids=input_ids, **keys)

    monkeypatch.setattr(model, "forward", forward)
    assert not can_pack(model, torch.float32)


def test_tolerance_is_that_of_what_is_computed_in():
    """Trained weights are float32, and under autocast bfloat16 is what rounds."""
    model = tiny_model(PACKS[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert can_pack(model, torch.bfloat16)


def test_a_mask_of_ones_and_a_cache_break_packing():
    """Why packed batches carry no mask, and why a model must be called without its cache."""
    model = tiny_llama()
    rows = Rows(mixture(), max_tokens=64, num_rows=1, packed=True)
    inputs = packed_batch([rows[0]], pad=0)
    inputs.pop("labels")
    with torch.no_grad():
        right = model(**inputs, use_cache=False).logits
        masked = model(**inputs, use_cache=False, attention_mask=torch.ones_like(inputs["input_ids"])).logits
        cached = model(**inputs, use_cache=True).logits
    for wrong in (masked, cached):
        assert (wrong - right).abs().max() > 0.01 * right.abs().max()


def test_model_that_takes_no_positions_cannot_pack(monkeypatch):
    model = tiny_llama()
    forward = type(model).forward
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, input_ids, use_cache: forward(self, input_ids, use_cache=use_cache),
    )
    model.train()
    assert packing_error(model) == float("inf") and model.training


def test_first_tokens_and_pads_never_count():
    rows = Rows(mixture(), max_tokens=64, num_rows=8, packed=True)
    batch = packed_batch([rows[i] for i in range(8)], pad=1)
    ids, positions, labels = batch["input_ids"], batch["position_ids"], batch["labels"]
    assert (labels[positions == 0] == IGNORED).all()
    learnt = labels != IGNORED
    assert (ids[learnt] == labels[learnt]).all()
    assert learnt.sum() == sum(example.num_learnt for i in range(8) for example in rows[i])
    assert (labels[:, 1:] != IGNORED).sum() == learnt.sum(), "what transformers' Trainer counts"


@pytest.mark.parametrize("packed", [True, False])
def test_rows_hold_every_example_once_and_depend_on_nothing_but_their_index(packed):
    made = mixture(num=700)
    rows = Rows(made, max_tokens=64, num_rows=300, packed=packed)
    late = pickle.loads(pickle.dumps(rows))
    assert late[299] == rows[299] and late[0] == rows[0]
    assert all(sum(len(e.ids) for e in rows[i]) <= 64 for i in range(300))
    flat = [example for i in range(300) for example in rows[i]]
    if packed:
        whole = Rows(made, max_tokens=64, num_rows=10**6, packed=True)
        whole[0]
        window = [e for i in range(len(whole._rows)) for e in whole[i]]
        assert sorted(e.key for e in window) == sorted(made[i].key for i in range(256))
    else:
        assert flat == [made[i] for i in range(300)]
    with pytest.raises(IndexError):
        rows[300]


def test_rows_are_full_and_in_order():
    sizes = [int(s) for s in torch.randint(5, 100, (256,), generator=torch.Generator().manual_seed(0))]
    rows = fill(sizes, 512)
    assert sorted(i for row in rows for i in row) == list(range(256))
    assert all(sum(sizes[i] for i in row) <= 512 for row in rows)
    assert len(rows) == -(-sum(sizes) // 512), "no more rows than the tokens need"
    assert all(row == sorted(row) for row in rows) and rows == sorted(rows)
    assert fill([512, 1, 512], 512) == [[0], [1], [2]]
