"""Rows of FastLM: contexts that stand once, continuations that branch off."""

import pytest
import torch

from eval.rows import batches, collate, merge


def request(context, continuation):
    return None, list(context), list(continuation)


REQUESTS = [
    request([1, 2], [3]),
    request([1, 2], [4]),
    request([1, 2, 3], [5, 6]),
    request([1, 2, 3], [7, 8, 9]),
    request([1], [2]),
    request([9], [9]),
]


def test_a_context_stands_once_and_its_continuations_branch_off():
    row, other = merge(REQUESTS, max_length=100)
    assert (row.tokens, row.depths) == ([1, 2, 3, 7, 8, 5], [0, 1, 2, 3, 4, 3])
    assert sorted(n for n, _, _ in row.reads) == [0, 1, 2, 3, 4]
    assert {n: at for n, at, _ in row.reads} == {0: [1], 1: [1], 2: [2, 5], 3: [2, 3, 4], 4: [0]}
    assert other.tokens == [9]


def test_the_steps_of_a_dialogue_are_one_row_whatever_the_order_of_their_tokens():
    gold, says = 5, 8
    steps = [[1, 2], [1, 2, gold, says], [1, 2, gold, says, gold, says]]
    requests = [request(step, [choice, 6]) for step in steps for choice in (gold, 3, 7)]
    (row,) = merge(requests, max_length=100)
    assert len(row.tokens) == 6 + 3 * 2 + 1  # the longest context, and at each step what is not its beginning
    rows = merge(requests, max_length=9)
    assert max(len(row.tokens) for row in rows) <= 9
    assert sorted(n for row in rows for n, _, _ in row.reads) == list(range(9))


def test_without_branches_a_row_is_one_sequence_and_its_beginnings():
    rows = merge(REQUESTS, max_length=100, branching=False)
    assert [row.tokens for row in rows] == [[1, 2, 3, 7, 8], [1, 2, 3, 5], [9]]
    assert not any(row.branches for row in rows)


def test_a_token_sees_its_own_sequence_alone():
    batch = collate(merge(REQUESTS, max_length=100), prefix=0, device="cpu")
    row = [1, 2, 3, 7, 8, 5]
    seen = [[row[j] for j in range(6) if batch.mask(0, torch.float32)[0, 0, i, j] == 0] for i in range(6)]
    assert seen == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 7], [1, 2, 3, 7, 8], [1, 2, 3, 5]]


def test_a_row_takes_no_more_than_the_model_does():
    requests = [request(range(10), [20 + n, 1, 1]) for n in range(50)]
    rows = merge(requests, max_length=16)
    assert max(len(row.tokens) for row in rows) <= 16
    assert sorted(n for row in rows for n, _, _ in row.reads) == list(range(50))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_batch_holds_no_more_tokens_than_that_many_sequences(batch_size):
    requests = [request([n, *range(20)], [choice, choice, 1]) for n in range(9) for choice in range(4)]
    rows = merge(requests, max_length=100)
    chunks = list(batches(rows, batch_size=batch_size, alone=100))
    assert [row for chunk in chunks for row in chunk] == rows
    for chunk in chunks:
        assert len(chunk) == 1 or len(chunk) * len(chunk[0].tokens) <= batch_size * 23
