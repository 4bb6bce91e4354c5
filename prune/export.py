"""python -m prune.export --run runs/NAME --to hf|gguf|vllm|openvino|mergekit|draft: a run's model, elsewhere.

Every export proves itself: what was written is loaded by the target's own code, in a process without
fastpath, and compared; it appears only if that succeeds (a draft is compared in this process). Without --out
it lies in runs/NAME/export/TARGET.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fastpath.cli import guarded
from fastpath.errors import ConfigError, RunError
from fastpath.runs import EXPORTING, locked
from prune.exports.draft import export_draft
from prune.exports.gguf import export_gguf
from prune.exports.hf import export_hf
from prune.exports.made import Made, read_made
from prune.exports.mergekit import export_mergekit
from prune.exports.openvino import export_openvino
from prune.exports.request import Request
from prune.exports.vllm import export_vllm

TARGETS: dict[str, Callable[[Made, Path, Request], dict[str, Any]]] = {
    "hf": export_hf,
    "gguf": export_gguf,
    "vllm": export_vllm,
    "openvino": export_openvino,
    "mergekit": export_mergekit,
    "draft": export_draft,
}
ONLY_HF = ("max_shard_size", "push")


def main() -> int:
    """Export, print the proof; the last line is JSON."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fastpath").setLevel(logging.INFO)
    begun = time.monotonic()

    def work() -> None:
        for key in ONLY_HF:
            if getattr(arguments, key) and arguments.to != "hf":
                raise ConfigError(f"--{key.replace('_', '-')}: is for --to hf")
        out = arguments.out or arguments.run / "export" / arguments.to
        begun_draft = arguments.to == "draft" and (out / "choice.json").is_file()  # goes on there
        if arguments.out and not begun_draft and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
            raise ConfigError(f"--out: {out} is there already, and is left as it is; choose a new folder")
        for change in arguments.changes:
            if arguments.to != "draft" or not change.startswith("distill."):
                raise ConfigError(
                    f"{change!r}: only --to draft takes changes, of its distillation (distill.KEY=VALUE)"
                )
        made = read_made(arguments.run, arguments.model)
        changes = tuple(arguments.changes)
        request = Request(arguments.python, arguments.max_shard_size, arguments.push, changes)
        with alone(out):
            facts = TARGETS[arguments.to](made, out, request)
        head = {"stage": "prune.export", "to": arguments.to, "model": made.stage, "path": str(out)}
        print(json.dumps({**head, **facts, "seconds": round(time.monotonic() - begun, 1)}))

    return guarded(work)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other exports out of this folder meanwhile. Raises RunError if one is being written there."""
    lock = out.with_name(f".{out.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock))
        except RunError:
            raise RunError(
                f"{out}: another export is being written there; wait for it, or name a new folder by --out"
            ) from None
        stack.callback(lock.unlink, missing_ok=True)
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prune.export", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", required=True, type=Path, help="run folder, for example runs/quickstart")
    parser.add_argument("--to", required=True, choices=sorted(TARGETS))
    parser.add_argument("--model", choices=EXPORTING, help="whose model; default: distill's, else prune's")
    parser.add_argument("--out", type=Path, help="folder to write; default: RUN/export/TARGET")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter of the environment with the target's packages"
    )
    parser.add_argument("--max-shard-size", default="", help="hf: largest file of weights, for example 5GB")
    parser.add_argument("--push", default="", metavar="OWNER/NAME", help="hf: upload it to the hub")
    parser.add_argument(
        "changes", nargs="*", metavar="key=value", help="draft: of its distillation, as distill.steps=400"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
