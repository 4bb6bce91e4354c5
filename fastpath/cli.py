"""main(stage, run, show): --config, key=value overrides, logs to stderr, one JSON object as the last line."""

import argparse
import errno
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from fastpath.config import Recipe
from fastpath.errors import UserError
from fastpath.recipe_file import load_recipe

Facts = dict[str, Any]


def main(
    stage: str,
    run: Callable[[Recipe], Path],
    show: Callable[[Path], Facts],
    *,
    preview: Callable[[Recipe], Facts] | None = None,
) -> int:
    """Run one stage from the command line; the exit code: 0 done, 2 the user's to mend,
    3 some tasks failed, 130 interrupted.

    `show(folder)` prints what the finished folder holds and returns the headline facts for the JSON line.
    `preview(recipe)`, where a stage has one, is what --dry-run does in the place of both.
    """
    arguments = _parser(stage, has_preview=preview is not None).parse_intermixed_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fastpath").setLevel(logging.INFO)
    start = time.monotonic()
    if preview is not None and arguments.dry_run:
        return guarded(lambda: _preview(stage, preview, arguments))
    return guarded(lambda: _run(stage, run, show, arguments, start))


def console() -> Console:
    """Where tables go: stdout, wide enough for them where no terminal says how wide it is."""
    return Console(width=None if sys.stdout.isatty() else 132, soft_wrap=False)


def _parser(stage: str, *, has_preview: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {stage}",
        description=f"Run the stage `{stage}` of a recipe. The same command again resumes.",
    )
    parser.add_argument("--config", required=True, help="recipe file, for example configs/quickstart.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example out=runs/try prune.drop=6"
    )
    if has_preview:
        parser.add_argument(
            "--dry-run", action="store_true", help="list what would be done and downloaded, and stop"
        )
    return parser


def _preview(stage: str, preview: Callable[[Recipe], Facts], arguments: argparse.Namespace) -> None:
    recipe = load_recipe(arguments.config, arguments.overrides)
    recipe.for_stage(stage)
    print(json.dumps({"stage": stage, "dry_run": True, **preview(recipe)}))


def _run(
    stage: str,
    run: Callable[[Recipe], Path],
    show: Callable[[Path], Facts],
    arguments: argparse.Namespace,
    start: float,
) -> None:
    recipe = load_recipe(arguments.config, arguments.overrides)
    recipe.for_stage(stage)
    folder = run(recipe)
    facts = show(folder)
    print(
        json.dumps(
            {"stage": stage, "path": str(folder), **facts, "seconds": round(time.monotonic() - start, 1)}
        )
    )


def guarded(work: Callable[[], None]) -> int:
    """Do the work; what the user can mend becomes one line on stderr and its error's exit code (2, 3)."""
    try:
        work()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        reason = _disk_fault(error)
        if reason is None:
            raise
        print(
            f"error: {reason}; what was there before is untouched, the same command goes on", file=sys.stderr
        )
        return 2
    return 0


def _disk_fault(error: Exception) -> str | None:
    """A full or unwritable disk, in words; safetensors wraps the system's error in its own."""
    faults = {errno.ENOSPC: "no space left on device", errno.EDQUOT: "disk quota exceeded",
              errno.EFBIG: "file too large for this disk", errno.EROFS: "read-only file system",
              errno.EACCES: "permission denied"}  # fmt: skip
    for code, words in faults.items():
        if (isinstance(error, OSError) and error.errno == code) or f"os error {code}" in str(error):
            where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            return f"cannot {'read or ' if code == errno.EACCES else ''}write: {words}{where}"
    return None
