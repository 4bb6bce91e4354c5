"""Model folders -> outcomes of every item -> gap and speed -> report."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from eval.answers import answer
from eval.gap import claim_facts, suite_facts
from eval.harness import evaluate_task, load_suites, num_requests
from eval.report import gap_markdown, write_report
from eval.speed import measure_speed
from fastpath.card import write_card
from fastpath.config import EvalConfig, Recipe
from fastpath.errors import ConfigError, RunError
from fastpath.models import (
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    weights_sha256,
)
from fastpath.plan import read_plan
from fastpath.progress import progress
from fastpath.runs import finish, is_done, stage_folder, step, write_json, write_text
from fastpath.sources import Source, locate

log = logging.getLogger("fastpath")
BASE = "base"


def run(recipe: Recipe) -> Path:
    """Evaluate the base and its variants; return the stage's folder: results.json, items.jsonl, report.html.

    Raises UserError; a killed run goes on at the (model, task) it died in.
    """
    config = recipe.eval or EvalConfig()
    sources = find_models(recipe, config)
    with stage_folder(recipe, "eval") as out:
        _check_same_weights(out, sources)
        if is_done(out):
            return out
        device = pick_device(recipe.model)
        dtype, reason = pick_dtype(recipe.model, device)
        log.info("eval: %s in %s on %s (%s)", " and ".join(sources), str(dtype)[6:], device, reason)
        zoo = Zoo(sources, dtype=dtype, device=device, trust=recipe.model.trust_remote_code)
        outcomes = {label: evaluate_model(zoo, label, config, seed=recipe.seed, out=out) for label in sources}
        answers = {label: step(out, f"answers/{label}.json", lambda: answer(*zoo.get(label), config.prompt))  # noqa: B023
                   for label in sources}  # fmt: skip
        speed = step(out, "speed.json", lambda: _speed(zoo, config, recipe.seed))
        results = {
            "version": 1,
            "base": recipe.model.name,
            "seed": recipe.seed,
            "models": {label: str(source.folder) for label, source in sources.items()},
            "variants": {
                label: compare(outcomes, label, config, seed=recipe.seed)
                for label in sources
                if label != BASE
            },
            "speed": speed,
            "answers": {"prompt": config.prompt, **answers},
        }
        write_json(out / "results.json", results)
        write_text(out / "items.jsonl", "".join(json.dumps(row) + "\n" for row in joined_rows(outcomes)))
        write_report(out)
        for label, where in config.variants.items():
            if where == "prune":
                model_folder = sources[label].folder
                write_card(
                    model_folder, read_plan(model_folder.parent / "plan.json"), gap_markdown(out, label)
                )
        finish(out)
    return out


def find_models(recipe: Recipe, config: EvalConfig) -> dict[str, Source]:
    """Label -> weights of the base and every variant. UserError names what is missing, before any work."""
    if BASE in config.variants:
        raise ConfigError(f"eval.variants: {BASE!r} is the label of the recipe's own model; choose another")
    trust = recipe.model.trust_remote_code
    sources = {BASE: locate(recipe.model.name, revision=recipe.model.revision, trust_remote_code=trust)}
    for label, where in config.variants.items():
        if where == "prune":
            folder = recipe.out / "prune"
            if not is_done(folder):
                raise RunError(f"{folder}: not finished; first run `python -m prune` with the same recipe")
            sources[label] = locate(str((folder / "model").absolute()))
        else:
            sources[label] = locate(where, trust_remote_code=trust)
    return sources


def _check_same_weights(out: Path, sources: dict[str, Source]) -> None:
    """Outcomes belong to weights: refuse to go on where a folder holds other ones since."""
    now = {label: weights_sha256(source.folder) for label, source in sources.items()}
    for label, digest in step(out, "weights.json", lambda: now).items():
        if now.get(label) != digest:
            raise RunError(
                f"{out}: holds results of other weights of {label!r}; choose another out= or delete it"
            )


class Zoo:
    """The models of a run, each loaded when it is first asked for."""

    def __init__(
        self, sources: dict[str, Source], *, dtype: torch.dtype, device: torch.device, trust: bool
    ) -> None:
        self.sources, self._dtype, self._device, self._trust = sources, dtype, device, trust
        self._loaded: dict[str, tuple[Any, Any]] = {}

    def get(self, label: str) -> tuple[Any, Any]:
        """(model, tokenizer)."""
        if label not in self._loaded:
            folder = self.sources[label].folder
            tokenizer = load_tokenizer(folder, trust_remote_code=self._trust)
            model = load_model(folder, dtype=self._dtype, device=self._device, trust_remote_code=self._trust)
            self._loaded[label] = model, tokenizer
        return self._loaded[label]


def evaluate_model(
    zoo: Zoo, label: str, config: EvalConfig, *, seed: int, out: Path
) -> dict[str, dict[str, dict[str, Any]]]:
    """{suite: {task: outcomes}} of one model; each task is kept in OUT/outcomes/ as soon as it is done."""
    suites = load_suites(config, seed=seed)
    total = sum(num_requests(task, config) for tasks in suites.values() for task in tasks.values())
    outcomes: dict[str, dict[str, Any]] = {}
    with progress(f"evaluating {label}: {sum(map(len, suites.values()))} tasks", total) as advance:
        for suite, tasks in suites.items():
            outcomes[suite] = {}
            for name, task in tasks.items():
                path = f"outcomes/{label}/{name}.json"
                if (out / path).exists():
                    advance(num_requests(task, config))
                outcomes[suite][name] = step(
                    out, path, lambda: evaluate_task(*zoo.get(label), task, config, advance=advance)  # noqa: B023
                )  # fmt: skip
    return outcomes


def compare(outcomes: dict[str, Any], label: str, config: EvalConfig, *, seed: int) -> dict[str, Any]:
    """The gap of one variant: each suite, and the claim that simple tasks are essentially unchanged."""
    base, fast = outcomes[BASE], outcomes[label]
    facts = {suite: suite_facts(base[suite], fast[suite], seed=seed) for suite in base}
    floors = [name for name, task in facts["simple"]["tasks"].items() if task["floor"]]
    claim = claim_facts(base["simple"], fast["simple"], margin=config.margin, floors=floors, seed=seed)
    return {**facts, "claim": claim}


def joined_rows(outcomes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row an item: what it was, and what each model did with it."""
    for suite, tasks in outcomes[BASE].items():
        for name, of_base in tasks.items():
            for number, row in enumerate(of_base["rows"]):
                facts = {key: row.get(key) for key in ("id", "template", "source", "k", "target")}
                sides = {label: o[suite][name]["rows"][number] for label, o in outcomes.items()}
                yield {
                    "suite": suite,
                    "task": name,
                    **facts,
                    **{side: {k: r.get(k) for k in ("right", "answer", "nats")} for side, r in sides.items()},
                }


def _speed(zoo: Zoo, config: EvalConfig, seed: int) -> dict[str, Any]:
    models = {label: zoo.get(label)[0] for label in zoo.sources}
    shape = config.speed
    with progress("measuring speed, base and variants in turn", (shape.repeats + 1) * len(models)) as advance:
        return measure_speed(
            models,
            prompt_tokens=shape.prompt_tokens,
            new_tokens=shape.new_tokens,
            batch_size=shape.batch_size,
            repeats=shape.repeats,
            seed=seed,
            progress=lambda: advance(1),
        )
