"""How much faster our lm-eval model answers than lm-eval's own: `python benchmarks/eval_speed.py`.

Same items, same batch budget, in alternation, on the embedded model: a table of medians and their ratios, and
one JSON line. Public suites are read from --suites (or FASTPATH_SUITES); those that are missing are skipped.
Each round runs both sides on every task, and who goes first rotates; before them one item of each task is
run as a warm-up, in which FastLM also tries out what the model can do (once a model, not once a task).
"""

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from eval.harness import load_suites
from eval.lm import FastLM
from eval.variants import VariantsLM
from fastpath.blocks import keep_blocks
from fastpath.config import EvalConfig
from fastpath.items.catalog import generate
from fastpath.models import load_model, load_tokenizer
from fastpath.sources import locate

MODEL = "embedded:smollm2-135m-instruct"
# The plans that `python -m prune` makes of the quickstart with drop 2 and 3, and two other kinds.
CUTS = {
    "variants: as quickstart": {"base": (), "two": (14, 26), "three": (12, 14, 26)},
    "variants: late spans": {"base": (), "a": (20, 21, 22), "b": (24, 25, 26)},
    "variants: an early block": {"base": (), "a": (3, 13, 14), "b": (5, 17, 25)},
}
BATCH_SIZE = 16
KINDS = ("multi-token", "one token", "generation", "variants")
HEADLINE_CUTS = "variants: as quickstart"
VARIANT_TASKS = ("fastpath_chain", "fastpath_doc_type", "snips, 7-shot")


@dataclass(frozen=True)
class Task:
    """(context, continuation) or (context, how to generate) pairs; those of an item are neighbours."""

    kind: str
    pairs: list[tuple[str, Any]]
    items: list[int]
    """Item of each pair."""
    gold: list[int]
    """Right choice of each item; empty where a continuation is right if it is the likeliest."""


def shipped_tasks(tokenizer: Any, num_items: int) -> dict[str, Task]:
    """The likelihood tasks of our two suites, as lm-eval builds their requests."""
    config = EvalConfig(simple=("fastpath_simple",), complex=("fastpath_complex",), items_per_task=num_items)
    suites = load_suites(config, seed=0)
    tasks = {}
    for name, task in {**suites["simple"], **suites["complex"]}.items():
        task.build_all_requests()
        chosen = [i for i in task.instances if i.request_type == "loglikelihood"]
        pairs, items = [i.args for i in chosen], [i.doc_id for i in chosen]
        gold = [int(doc["gold"]) for doc in task.eval_docs] if "gold" in chosen[0].doc else []
        one = gold and all(len(tokenizer(end, add_special_tokens=False).input_ids) == 1 for _, end in pairs)
        tasks[name] = Task("one token" if one else "multi-token", pairs, items, gold)
    return tasks


def suite_tasks(folder: Path, num_items: int) -> dict[str, Task]:
    """arc_easy and piqa (five examples first, and none), SNIPS (one example of each intent)."""
    templates = {
        "arc_easy": "Question: {question}\nAnswer:",
        "piqa": "Question: {question}\nAnswer:",
        "snips": "Request: {text}\nIntent:",
    }
    tasks = {}
    for name, template in templates.items():
        file = folder / name / "test.jsonl"
        if not file.is_file():
            print(f"{name}: skipped, no {file}", flush=True)
            continue
        rows, shots = _rows(file), _rows(file)[-5:]
        if name == "snips":
            shots = list({row["gold"]: row for row in _rows(folder / name / "fewshot.jsonl")}.values())
        else:
            tasks[f"{name}, 0-shot"] = _choices(rows[:num_items], template)
        examples = (f"{template.format(**s)} {s['choices'][s['gold']].strip()}\n\n" for s in shots)
        tasks[f"{name}, {len(shots)}-shot"] = _choices(rows[:num_items], template, "".join(examples))
    return tasks


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _choices(rows: list[dict[str, Any]], template: str, examples: str = "") -> Task:
    pairs = [
        (examples + template.format(**row), f" {choice.strip()}") for row in rows for choice in row["choices"]
    ]
    items = [number for number, row in enumerate(rows) for _ in row["choices"]]
    return Task("multi-token", pairs, items, [row["gold"] for row in rows])


def generation_task(num_items: int) -> Task:
    """Worked problems written out: FastLM leaves generation to lm-eval's own class."""
    settings = {"until": ["\n\n"], "max_gen_toks": 32, "do_sample": False}
    items = generate("worked", split="evaluation", seed=0, num_items=num_items)
    return Task("generation", [(item.prompt, settings) for item in items], list(range(num_items)), [])


def ask(lm: Any, task: Task) -> list[Any]:
    """Every answer to the task's requests, in order."""
    how = "generate_until" if task.kind == "generation" else "loglikelihood"
    requests = [Instance(how, {}, pair, n) for n, pair in enumerate(task.pairs)]
    return getattr(lm, how)(requests, disable_tqdm=True)


def right(task: Task, answers: list[Any]) -> list[Any]:
    """Whether each item is right: gold is likeliest, or greedy decoding agrees; generated text as it is."""
    if task.kind == "generation":
        return answers
    if not task.gold:
        return [greedy for _, greedy in answers]
    scores: dict[int, list[float]] = {}
    for item, (nats, _) in zip(task.items, answers, strict=True):
        scores.setdefault(item, []).append(nats)
    return [s.index(max(s)) == gold for s, gold in zip(scores.values(), task.gold, strict=True)]


