"""lm-eval is the engine; this file and lm.py are the only ones that call it."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval.api.task
import numpy as np
from lm_eval import evaluate
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from eval.lm import FastLM
from eval.own_data import own_tasks
from fastpath.config import EvalConfig
from fastpath.errors import ConfigError

OUR_TASKS = Path(__file__).parent / "tasks"
PRIMARY_METRICS = ("acc", "exact_match", "acc_norm")  # the first that a task reports for each item


Suites = dict[str, dict[str, Any]]
"""{suite: {task name: lm-eval task}}."""


def load_suites(config: EvalConfig, *, seed: int) -> Suites:
    """{"simple": {task name: lm-eval task}, "complex": {...}}, groups expanded.

    Raises ConfigError naming an unknown task, one that has no items, or one that stands in both suites.
    """
    _silence()
    manager, own = _manager(config, seed), own_tasks(config.data)
    suites = {}
    for key, names in (("simple", config.simple), ("complex", config.complex)):
        if not names and not own[key]:
            raise ConfigError(
                f"eval.{key}: empty; name at least one lm-eval task or group, such as fastpath_{key}, "
                f"or give eval.data lines of this suite"
            )
        suites[key] = _load(manager, key, [*names, *own[key]], seed)
    if both := sorted(suites["simple"].keys() & suites["complex"].keys()):
        raise ConfigError(f"eval.complex: {both[0]} is in the simple suite as well")
    return suites


def _manager(config: EvalConfig, seed: int) -> TaskManager:
    for path in config.include_path:
        if not Path(path).is_dir():
            raise ConfigError(f"eval.include_path: no such folder: {path}")
    paths: list[str | Path] = [OUR_TASKS, *config.include_path]
    facts: Any = {"items_seed": seed, "num_items": config.items_per_task}
    ours = TaskManager(include_path=paths, include_defaults=False, metadata=facts)
    others = [n for n in (*config.simple, *config.complex) if n not in ours.all_tasks]
    if all(name.startswith("fastpath_") for name in others):  # none, or misspelt ones of ours
        return ours
    return TaskManager(include_path=paths, metadata=facts)  # reads some 10,000 YAML files: seconds


def _load(manager: TaskManager, key: str, specs: Sequence[Any], seed: int) -> dict[str, Any]:
    for name in specs:
        if isinstance(name, str) and name not in manager.all_tasks:
            ours = ", ".join(n for n in manager.all_tasks if n.startswith("fastpath_"))
            raise ConfigError(
                f"eval.{key}: unknown task {name!r}; ours are {ours}; others: `lm_eval ls tasks`"
            )
    try:
        tasks = manager.load(list(specs))["tasks"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        names = ", ".join(spec if isinstance(spec, str) else spec["task"] for spec in specs)
        raise ConfigError(f"eval.{key}: {names} cannot be loaded: {error}") from None
    for name, task in tasks.items():
        if not len(task.eval_docs):
            raise ConfigError(f"eval.{key}: task {name} has no items")
        if task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    return tasks


def evaluate_task(
    model: Any, tokenizer: Any, task: Any, config: EvalConfig, *, advance: Callable[[float], None]
) -> dict[str, Any]:
    """Every item's outcome: {"metric", "chance", "rows": [{"id", "k", "right", ...}], "control"}."""
    lm = FastLM(model, tokenizer, batch_size=config.batch_size, advance=advance)
    # Not simple_evaluate: for each task it reads 10,000 YAML files and runs tools that describe the machine.
    results = evaluate(
        lm=lm,
        task_dict={"tasks": {task.config.task: task}},
        limit=None if is_ours(task) else config.items_per_task,
        bootstrap_iters=0,
    )
    (samples,) = results["samples"].values()
    samples = sorted(samples, key=lambda s: s["doc_id"])
    scored = [s for s in samples if any(m in s for m in PRIMARY_METRICS)]
    metric = next((m for m in PRIMARY_METRICS if scored and m in scored[0]), None)
    if metric is None:
        raise ConfigError(f"{task.config.task}: reports none of {', '.join(PRIMARY_METRICS)} for its items")
    choices = [len(s["arguments"]) for s in scored] if task.OUTPUT_TYPE == "multiple_choice" else []
    return {
        "metric": metric,
        "chance": float(np.mean([1 / n for n in choices])) if choices else 0.0,
        "rows": [_row(s, metric) for s in scored],
        "control": [s["prose_nats_per_byte"] for s in samples if "prose_nats_per_byte" in s],
    }


def is_ours(task: Any) -> bool:
    """Whether the task's items come from our generators (which were told how many to make)."""
    return str(task.config.task).startswith("fastpath_")


def num_requests(task: Any, config: EvalConfig) -> int:
    """How many likelihoods or generations a task asks for, about: the length of a progress bar."""
    docs = len(task.eval_docs) if is_ours(task) else min(len(task.eval_docs), config.items_per_task)
    if task.OUTPUT_TYPE != "multiple_choice":
        return docs
    return docs * len(task.doc_to_choice(task.eval_docs[0]))


def _row(sample: dict[str, Any], metric: str) -> dict[str, Any]:
    doc = sample["doc"]
    row = {
        "id": str(doc.get("id", sample["doc_hash"])),
        "template": str(doc.get("template", sample["doc_id"])),
        "source": str(doc.get("source", sample["doc_id"])),
        "k": doc.get("k"),
        "right": float(sample[metric]),
        "prompt": str(_arguments(sample)[0][0]),
        "target": str(sample["target"]),
    }
    if sample["arguments"] and isinstance(sample["filtered_resps"][0], tuple | list):
        row["answer"] = _chosen(sample)
        row["nats"] = _gold_nats(sample)
    elif sample["filtered_resps"]:
        row["answer"] = str(sample["filtered_resps"][0])[:200]
    return row


def _arguments(sample: dict[str, Any]) -> list[Any]:
    """The (context, continuation) of each request; a dict by name once lm-eval has logged them."""
    arguments = sample["arguments"]
    if isinstance(arguments, dict):
        return [(a["arg_0"], a["arg_1"]) for a in arguments.values()]
    return list(arguments)


def _chosen(sample: dict[str, Any]) -> str:
    likelihoods = [float(response[0]) for response in sample["filtered_resps"]]
    if len(likelihoods) == 1:
        return str(sample["target"]).strip() if sample["filtered_resps"][0][1] else "(something else)"
    return str(_arguments(sample)[int(np.argmax(likelihoods))][1]).strip()


def _gold_nats(sample: dict[str, Any]) -> float:
    likelihoods = [float(response[0]) for response in sample["filtered_resps"]]
    gold = int(sample["target"]) if len(likelihoods) > 1 and str(sample["target"]).isdigit() else 0
    return -likelihoods[gold]


def _silence() -> None:
    for name in ("lm_eval", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)  # a bar a task for prompts joined in no time
