"""The likelihood counts answer tokens alone, and nothing about padding, batching or the head changes it."""

import pytest
import torch
from tiny import byte_tokenizer, tiny_llama

from fastpath.data import encode, item_batches
from fastpath.errors import UserError
from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import Item
from fastpath.nll import answer_nll, head_only_at, predicting


def items_of(*tasks, num_items=5):
    return [i for t in tasks for i in generate(t, split="calibration", seed=0, num_items=num_items)]


def by_item(model, items, batch_tokens):
    nats, tokens = torch.zeros(len(items), dtype=torch.float64), torch.zeros(len(items), dtype=torch.long)
    for batch in item_batches(items, byte_tokenizer(), batch_tokens=batch_tokens):
        nll = answer_nll(model, batch)
        nats[list(batch.index)], tokens[list(batch.index)] = nll.nats, nll.tokens
    return nats, tokens


def test_equals_the_sum_of_log_probabilities_written_out():
    model, item = tiny_llama(), items_of("doc_type")[0]
    prompt, answer = list(item.prompt.encode()), list(f" {item.answer}".encode())
    ids = byte_tokenizer()(f"{item.prompt} {item.answer}", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logp = model(ids).logits[0].double().log_softmax(-1)
    want = -sum(logp[t - 1, ids[0, t]] for t in range(len(prompt), len(prompt) + len(answer)))
    nats, tokens = by_item(model, [item], 4096)
    assert tokens[0] == len(answer)
    assert nats[0].item() == pytest.approx(want.item(), abs=1e-4)


def test_neither_batching_nor_order_nor_padding_changes_it():
    model, items = tiny_llama(), items_of("doc_type", "arithmetic")
    nats, tokens = by_item(model, items, 1)
    for batch_tokens in (700, 100_000):
        again, again_tokens = by_item(model, items, batch_tokens)
        assert torch.allclose(again, nats, atol=1e-4)
        assert torch.equal(again_tokens, tokens)
    turned, _ = by_item(model, items[::-1], 700)
    assert torch.allclose(turned.flip(0), nats, atol=1e-4)


def test_pad_tokens_never_count():
    model, items = tiny_llama(), items_of("doc_type", "one_hop")
    (batch,) = item_batches(items, byte_tokenizer(), batch_tokens=10**6)
    want = answer_nll(model, batch).nats
    batch.ids[~batch.attention] = 7
    assert torch.allclose(answer_nll(model, batch).nats, want, atol=1e-5)


def test_worked_items_count_the_results_of_their_steps_alone():
    (item,) = items_of("worked", num_items=1)
    ids, counts = encode(item, byte_tokenizer())
    counted = byte_tokenizer().decode([i for i, c in zip(ids, counts, strict=True) if c])
    assert counted == "".join(item.answer[a:b] for a, b in item.steps)


@pytest.mark.parametrize("task", list(TASKS))
def test_every_token_of_an_answer_counts_and_no_token_of_the_prompt(task):
    for item in generate(task, split="calibration", seed=0, num_items=3):
        ids, counts = encode(item, byte_tokenizer())
        first = counts.index(True)
        assert first >= len(item.prompt.encode())
        assert len(ids) == len(f"{item.prompt} {item.answer}".encode())


def test_batches_hold_every_item_once_within_the_budget():
    items = items_of("doc_type", "worked")
    batches = item_batches(items, byte_tokenizer(), batch_tokens=900)
    assert sorted(i for b in batches for i in b.index) == list(range(len(items)))
    assert all(b.ids.numel() <= 900 or len(b.index) == 1 for b in batches)


def test_head_sees_marked_positions_only_and_is_restored():
    model = tiny_llama()
    ids = torch.arange(2 * 9).view(2, 9)
    at = predicting(torch.rand(2, 9, generator=torch.Generator().manual_seed(0)) > 0.5)
    seen = []
    handle = model.lm_head.register_forward_hook(lambda _, args, out: seen.append(out.shape))
    with torch.no_grad():
        whole = model(ids).logits
        with head_only_at(model, at):
            some = model(ids).logits
        again = model(ids).logits
    handle.remove()
    assert seen == [(2, 9, 260), (1, int(at.sum()), 260), (2, 9, 260)]
    assert torch.allclose(some[0], whole[at], atol=1e-5)
    assert torch.equal(again, whole)


def test_answer_without_a_token_is_an_error_naming_the_item():
    class Eater:
        is_fast = True

        def __call__(self, text, **_):
            return {"input_ids": [1], "offset_mapping": [(0, 1)]}

    item = Item(
        task="t",
        suite="simple",
        split="calibration",
        prompt="ab",
        choices=("c", "d"),
        answer="c",
        k=1,
        template="x",
    )
    with pytest.raises(UserError, match=item.id):
        encode(item, Eater())
