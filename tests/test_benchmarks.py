"""The benchmarks read every shipped task; what they measure is not for a test to say."""

from tiny import byte_tokenizer

from benchmarks.eval_speed import _first, right, shipped_tasks


def test_shipped_tasks_are_of_every_kind_and_know_what_is_right():
    tasks = shipped_tasks(byte_tokenizer(), 1)
    assert {"fastpath_doc_type", "fastpath_worked", "fastpath_chain_written"} <= tasks.keys()
    assert {task.kind for task in tasks.values()} == {"multi-token", "generation"}  # every byte is a token
    for task in tasks.values():
        assert len(task.pairs) == len(task.items)
        first = _first(task)
        answers = ["7"] * len(first.pairs) if task.kind == "generation" else [(-1.0, True)] * len(first.pairs)
        assert len(right(first, answers)) in (1, len(first.pairs))
