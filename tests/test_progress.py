"""The time left."""

import logging

import pytest

from fastpath import progress as module
from fastpath.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


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
