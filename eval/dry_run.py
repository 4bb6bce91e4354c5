"""python -m eval --dry-run: what would be scored and downloaded. No network, no model, no run folder."""

from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from eval.planned import Planned, planned_tasks
from eval.zoo import BASE
from fastpath.cli import console
from fastpath.config import EvalConfig, Recipe
from fastpath.runs import EXPORTING, is_done
from fastpath.sources import is_hub_id

UNKNOWN = "unknown until downloaded"


def preview(recipe: Recipe) -> dict[str, Any]:
    """Print the tasks and models of a recipe; return {"tasks": number, "downloads": [...]}.

    What is at hand already is no download. Raises ConfigError for an unknown task.
    """
    config = recipe.eval or EvalConfig()
    tasks = planned_tasks(config, seed=recipe.seed)
    out = console()
    out.print(_task_table(tasks))
    for line in _notes(tasks):
        out.print(line, markup=False)
    if config.agent:
        out.print(
            f"agent: {config.agent.tasks} tasks of 1 to 8 steps, {config.agent.calibration_tasks} more for "
            f"calibration, made here; {config.agent.trials} trials",
            markup=False,
        )
    models = _models(recipe, config)
    for label, name, state in models:
        out.print(f"model {label}: {name} ({state})", soft_wrap=True, markup=False)
    return {"tasks": len(tasks), "downloads": _downloads(tasks, models)}


def _task_table(tasks: list[Planned]) -> Table:
    table = Table(title="What would be scored", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("suite", "task", "output", "metric", "shots", "items", "download", "size"):
        justify: Any = "right" if heading in ("shots", "items") else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    for task in tasks:
        items = str(task.items) if task.exact else f"up to {task.items}"
        cells = (task.suite, task.name, task.output, task.metric, str(task.shots), items, *_data_cells(task))
        table.add_row(*map(escape, cells))
    return table


def _data_cells(task: Planned) -> tuple[str, str]:
    if task.data is None:
        return "none", "0 bytes"
    name = " ".join(filter(None, (task.data.path, task.data.config)))
    return name, "unknown" if task.data.bytes is None else f"{task.data.bytes / 1e6:.1f} MB, in the cache"


def _notes(tasks: list[Planned]) -> list[str]:
    suites = {task.suite: [t for t in tasks if t.suite == task.suite] for task in tasks}
    lines = [
        f"{suite}: {len(mine)} tasks, {'' if all(t.exact for t in mine) else 'up to '}"
        f"{sum(t.items for t in mine):,} items for each model"
        for suite, mine in suites.items()
    ]
    if any(task.data is not None and task.data.bytes is None for task in tasks):
        lines.append(f"sizes: {UNKNOWN}; `up to`: the split may hold fewer")
    return lines + [f"{t.name}: needs {', '.join(t.missing)}, not installed" for t in tasks if t.missing]


def _models(recipe: Recipe, config: EvalConfig) -> list[tuple[str, str, str]]:
    """(label, name, where it stands) of the base and every variant."""
    models = [(BASE, recipe.model.name, _model_state(recipe.model.name, recipe.model.revision))]
    for label, name in config.variants.items():
        if name in EXPORTING:
            done = is_done(recipe.out / name)
            state = "made" if done else f"not made yet: run `python -m {name}` first"
            models.append((label, str(recipe.out / name / "model"), state))
        else:
            models.append((label, name, _model_state(name, "main")))
    return models


def _model_state(name: str, revision: str) -> str:
    if not is_hub_id(name):
        return (
            "local" if name.startswith("embedded:") or Path(name).expanduser().exists() else "no such folder"
        )
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    return "in the cache" if isinstance(config, str) else f"download from the hub, {UNKNOWN}"


def _downloads(tasks: list[Planned], models: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    wanted: dict[str, list[Planned]] = {}
    for task in tasks:
        if task.data is not None and task.data.bytes is None:
            wanted.setdefault(task.data.path, []).append(task)
    datasets = [
        {
            "dataset": path,
            "configs": sorted({task.data.config for task in users if task.data and task.data.config}),
            "bytes": None,
            "tasks": [task.name for task in users],
        }
        for path, users in wanted.items()
    ]
    return [
        {"model": name, "bytes": None} for _, name, state in models if state.startswith("download")
    ] + datasets
