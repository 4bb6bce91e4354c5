"""What the tasks of a recipe are, read from lm-eval's YAML files: no task is built, nothing is downloaded.

lm-eval downloads in a task's constructor, so only our own tasks, whose items are made on the spot, are built.
"""

import ast
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
from datasets import config as datasets_config
from datasets.naming import camelcase_to_snakecase
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import GROUP_FIELD_NAMES

from eval.harness import (
    OUR_TASKS,
    SUITES,
    check_disjoint,
    check_known,
    load_tasks,
    num_items,
    silence,
    specs_of,
    task_manager,
)
from eval.hub_items import HUB_ITEMS
from eval.outcomes import PRIMARY_METRICS
from eval.own_data import own_tasks
from fastpath.config import EvalConfig

LIBRARY = Path(lm_eval.__file__).parents[1]


@dataclass(frozen=True)
class Data:
    """A dataset that a task reads: a hub id or address, and its configuration."""

    path: str
    config: str | None
    bytes: int | None
    """Size in the local cache of `datasets`; None: not there."""


@dataclass(frozen=True)
class Planned:
    """One task of a suite, as far as it is known before it is loaded."""

    suite: str
    name: str
    output: str
    metric: str
    shots: int
    items: int
    exact: bool
    """Whether `items` is their number; else it is the limit, and there may be fewer."""
    data: Data | None
    """What would be downloaded; None: the items are made here, or are local files."""
    missing: tuple[str, ...]
    """Packages that the task imports and that are not installed."""


def planned_tasks(config: EvalConfig, *, seed: int) -> list[Planned]:
    """Every task of every suite, groups expanded. ConfigError for one unknown, or in two suites."""
    silence()
    manager, own = task_manager(config, seed), own_tasks(config.data)
    tasks: list[Planned] = []
    for key in SUITES:
        specs = specs_of(config, key, own)
        check_known(manager, key, specs)
        for spec in specs:
            if not isinstance(spec, str):
                tasks += _made_here(manager, key, spec, config, seed)
                continue
            for name, body in leaves(manager, spec):
                entry = manager.task_index.get(name)
                ours = entry is not None and entry.yaml_path and entry.yaml_path.parent == OUR_TASKS
                tasks += (
                    _made_here(manager, key, name, config, seed) if ours else [_read(key, name, body, config)]
                )
    check_disjoint({key: {t.name: t for t in tasks if t.suite == key} for key in SUITES})
    return tasks


def leaves(
    manager: TaskManager, spec: str | dict[str, Any], changes: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, YAML as data) of each task behind a name, tag, group or entry of a group; as lm-eval expands it.

    Functions are not imported: they stay the text PATH/MODULE.NAME.
    """
    own = {"task": spec} if isinstance(spec, str) else dict(spec)
    name = own.pop("group", None) or own["task"]
    entry = manager.task_index.get(name)
    body = {**((entry and entry.cfg) or {}), **(changes or {}), **own}
    if entry is not None and entry.yaml_path is None and entry.cfg is None:  # a tag
        for member in sorted(entry.tags):
            yield from leaves(manager, member, changes)
    elif isinstance(children := (entry.cfg or {}).get("task") if entry else own.get("task"), list):
        passed = {k: v for k, v in body.items() if k not in GROUP_FIELD_NAMES}
        for child in children:
            yield from leaves(manager, child, passed)
    else:
        yield name, body


def _made_here(
    manager: TaskManager, key: str, spec: str | dict[str, Any], config: EvalConfig, seed: int
) -> Iterator[Planned]:
    for name, task in load_tasks(manager, key, [spec], seed=seed, shots=config.shots).items():
        yield Planned(
            suite=key,
            name=name,
            output=task.OUTPUT_TYPE,
            metric=_metric(vars(task.config)),
            shots=task.config.num_fewshot,
            items=num_items(task, config),
            exact=True,
            data=None,
            missing=(),
        )


def _read(key: str, name: str, body: dict[str, Any], config: EvalConfig) -> Planned:
    if "class" in body:
        body = _class_facts(body["class"]) | body
    data, cached = _data(body)
    known = cached if cached is not None else HUB_ITEMS.get(name)
    return Planned(
        suite=key,
        name=name,
        output=body.get("output_type", "generate_until"),  # lm-eval's default
        metric=_metric(body),
        shots=body.get("num_fewshot") or 0,
        items=config.items_per_task if known is None else min(known, config.items_per_task),
        exact=known is not None,
        data=data,
        missing=tuple(sorted(_missing(_modules(body), set()))),
    )


def _metric(body: Mapping[str, Any]) -> str:
    names = [metric.get("metric") for metric in body.get("metric_list") or ()]
    return next((primary for primary in PRIMARY_METRICS if primary in names), "?")


def _class_facts(address: str) -> dict[str, Any]:
    """The dataset and the metric of a task that is a Python class: its source is read, not run."""
    source = _module(address).read_text(encoding="utf-8")
    body = next(
        (
            node.body
            for node in ast.parse(source).body
            if isinstance(node, ast.ClassDef) and node.name == address.rpartition(".")[2]
        ),
        [],
    )
    constants = {
        target.id: node.value.value
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    metrics = [{"metric": name} for name in PRIMARY_METRICS if f'"{name}"' in source]
    return {
        "dataset_path": constants.get("DATASET_PATH"),
        "dataset_name": constants.get("DATASET_NAME"),
        "metric_list": metrics,
    }


def _data(body: Mapping[str, Any]) -> tuple[Data | None, int | None]:
    """(what would be downloaded, number of items if the cache of `datasets` knows it)."""
    files = _texts((body.get("dataset_kwargs") or {}).get("data_files"))
    if files:
        away = sorted(file for file in files if "://" in file)
        return (Data(", ".join(away), None, None) if away else None), None
    path, name = body.get("dataset_path"), body.get("dataset_name")
    if not path or Path(path).is_dir():
        return None, None
    info = _cached_info(path, name)
    if info is None:
        return Data(path, name, None), None
    splits = info.get("splits") or {}
    split = splits.get(body.get("test_split") or body.get("validation_split")) or {}
    return Data(path, name, info.get("dataset_size")), split.get("num_examples")


def _cached_info(path: str, name: str | None) -> dict[str, Any] | None:
    """What `datasets` noted of a dataset when it was downloaded; None: it is not in its cache."""
    owner, _, short = path.rpartition("/")
    folder = f"{owner}___{camelcase_to_snakecase(short)}" if owner else camelcase_to_snakecase(short)
    found = sorted(
        Path(datasets_config.HF_DATASETS_CACHE, folder).glob(f"{name or '*'}/*/*/dataset_info.json")
    )
    return json.loads(found[-1].read_text(encoding="utf-8")) if found else None


def _modules(body: Any) -> set[Path]:
    """The files of the functions that a task's YAML names."""
    files = (_module(text) for text in _texts(body) if text.startswith("/"))
    return {file for file in files if file.is_file()}


def _module(address: str) -> Path:
    return Path(address.rpartition(".")[0] + ".py")


def _texts(value: Any) -> list[str]:
    """Every text inside a value of a YAML file."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inside for text in _texts(one)]


def _missing(files: set[Path], seen: set[Path]) -> set[str]:
    """Packages that are not installed and that these files import, or lm-eval's files that they import."""
    missing = set()
    for file in files - seen:
        seen.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.startswith("lm_eval.tasks."):
                    beside = LIBRARY / f"{name.replace('.', '/')}.py"
                    missing |= _missing({beside} if beside.is_file() else set(), seen)
                elif importlib.util.find_spec(name.split(".")[0]) is None:
                    missing.add(name.split(".")[0])
    return missing
