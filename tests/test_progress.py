"""The time left."""

import io
import logging

import pytest
from rich.progress import Progress

from fastpath import progress as module
from fastpath.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_neither_on_a_terminal(clock, monkeypatch):
    monkeypatch.setattr(module.sys, "stderr", io.StringIO())
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    bars = []
    monkeypatch.setattr(
        module,
        "Progress",
        lambda *a, **k: bars.append(Progress(*a, get_time=lambda: clock[0], **k)) or bars[0],
    )
    with progress("evaluating", 1000) as advance:
        for _ in range(5):
            advance(100, kept=True)
        for _ in range(10):
            clock[0] += 2
            advance(10)
        task = bars[0].tasks[0]
        assert task.completed == 600
        assert task.time_remaining == 80  # 400 at 5 a second


def test_what_an_earlier_run_has_left_does_not_make_the_rest_look_short(clock, caplog, monkeypatch):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: False, raising=False)
    caplog.set_level(logging.INFO, "fastpath")
    with progress("training", 800) as advance:
        advance(500, kept=True)
        clock[0] += 20
        advance(0, "waiting")
        clock[0] += 20
        advance(4)
    assert [line for line in caplog.messages if "left" in line] == [
        "training: 63 %, about 49.3 min left, waiting"  # 296 steps of 10 seconds
    ]
