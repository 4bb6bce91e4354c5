"""Model folders -> outcomes of every item -> gap and speed -> report."""

import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from eval.agent.run import check_agent, run_agent
from eval.answers import answer
from eval.depth import depth_facts
from eval.engines import check_engine
from eval.facts import RESULTS_VERSION, check_version
from eval.gap import claim_facts, suite_facts
from eval.harness import Suites, evaluate_task, load_suites, num_items, num_requests
from eval.panel import Panel
from eval.report import gap_markdown, write_report
from eval.speed import measure_speed
from eval.zoo import BASE, Zoo, check_same_weights, find_models
from fastpath.card import write_card
from fastpath.config import EvalConfig, Recipe
from fastpath.errors import ConfigError, RunError, TaskError, UserError
from fastpath.models import Lineage, is_ours, pick_device, pick_dtype
from fastpath.plan import read_plan
from fastpath.progress import progress
from fastpath.runs import EXPORTING, finish, is_done, stage_folder, step, write_json, write_text
from fastpath.sources import Source
from fastpath.team import Team

log = logging.getLogger("fastpath")

ITEM_KEYS = ("id", "template", "source", "k", "prompt", "target", "short_cut")
ANSWER_KEYS = ("right", "answer", "nats", "share")


def run(recipe: Recipe) -> Path:
    """Evaluate the base and its variants; return the stage's folder: results.json, items.jsonl, report.html.

    Raises UserError; a killed run goes on at the (model, task) it died in. TaskError names the tasks that
    failed after all others are done; the rerun does only these.
    """
    config = recipe.eval or EvalConfig()
    check_engine(config.engine)
    if recipe.model.device_map != "none":
        raise ConfigError(
            "model.device_map: eval holds each model on one device; model.device_map=none works"
        )
    device = pick_device(recipe.model)
    team = Team.launched(device)
    check_agent(config, recipe.costs)
    suites = load_suites(config, seed=recipe.seed)
    sources, digests = find_models(recipe, config)
    check_shares(suites, config, team)
    check_unseen(suites, sources)
    dtype, reason = pick_dtype(recipe.model, device)
    zoo = Zoo(sources, dtype=dtype, device=device, trust=recipe.model.trust_remote_code)
    zoo.check_vocabularies()
    zoo.check_speed(config.speed)
    with stage_folder(recipe, "eval") as out:
        check_same_weights(out, digests)
        check_outcomes_version(out)
        if is_done(out):
            write_cards(out, config, sources)
            log.info("%s: already done; this is the saved result", out)
            team.tell(None)
            return out
        log.info("eval: %s in %s on %s (%s)", " and ".join(sources), str(dtype)[6:], device, reason)
        if kept := len(list(out.glob("outcomes/*/*.json"))):
            log.info("going on: %d of %d tasks are done", kept, len(sources) * sum(map(len, suites.values())))
        team.tell(sources)
        outcomes, failed = evaluate_models(zoo, suites, config, team, out=out)
        team.tell(None)
        if failed:
            raise TaskError(
                f"{'; '.join(failed)}; all other tasks are done, the same command tries these again"
            )
        answers = {}
        for label in sources:
            answers[label] = step(out, f"answers/{label}.json", partial(_answer, zoo, label, config.prompt))
        speed = step(out, "speed.json", lambda: _speed(zoo, config, recipe.seed))
        agent = run_agent(zoo, recipe, config, speed, out=out)
        results = results_of(recipe, config, sources, outcomes, speed=speed, answers=answers)
        results |= {"agent": agent} if agent else {}
        write_json(out / "results.json", results)
        write_text(out / "items.jsonl", "".join(json.dumps(row) + "\n" for row in joined_rows(outcomes)))
        write_report(out)
        write_cards(out, config, sources)
        finish(out)
    return out


def results_of(
    recipe: Recipe,
    config: EvalConfig,
    sources: Mapping[str, Source],
    outcomes: dict[str, Any],
    *,
    speed: dict[str, Any],
    answers: dict[str, str],
) -> dict[str, Any]:
    """What results.json holds: every gap, the depth dials, speed, one prompt answered."""
    variants = [label for label in sources if label != BASE]
    return {
        "version": RESULTS_VERSION,
        "base": recipe.model.name,
        "seed": recipe.seed,
        "models": {label: str(source.folder) for label, source in sources.items()},
        "variants": {label: compare(outcomes, label, config, seed=recipe.seed) for label in variants},
        "depth": depth_facts(by_dial(outcomes), seed=recipe.seed),
        "speed": speed,
        "answers": {"prompt": config.prompt, **answers},
    }


def check_outcomes_version(out: Path) -> None:
    """Raise RunError if an unfinished run holds outcomes of another version of fastpath."""
    foreign = (out / "outcomes").exists() and not (out / "version.json").exists()
    version = None if foreign else step(out, "version.json", lambda: RESULTS_VERSION)
    check_version(out / "outcomes", version)


def write_cards(out: Path, config: EvalConfig, sources: Mapping[str, Source]) -> None:
    """Put the measured gap into the model card of every variant that this run exported."""
    for label, where in config.variants.items():
        if where in EXPORTING:
            folder = sources[label].folder
            write_card(folder, read_plan(folder.parent / "plan.json"), gap_markdown(out, label))


