"""What a run ran on: versions, code revision, hardware; which dtype a device computes fast; memory in use."""

import ctypes
import gc
import os
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

UNKNOWN = "unknown"
PACKAGES = ("fastpath", "torch", "transformers", "lm-eval", "datasets", "accelerate", "peft")
GIT_SECONDS = 5.0
"""How long a slow disk may take to say the revision."""


def describe_environment() -> dict[str, Any]:
    """Versions, code revision and hardware as plain JSON data; "unknown" for what cannot be found out.

    Never raises: a run must not fail because its surroundings cannot be described.
    """
    facts: dict[str, Callable[[], Any]] = {
        "packages": lambda: {name: _version(name) for name in PACKAGES},
        "python": platform.python_version,
        "git_revision": _git_revision,
        "platform": platform.platform,
        "cpu": _cpu_name,
        "num_cores": _num_cores,
        "memory_bytes": lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "torch_threads": torch.get_num_threads,
        "cpu_bf16": lambda: _cpu_bf16() or "none",
        "accelerators": _accelerators,
    }
    return {name: _or_unknown(find) for name, find in facts.items()}


def code_version() -> str:
    """Which fastpath this is: version, and the commit where it is a checkout."""
    version, revision = _or_unknown(lambda: metadata.version("fastpath")), _or_unknown(_git_revision)
    return f"fastpath {version} ({revision})"


def device_name(device: torch.device) -> str:
    """What the device is called by its maker, or its type where that is not known."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu_name() if device.type == "cpu" else device.type


def fast_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype for `auto`, and why: bfloat16 where this device computes it fast, else float32.

    Measured: on a CPU without AVX512-BF16 or AMX, bfloat16 is 10 to 40 times slower than float32.
    """
    if device.type == "cpu":
        units = _cpu_bf16()
        if units:
            return torch.bfloat16, f"this CPU computes bfloat16 natively ({units})"
        return torch.float32, "this CPU has no AVX512-BF16 or AMX: bfloat16 would be slower"
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            name = torch.cuda.get_device_name(device)
        if native:
            return torch.bfloat16, f"{name} computes bfloat16 natively"
        return torch.float32, f"{name} only emulates bfloat16"
    return torch.float32, f"bfloat16 was not measured on {device.type}"


def reset_peak_bytes(device: torch.device) -> bool:
    """Start peak_bytes(device) anew from what is in use now; False where this system cannot do that.

    On a CPU this is Linux only: writing 5 to /proc/self/clear_refs resets the resident peak (man 5 proc).
    What was freed earlier goes back to the system first, else new work would use it again unseen.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    if device.type != "cpu":
        return False
    _return_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or a kernel or sandbox without it
        return False
    return True


def used_bytes(device: torch.device) -> int:
    """Memory in use now: this process's tensors on a GPU, its resident set on a CPU (Linux)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status_bytes("VmRSS")


def peak_bytes(device: torch.device | None = None) -> int:
    """Most memory in use since the start or the last reset_peak_bytes: GPU tensors, or resident set (CPU)."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if Path("/proc/self/status").exists():
        return _status_bytes("VmHWM")
    import resource  # POSIX without /proc: macOS, where the unit is bytes

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take: of the GPU, or of the host within its container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not Path("/proc/meminfo").exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")


def _return_freed_memory() -> None:
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def _or_unknown(find: Callable[[], Any]) -> Any:
    try:
        return find() or UNKNOWN
    except Exception:  # whatever goes wrong here, the run itself is fine
        return UNKNOWN


def _git_revision() -> str:
    """Commit of the checkout this file lies in, with -dirty if it was edited; "" for an installed package."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # else git would answer for whatever repository is further up
        return ""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True, timeout=GIT_SECONDS
    ).stdout.strip()


def _cpu_name() -> str:
    """Model name: /proc/cpuinfo on x86 Linux, what the platform says elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _num_cores() -> int | None:
    """Cores this process may use (a container or taskset may grant fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _cpu_bf16() -> str:
    """Which units for bfloat16 matrix products this CPU has, in words; "" if none."""
    has = torch.cpu.get_capabilities()
    units = {"AVX512-BF16": has.get("avx512_bf16"), "AMX": has.get("amx_bf16")}
    return ", ".join(name for name, present in units.items() if present)


def _accelerators() -> list[str]:
    """Name of each GPU, the device type where it has no names, or "none"."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return ["none"]
    if found.type == "cuda":
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [found.type] * torch.accelerator.device_count()
