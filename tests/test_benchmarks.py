"""The benchmarks read every shipped task; what they measure is not for a test to say."""

import sys

from tiny import byte_tokenizer

from benchmarks.big_model import watched
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


def test_the_memory_of_every_phase_is_seen(tmp_path):
    code = """
import pathlib, sys, time
for name in ("scores.json", "frontier.json", "DONE"):
    held = b"x" * (200 * 2**20 if name == "frontier.json" else 1)
    time.sleep(1.0)
    pathlib.Path(sys.argv[1], name).touch()
time.sleep(1.0)
"""
    phases = watched([sys.executable, "-c", code, str(tmp_path)], tmp_path, log=tmp_path / "log.txt")
    assert list(phases) == ["score", "search", "export"]
    peaks = [facts["peak_anonymous_gib"] for facts in phases.values()]
    assert 0.19 < peaks[1] < 0.4 and peaks[0] < 0.1
    assert all(facts["peak_rss_gib"] >= facts["peak_anonymous_gib"] for facts in phases.values())