def evaluate_models(
    zoo: Zoo, suites: Suites, config: EvalConfig, team: Team, *, out: Path
) -> tuple[dict[str, Any], list[str]]:
    """({label: {suite: {task: outcomes}}}, what failed); each is kept in OUT/outcomes/ once it is done."""
    labels = list(zoo.sources)
    todo = [(suite, name, task) for suite, tasks in suites.items() for name, task in tasks.items()]
    outcomes: dict[str, Any] = {label: {suite: {} for suite in suites} for label in labels}
    failed = []
    panel: Panel | None = None
    total = len(labels) * sum(num_requests(task, config) for _, _, task in todo)
    with progress(f"evaluating {', '.join(labels)}: {len(todo)} tasks", total) as advance:
        for suite, name, task in todo:
            paths = {label: f"outcomes/{label}/{name}.json" for label in labels}
            missing = [label for label in labels if not (out / paths[label]).exists()]
            advance(num_requests(task, config) * (len(labels) - len(missing)), kept=True)
            if missing:
                panel = panel or Panel(zoo, config, team=team)
                team.tell((suite, name, missing))
            lms = panel.lms(task.OUTPUT_TYPE, missing, advance) if panel else {}
            for label in labels:
                try:
                    make = partial(evaluate_task, lms.get(label), task, config)
                    outcomes[label][suite][name] = step(out, paths[label], make)
                except UserError:
                    raise
                except Exception as error:
                    # A task of somebody else's may raise anything; the others shall finish.
                    trace = out / f"outcomes/{label}/{name}.error.txt"
                    write_text(trace, traceback.format_exc())
                    fault = f"{type(error).__name__}: {error}"
                    failed.append(f"task {name} failed on {label} ({fault}; see {trace})")
                    if team.size > 1:  # the helpers may wait for an answer: no other task can follow
                        raise TaskError(f"{failed[-1]}; the same command goes on") from None
    return outcomes, failed


def check_shares(suites: Suites, config: EvalConfig, team: Team) -> None:
    """Raise ConfigError if a task has fewer items than there are processes: some would wait for ever."""
    for tasks in suites.values():
        for name, task in tasks.items():
            if (items := num_items(task, config)) < team.size:
                raise ConfigError(f"{name}: {items} items are too few for {team.size} processes")


def _answer(zoo: Zoo, label: str, prompt: str) -> str:
    return answer(*zoo.get(label), prompt)


def check_unseen(suites: Suites, sources: Mapping[str, Source]) -> None:
    """Raise RunError if a variant was calibrated on an item of these suites (lineage.json knows)."""
    for label, source in sources.items():
        seen = set(Lineage.read(source.folder).calibration_items) if is_ours(source.folder) else set()
        for name, docs in ((n, task.eval_docs) for tasks in suites.values() for n, task in tasks.items()):
            for key in ("id", "source"):
                known = key in getattr(docs, "features", ())  # a stranger's documents may be a plain list
                if known and (both := seen & {str(value) for value in docs[key]}):
                    raise RunError(
                        f"{name}: {label} was calibrated on item {min(both)}; evaluate on other items"
                    )


def compare(outcomes: dict[str, Any], label: str, config: EvalConfig, *, seed: int) -> dict[str, Any]:
    """The gap of one variant: each suite, and the claim that simple tasks are essentially unchanged."""
    base, fast = outcomes[BASE], outcomes[label]
    facts = {suite: suite_facts(base[suite], fast[suite], seed=seed) for suite in base if suite != "depth"}
    floors = [name for name, task in facts["simple"]["tasks"].items() if task["floor"]]
    claim = claim_facts(base["simple"], fast["simple"], margin=config.margin, floors=floors, seed=seed)
    return {**facts, "claim": claim}


def by_dial(outcomes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{dial: {label: outcomes}} of the depth suite."""
    names = outcomes[BASE].get("depth", {})
    return {name: {label: o["depth"][name] for label, o in outcomes.items()} for name in names}


def joined_rows(outcomes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row an item: what it was, and what each model did with it."""
    for suite, tasks in outcomes[BASE].items():
        for name, of_base in tasks.items():
            for number, row in enumerate(of_base["rows"]):
                facts = {key: row.get(key) for key in ITEM_KEYS}
                sides = {label: o[suite][name]["rows"][number] for label, o in outcomes.items()}
                yield {
                    "suite": suite,
                    "task": name,
                    **facts,
                    **{side: {k: r.get(k) for k in ANSWER_KEYS} for side, r in sides.items()},
                }


def _speed(zoo: Zoo, config: EvalConfig, seed: int) -> dict[str, Any]:
    models = {label: zoo.get(label)[0] for label in zoo.sources}
    shape = config.speed
    points = len(shape.prompt_tokens) * len(shape.batch_size)
    passes = points * (shape.repeats + 1) * len(models)
    with progress("measuring speed, base and variants in turn", passes) as advance:
        try:
            return measure_speed(models, **shape.model_dump(), seed=seed, progress=lambda: advance(1))
        except ValueError as error:
            raise RunError(f"speed cannot be measured: {error}") from None
