"""benchmarks/gpu.py: measured on whatever is there, and where there is no GPU it says so."""

import json
import sys

import pytest
import torch

from benchmarks import gpu
from eval.ceilings import Sizes


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("eval.ceilings.SIZES", {"cpu": Sizes(2**16, 16, 1)})


def bench(monkeypatch, capsys, *arguments: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    gpu.main()
    return capsys.readouterr().out.splitlines()


def test_the_gpu_benchmark_measures_base_and_cuts_at_every_batch_size(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    lines = bench(monkeypatch, capsys, "--device", "cpu", "--tiny", "--only", "speed")
    facts = json.loads(lines[-1])
    assert facts["measured"] is True and facts["speed"]["ceilings"]["copy_bytes_per_second"] > 0
    assert [point["batch_size"] for point in facts["speed"]["points"]] == [1, 2]
    assert list(facts["speed"]["points"][0]["ratios"]) == ["drop-1", "drop-2"]
    assert not list(tmp_path.iterdir()), "a smoke test leaves no results"


def test_the_gpu_benchmark_says_plainly_that_there_is_no_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    first, last = bench(monkeypatch, capsys)
    assert "no GPU found: nothing was measured" in first
    assert json.loads(last) == {"device": "none", "measured": False}


def test_a_section_that_cannot_be_measured_does_not_hide_the_others(monkeypatch, capsys):
    def refused(bench):
        raise ValueError("no compiler")

    monkeypatch.setattr(gpu, "SECTIONS", {"first": refused, "speed": gpu.speed})
    lines = bench(monkeypatch, capsys, "--device", "cpu", "--tiny")
    facts = json.loads(lines[-1])
    assert facts["first"] == {"not measured": "no compiler"} and "points" in facts["speed"]
    assert "not measured: no compiler" in lines
