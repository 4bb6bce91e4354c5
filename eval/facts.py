"""What a run folder says, read once for every report. Nothing is computed here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpath.errors import RunError
from fastpath.plan import Plan, Scores, read_plan, read_scores
from fastpath.runs import EXPORTING, read_json

RESULTS_VERSION = 2


@dataclass(frozen=True)
class Facts:
    """One evaluated run."""

    name: str
    folder: Path
    """RUN/eval."""
    results: dict[str, Any]
    """results.json."""
    items: list[dict[str, Any]]
    """The rows of items.jsonl."""
    env: dict[str, Any]
    digests: dict[str, str]
    """Model -> digest of the weights that were evaluated."""
    lineages: dict[str, dict[str, Any] | None]
    """Model -> lineage.json of its folder; None where there is none."""
    scores: Scores | None
    """Of the stage prune, where it scored: a plan that is given has none."""
    plan: Plan | None
    """Of the stage prune, where the run has one."""

    @property
    def variants(self) -> dict[str, Any]:
        """Label -> its gap."""
        return self.results["variants"]


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of an eval folder. Raises RunError if another version of fastpath wrote it."""
    results = read_json(folder / "results.json")
    check_version(folder / "results.json", results.get("version"))
    return results


def check_version(what: Path, version: Any) -> None:
    """Raise RunError unless this is the version of results that this code writes and reads."""
    if version != RESULTS_VERSION:
        raise RunError(
            f"{what}: version {version!r}, this code reads version {RESULTS_VERSION}; "
            "evaluate the run again in another out="
        )


def read_facts(folder: Path) -> Facts:
    """The facts of an eval folder (RUN/eval). Raises RunError if it holds none that this code reads."""
    if not (folder / "results.json").exists():
        what = "not evaluated yet; first run `python -m eval`" if folder.parent.is_dir() else "no such run"
        raise RunError(f"{folder.parent}: {what}")
    results = read_results(folder)
    prune = folder.parent / "prune"
    return Facts(
        name=folder.parent.resolve().name,
        folder=folder,
        results=results,
        items=_items(folder / "items.jsonl"),
        env=read_json(folder / "env.json"),
        digests=read_json(folder / "weights.json"),
        lineages={label: _lineage(folder, Path(model)) for label, model in results["models"].items()},
        scores=read_scores(prune / "scores.json") if (prune / "scores.json").exists() else None,
        plan=read_plan(prune / "plan.json") if (prune / "plan.json").exists() else None,
    )


def _items(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise RunError(f"{path}: no such file; delete DONE beside it to have it made again") from None
    except ValueError as error:
        raise RunError(f"{path}: not valid JSON lines ({error}); delete DONE to have it made again") from None


def _lineage(folder: Path, model: Path) -> dict[str, Any] | None:
    """lineage.json of a model folder; a run that was moved has what it exported beside it."""
    beside = folder.parent.joinpath(*model.parts[-2:])
    where = beside if not model.is_dir() and beside.parent.name in EXPORTING else model
    return read_json(where / "lineage.json") if (where / "lineage.json").is_file() else None
