"""A run's surroundings are described without failing; dtype follows the hardware; peaks are measured."""

import json
import subprocess

import pytest
import torch

from fastpath import env
from fastpath.env import (
    code_version,
    describe_environment,
    fast_dtype,
    peak_bytes,
    reset_peak_bytes,
    used_bytes,
)

CPU = torch.device("cpu")


def test_description_is_json_and_leaves_nothing_blank():
    facts = json.loads(json.dumps(describe_environment(), allow_nan=False))
    assert set(facts["packages"]) == {
        "fastpath",
        "torch",
        "transformers",
        "lm-eval",
        "datasets",
        "accelerate",
        "peft",
    }
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["num_cores"] >= 1 and facts["memory_bytes"] > 2**28 and facts["accelerators"]
    assert all(value not in (None, "", [], {}) for value in (*facts.values(), *facts["packages"].values()))


def test_description_never_raises(monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("no")

    monkeypatch.setattr(env.subprocess, "run", broken)
    monkeypatch.setattr(env.metadata, "version", broken)
    monkeypatch.setattr(env.os, "sysconf", broken)
    monkeypatch.setattr(env.torch.cpu, "get_capabilities", broken)
    facts = describe_environment()
    assert (
        facts["packages"] == facts["memory_bytes"] == facts["cpu_bf16"] == facts["git_revision"] == "unknown"
    )
    assert facts["python"] != "unknown"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with a copy of env.py's place in it, and git run inside."""
    (tmp_path / "fastpath").mkdir()
    (tmp_path / "fastpath" / "env.py").write_text("")
    monkeypatch.setattr(env, "__file__", str(tmp_path / "fastpath" / "env.py"))

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    return tmp_path, git


def test_revision_is_the_commit_and_says_when_edited(checkout):
    folder, git = checkout
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    git("tag", "v1")  # a tag does not replace the commit
    commit = git("rev-parse", "HEAD")
    assert describe_environment()["git_revision"] == commit
    (folder / "fastpath" / "env.py").write_text("edited")
    assert describe_environment()["git_revision"] == f"{commit}-dirty"
    assert code_version().endswith(f"({commit}-dirty)")


def test_revision_is_unknown_outside_a_checkout_even_inside_another_repository(checkout, monkeypatch):
    folder, git = checkout
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "another project")
    installed = folder / "site-packages" / "fastpath" / "env.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(env, "__file__", str(installed))
    assert describe_environment()["git_revision"] == "unknown"


@pytest.mark.parametrize(
    ("capabilities", "dtype", "reason"),
    [
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16, "AVX512-BF16, AMX"),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16, "AVX512-BF16"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, torch.float32, "no AVX512-BF16 or AMX"),
        ({"architecture": "aarch64", "bf16": True}, torch.float32, "no AVX512-BF16 or AMX"),
    ],
)
def test_cpu_dtype_follows_its_units(monkeypatch, capabilities, dtype, reason):
    monkeypatch.setattr(env.torch.cpu, "get_capabilities", lambda: capabilities)
    chosen, why = fast_dtype(CPU)
    assert chosen is dtype and reason in why


def test_mps_computes_in_float32():
    assert fast_dtype(torch.device("mps"))[0] is torch.float32


def test_capability_names_are_torch_own():
    if torch.cpu.get_capabilities().get("architecture") != "x86_64":
        pytest.skip("names of another architecture")
    assert {"avx512_bf16", "amx_bf16"} <= set(torch.cpu.get_capabilities())


def test_peak_sees_memory_that_was_freed_again():
    if not reset_peak_bytes(CPU):
        pytest.skip("this system cannot reset its peak")
    before = used_bytes(CPU)
    size = 2**26
    torch.ones(size, dtype=torch.uint8)  # freed at once
    assert size <= peak_bytes(CPU) - before + 2**20 < 1.2 * size
    assert reset_peak_bytes(CPU) and peak_bytes(CPU) - before < size / 2


def test_peak_sees_memory_that_reuses_what_was_freed_before():
    def fill() -> list[torch.Tensor]:
        return [torch.ones(2**16, dtype=torch.uint8) for _ in range(2**10)]  # 64 MiB in pieces from the heap

    small = fill()
    last = torch.ones(2**16, dtype=torch.uint8)  # keeps the heap from shrinking by itself
    del small
    if not reset_peak_bytes(CPU):
        pytest.skip("this system cannot reset its peak")
    before = used_bytes(CPU)
    fill()
    assert peak_bytes(CPU) - before > 0.9 * 2**26 and last.numel()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_peak_and_dtype():
    device = torch.device("cuda", 0)
    assert reset_peak_bytes(device)
    before = used_bytes(device)
    torch.ones(2**26, dtype=torch.uint8, device=device)
    assert peak_bytes(device) - before >= 2**26
    assert fast_dtype(device)[0] in (torch.bfloat16, torch.float32)