@dataclass(frozen=True)
class Contest:
    """Two ways to the same answers; each gives one list of answers a model."""

    kind: str
    tasks: list[Task]
    theirs: Callable[[Task], list[list[Any]]]
    ours: Callable[[Task], list[list[Any]]]


def compete(contests: dict[str, Contest], rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds of both sides in every round, the largest difference in nats, whether all items end alike."""
    facts: dict[str, dict[str, Any]] = {
        name: {"theirs": [], "ours": [], "nats": 0.0, "equal": True} for name in contests
    }
    for number in range(rounds):
        for name, contest in contests.items():
            got: dict[str, list[Any]] = {}
            for side in ("theirs", "ours") if number % 2 else ("ours", "theirs"):
                start = time.perf_counter()
                got[side] = [getattr(contest, side)(task) for task in contest.tasks]
                facts[name][side].append(time.perf_counter() - start)
            _compare(facts[name], contest, got)
            print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
    return facts


def _compare(facts: dict[str, Any], contest: Contest, got: dict[str, list[Any]]) -> None:
    for task, theirs, ours in zip(contest.tasks, got["theirs"], got["ours"], strict=True):
        for want, have in zip(theirs, ours, strict=True):
            facts["equal"] &= right(task, want) == right(task, have)
            if task.kind != "generation":
                off = max(abs(a - b) for (a, _), (b, _) in zip(want, have, strict=True))
                facts["nats"] = max(facts["nats"], off)


def contests_of(model: Any, tokenizer: Any, tasks: dict[str, Task]) -> dict[str, Contest]:
    """Every task against lm-eval's own model, and bases with two cuts against three runs of ours."""
    hf = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH_SIZE)
    fast = FastLM(model, tokenizer, batch_size=BATCH_SIZE)
    contests = {
        name: Contest(task.kind, [task], lambda task: [ask(hf, task)], lambda task: [ask(fast, task)])
        for name, task in tasks.items()
    }
    shared = [tasks[name] for name in VARIANT_TASKS if name in tasks]
    for name, cuts in CUTS.items():
        depth = model.config.num_hidden_layers
        kept = [keep_blocks(model, [i for i in range(depth) if i not in drop]) for drop in cuts.values()]
        apart = [FastLM(cut, tokenizer, batch_size=BATCH_SIZE) for cut in kept]
        together = VariantsLM(model, tokenizer, cuts=cuts, batch_size=BATCH_SIZE)
        contests[name] = Contest("variants", shared, partial(_each, apart), partial(_all, together))
    return contests


def _each(lms: list[FastLM], task: Task) -> list[list[Any]]:
    return [ask(lm, task) for lm in lms]


def _all(lm: VariantsLM, task: Task) -> list[list[Any]]:
    lm.forget()
    answers = []
    for label in lm.cuts:
        lm.label = label
        answers.append(ask(lm, task))
    return answers


def _first(task: Task) -> Task:
    """The task's first item alone."""
    num = task.items.count(task.items[0])
    return replace(task, pairs=task.pairs[:num], items=task.items[:num], gold=task.gold[:1])


def speedup(facts: dict[str, dict[str, Any]], names: list[str]) -> float:
    """Ratio of the medians, summed over the tasks."""
    sums = {side: sum(statistics.median(facts[n][side]) for n in names) for side in ("theirs", "ours")}
    return round(sums["theirs"] / sums["ours"], 3)


def show(contests: dict[str, Contest], facts: dict[str, dict[str, Any]]) -> None:
    """A line a contest."""
    print(
        f"{'task':28}{'kind':14}{'lm-eval s':>10}{'ours s':>10}{'ratio':>8}{'nats off':>10}  same items right"
    )
    for name, contest in contests.items():
        theirs, ours = (statistics.median(facts[name][side]) for side in ("theirs", "ours"))
        seconds = f"{theirs:10.2f}{ours:10.2f}{theirs / ours:8.2f}"
        print(f"{name:28}{contest.kind:14}{seconds}{facts[name]['nats']:10.1e}  {facts[name]['equal']}")


def main() -> None:
    """Measure, print the table and the JSON line."""
    suites = os.environ.get("FASTPATH_SUITES", "../shared/suites")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suites", type=Path, default=Path(suites))
    parser.add_argument("--items", type=int, default=8, help="of each task")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    folder = locate(MODEL).folder
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    tasks = shipped_tasks(tokenizer, options.items) | suite_tasks(options.suites, options.items)
    tasks["worked, generated"] = generation_task(options.items)
    contests = contests_of(model, tokenizer, tasks)
    compete({name: replace(c, tasks=[_first(t) for t in c.tasks]) for name, c in contests.items()}, 1)
    facts = compete(contests, options.rounds)
    print(
        f"{MODEL}, {torch.get_num_threads()} threads, batches of {BATCH_SIZE}, {options.items} items a task"
    )
    print("variants: three runs of ours beside one for all three; the rest: lm-eval's hf beside ours")
    show(contests, facts)
    of = {kind: [n for n, c in contests.items() if c.kind == kind] for kind in KINDS}
    results = {
        "speedup_likelihood": speedup(facts, of["multi-token"]),
        "speedup_one_token": speedup(facts, of["one token"]),
        "speedup_variants": speedup(facts, [HEADLINE_CUTS]),
        "max_abs_diff_nats": max(f["nats"] for f in facts.values()),
        "accuracy_equal": all(f["equal"] for f in facts.values()),
        "speedup_generation": speedup(facts, of["generation"]),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
