"""python -m serve.lint prompts.jsonl: where prompts that should share a beginning stop doing so.

A prefix is computed once only as long as every byte of it is the same: one date or id at the top, and each
prompt is computed from its start.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastpath.cli import guarded
from fastpath.errors import UserError
from fastpath.jsonl import read_jsonl

CONTEXT_BYTES = 24  # of each side that are shown where two prompts part
PAGE_BYTES = 128  # about a block of 32 tokens, the least that is shared


def prompt_bytes(row: Mapping[str, Any]) -> bytes | None:
    """What a model reads of a request: its prompt, or tools and messages as they come; or None."""
    if isinstance(row.get("prompt"), str):
        return row["prompt"].encode()
    if isinstance(row.get("messages"), list):
        # Keys in the order they were written: a template may print them so.
        parts = [*(row.get("tools") or ()), *row["messages"]]
        return "\n".join(json.dumps(part, ensure_ascii=False) for part in parts).encode()
    return None


def read_prompts(path: Path) -> list[bytes]:
    """The prompts of JSON lines. Raises UserError naming the line."""
    prompts = []
    for where, row in read_jsonl(path, key="prompts"):
        if (prompt := prompt_bytes(row)) is None:
            raise UserError(f"{where}: needs a prompt (a string) or messages (a list)")
        prompts.append(prompt)
    if len(prompts) < 2:
        raise UserError(f"prompts: {path}: two or more are needed, found {len(prompts)}")
    return prompts


def lint(prompts: Sequence[bytes]) -> dict[str, Any]:
    """How many bytes all prompts share from the start, and the first two that part there."""
    low, high = min(prompts), max(prompts)  # of sorted strings the outermost two share least
    pairs = zip(low, high, strict=False)
    shared = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(low), len(high)))
    after: dict[bytes, int] = {}
    for number, prompt in enumerate(prompts):
        after.setdefault(prompt[shared : shared + 1], number)
    first, other = sorted(after.values())[:2] if len(after) > 1 else (0, 0)
    mean = sum(map(len, prompts)) / len(prompts)
    return {
        "prompts": len(prompts),
        "shared_bytes": shared,
        "shared_fraction": round(shared / mean, 4) if mean else 0.0,
        "first": {"prompt": first + 1, "bytes": _around(prompts[first], shared)},
        "other": {"prompt": other + 1, "bytes": _around(prompts[other], shared)},
    }


def _around(prompt: bytes, place: int) -> str:
    start = max(0, place - CONTEXT_BYTES)
    before = prompt[start:place].decode(errors="replace")
    return f"{before}>>>{prompt[place : place + CONTEXT_BYTES].decode(errors='replace')}"


def main() -> int:
    """Print where the prompts part; the last line is JSON. Exit code 1: they share next to nothing."""
    parser = argparse.ArgumentParser(prog="python -m serve.lint", description=__doc__.splitlines()[0])
    parser.add_argument("prompts", type=Path, help="JSON lines with prompt, or messages and tools")
    arguments = parser.parse_args()
    codes = []

    def work() -> None:
        facts = lint(read_prompts(arguments.prompts))
        share = f"{facts['shared_bytes']} bytes ({100 * facts['shared_fraction']:.0f} % of the mean prompt)"
        print(f"{facts['prompts']} prompts share their first {share}; then they part:")
        for side in ("first", "other"):
            print(f"  prompt {facts[side]['prompt']}: {facts[side]['bytes']!r}")
        print(json.dumps(facts))
        codes.append(int(facts["shared_bytes"] < PAGE_BYTES))

    return guarded(work) or codes[0]


if __name__ == "__main__":
    sys.exit(main())
