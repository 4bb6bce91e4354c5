"""python -m serve.lint prompts.jsonl: where prompts that should share a beginning stop doing so.

A prefix is computed once only as long as every byte of it is the same: one date or id at the top, and each
prompt is computed from its start.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastpath.cli import guarded
from fastpath.errors import UserError

CONTEXT_BYTES = 24  # of each side that are shown where two prompts part
PAGE_BYTES = 128  # about a block of 32 tokens, the least that is shared


def prompt_bytes(row: Any) -> bytes:
    """What a model reads of a request: its prompt, or the tools and messages in their order."""
    if isinstance(row, dict) and isinstance(row.get("prompt"), str):
        return row["prompt"].encode()
    if isinstance(row, dict) and isinstance(row.get("messages"), list):
        # Keys in the order they were written: a template may print them so.
        parts = [*(row.get("tools") or ()), *row["messages"]]
        return "\n".join(json.dumps(part, ensure_ascii=False) for part in parts).encode()
    raise ValueError("needs a prompt (a string) or messages (a list)")


def read_prompts(path: Path) -> list[bytes]:
    """The prompts of JSON lines. Raises UserError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                prompts.append(prompt_bytes(json.loads(line)))
            except ValueError as error:
                raise UserError(f"{path}, line {number}: {error}") from None
    if len(prompts) < 2:
        raise UserError(f"{path}: two prompts or more are needed, found {len(prompts)}")
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
