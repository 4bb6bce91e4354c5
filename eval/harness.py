"""lm-eval is the engine: tasks are loaded and evaluated here; lm.py and engines.py are the models it asks."""

import logging
import random
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import lm_eval.api.task
from lm_eval import evaluate
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from tqdm import tqdm

from eval.outcomes import PRIMARY_METRICS, outcomes
from eval.own_data import own_tasks
from fastpath.config import EvalConfig
from fastpath.errors import ConfigError

OUR_TASKS = Path(__file__).parent / "tasks"
SUITES = ("simple", "complex", "depth", "knowledge")

Suites = dict[str, dict[str, Any]]
"""{suite: {task name: lm-eval task}}."""


def load_suites(config: EvalConfig, *, seed: int) -> Suites:
    """{"simple": {task name: lm-eval task}, "complex": {...}, ...}, groups expanded; empty suites left out.

    Raises ConfigError naming an unknown task, one that has no items, or one that stands in two suites.
    """
    silence()
    manager, own = task_manager(config, seed), own_tasks(config.data)
    suites: Suites = {}
    for key in SUITES:
        if specs := specs_of(config, key, own):
            suites[key] = load_tasks(manager, key, specs, seed=seed, shots=config.shots)
    check_disjoint(suites)
    return suites


def specs_of(config: EvalConfig, key: str, own: Mapping[str, Sequence[Any]]) -> list[Any]:
    """What the recipe names for a suite: names of lm-eval, and tasks of the user's own lines."""
    specs = [*getattr(config, key), *own.get(key, ())]
    if not specs and key in ("simple", "complex"):
        raise ConfigError(
            f"eval.{key}: empty; name at least one lm-eval task or group, such as fastpath_{key}, "
            f"or give eval.data lines of this suite"
        )
    return specs


def check_dial(name: str, task: Any) -> None:
    """Raise ConfigError unless the task's items have answers to choose from at two depths k or more."""
    if task.OUTPUT_TYPE == "generate_until":
        raise ConfigError(f"eval.depth: {name}: a dial shows nats of an answer; name it in eval.complex")
    depths = {doc.get("k") for doc in task.eval_docs}
    if None in depths or len(depths) < 2:
        raise ConfigError(f"eval.depth: {name} is no depth dial: its items have no `k`, or all the same")


def check_disjoint(suites: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ConfigError naming a task that stands in two suites."""
    for one, other in combinations(suites, 2):
        if both := sorted(suites[one].keys() & suites[other].keys()):
            raise ConfigError(f"eval.{other}: {both[0]} is in the {one} suite as well")


def task_manager(config: EvalConfig, seed: int) -> TaskManager:
    """lm-eval's index of tasks: ours and the user's, and its own only if one of these is asked for."""
    for path in config.include_path:
        if not Path(path).is_dir():
            raise ConfigError(f"eval.include_path: no such folder: {path}")
        for file in sorted(Path(path).rglob("*.yaml")):
            try:
                load_yaml(file, resolve_func=False, recursive=False)
            except Exception as error:  # lm-eval would skip it, and say that the task is unknown
                reason = " ".join(str(error).split())
                raise ConfigError(f"eval.include_path: {file}: cannot be read ({reason:.100})") from None
    paths: list[str | Path] = [OUR_TASKS, *config.include_path]
    facts: Any = {
        "items_seed": seed,
        "num_items": config.items_per_task,
        "items_per_level": config.items_per_level,
    }
    ours = TaskManager(include_path=paths, include_defaults=False, metadata=facts)
    others = [n for key in SUITES for n in getattr(config, key) if n not in ours.all_tasks]
    if all(name.startswith("fastpath_") for name in others):  # none, or misspelt ones of ours
        return ours
    return TaskManager(include_path=paths, metadata=facts)  # reads some 10,000 YAML files: seconds


def check_known(manager: TaskManager, key: str, specs: Sequence[Any]) -> None:
    """Raise ConfigError naming the first task that lm-eval does not know."""
    for name in specs:
        if isinstance(name, str) and name not in manager.all_tasks:
            ours = ", ".join(n for n in manager.all_tasks if n.startswith("fastpath_"))
            raise ConfigError(
                f"eval.{key}: unknown task {name!r}; ours are {ours}; others: `lm_eval ls tasks`"
            )


def load_tasks(
    manager: TaskManager, key: str, specs: Sequence[Any], *, seed: int, shots: int
) -> dict[str, Any]:
    """{task name: lm-eval task}, its items made or downloaded. Raises ConfigError naming what cannot be."""
    check_known(manager, key, specs)
    try:
        tasks = manager.load(list(specs))["tasks"]
    except Exception as error:  # a stranger's task may fail in any way
        names = ", ".join(spec if isinstance(spec, str) else spec["task"] for spec in specs)
        raise ConfigError(f"eval.{key}: {names} cannot be loaded: {error}") from None
    for name, task in tasks.items():
        if not len(task.eval_docs):
            raise ConfigError(f"eval.{key}: task {name} has no items")
        metrics = {m.get("metric") for m in task.config.metric_list or () if isinstance(m.get("metric"), str)}
        if metrics and not metrics & set(PRIMARY_METRICS):
            raise ConfigError(
                f"eval.{key}: task {name} reports {', '.join(sorted(metrics))}; "
                f"one of {', '.join(PRIMARY_METRICS)} is needed"
            )
        if is_ours(task) and task.config.fewshot_split:
            task.set_config(key="num_fewshot", value=shots)
        elif task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
        if key == "depth":
            check_dial(name, task)
    return tasks


def evaluate_task(lm: Any, task: Any, config: EvalConfig) -> dict[str, Any]:
    """Every item's outcome, as outcomes.outcomes gives it; {} in a process that only answers a share."""
    # Not simple_evaluate: for each task it reads 10,000 YAML files and runs tools that describe the machine.
    results = evaluate(
        lm=lm,
        task_dict={"tasks": {task.config.task: task}},
        samples=_sample(task, config),
        bootstrap_iters=0,
    )
    if results is None:
        return {}
    (samples,) = results["samples"].values()
    return outcomes(task, samples)


def is_ours(task: Any) -> bool:
    """Whether the task's items come from our generators (which were told how many to make)."""
    return Path((task.config.metadata or {}).get("config_source", "")).parent == OUR_TASKS


def num_items(task: Any, config: EvalConfig) -> int:
    """How many items of a task are scored: all of the user's and of our generators', else up to the limit."""
    whole = is_ours(task) or (task.config.metadata or {}).get("own_data")
    return len(task.eval_docs) if whole else min(len(task.eval_docs), config.items_per_task)


def _sample(task: Any, config: EvalConfig) -> dict[str, list[int]] | None:
    """The items to score, where not all are: drawn, for many splits are ordered; the same in every run."""
    total, wanted = len(task.eval_docs), num_items(task, config)
    if wanted == total:
        return None
    return {task.config.task: sorted(random.Random(task.config.task).sample(range(total), wanted))}


def num_requests(task: Any, config: EvalConfig) -> int:
    """How many likelihoods or generations a task asks for, about: the length of a progress bar."""
    docs = num_items(task, config)
    if task.OUTPUT_TYPE != "multiple_choice":
        return docs
    return docs * len(task.doc_to_choice(task.eval_docs[0]))


def silence() -> None:
    """lm-eval's advice and bars off: ours say what is running."""
    for name in ("lm_eval", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)  # a bar a task for prompts joined in no time
