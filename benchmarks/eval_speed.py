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
from fastpath.models import load_model, load_tokenizer
from fastpath.sources import locate

MODEL = "embedded:smollm2-135m-instruct"
CUTS = {
    # The plans that `python -m prune` makes of the quickstart with drop 2 and 3: the ones that are claimed.
    "variants": {"base": (), "two": (14, 26), "three": (12, 14, 26)},
    "late variants": {"base": (), "a": (20, 21, 22), "b": (24, 25, 26)},
    "early variants": {"base": (), "a": (3, 13, 14), "b": (5, 17, 25)},
}
BATCH_SIZE = 16
VARIANT_TASKS = ("fastpath_chain", "fastpath_doc_type", "snips, 7-shot")


@dataclass(frozen=True)
class Task:
    """(context, continuation) or (context, how to generate) pairs; those of an item are neighbours."""

    kind: str
    pairs: list[tuple[str, Any]]
    items: list[int]  # of each pair
    gold: list[int]  # of each item; empty where a continuation is right if it is the likeliest


def shipped_tasks(tokenizer: Any, num_items: int) -> dict[str, Task]:
    """The tasks of our two suites, as lm-eval builds their requests; more items of the short ones."""
    loaded: dict[str, Any] = {}
    for suite, times in (("simple", 8), ("complex", 1)):
        loaded |= load_suites(EvalConfig(items_per_task=num_items * times), seed=0)[suite]
    tasks = {}
    for name, task in loaded.items():
        task.build_all_requests()
        chosen = task.instances
        pairs, items = [i.args for i in chosen], [i.doc_id for i in chosen]
        if task.OUTPUT_TYPE == "generate_until":
            tasks[name] = Task("generation", pairs, items, [])
            continue
        gold = [int(doc["gold"]) for doc in task.eval_docs] if "gold" in chosen[0].doc else []
        one = gold and all(len(tokenizer(end, add_special_tokens=False).input_ids) == 1 for _, end in pairs)
        tasks[name] = Task("one token" if one else "multi-token", pairs, items, gold)
    return tasks


def suite_tasks(folder: Path, num_items: int) -> dict[str, Task]:
    """arc_easy and piqa (five examples first, and none), SNIPS (one example of each intent)."""
    question = "Question: {question}\nAnswer:"
    templates = {"arc_easy": question, "piqa": question, "snips": "Request: {text}\nIntent:"}
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
    prompts = [examples + template.format(**row) for row in rows]
    both = [(number, f" {end.strip()}") for number, row in enumerate(rows) for end in row["choices"]]
    pairs, items = [(prompts[number], end) for number, end in both], [number for number, _ in both]
    return Task("multi-token", pairs, items, [row["gold"] for row in rows])


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
    facts: dict[str, dict[str, Any]] = {}
    for name, contest in contests.items():
        facts[name] = {"kind": contest.kind, "theirs": [], "ours": [], "nats": 0.0, "equal": True}
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
    blocks = range(model.config.num_hidden_layers)
    for kind, cuts in CUTS.items():
        models = [keep_blocks(model, [i for i in blocks if i not in drop]) for drop in cuts.values()]
        apart = [FastLM(cut, tokenizer, batch_size=BATCH_SIZE) for cut in models]
        together = VariantsLM(model, tokenizer, cuts=cuts, batch_size=BATCH_SIZE)
        contests[f"+ {kind}"] = Contest(kind, shared, partial(_each, apart), partial(_all, together))
    return contests


def _each(lms: list[FastLM], task: Task) -> list[list[Any]]:
    return [ask(lm, task) for lm in lms]


def _all(lm: VariantsLM, task: Task) -> list[list[Any]]:
    lm.forget()
    return [ask(lm.of(label), task) for label in lm.cuts]


def _first(task: Task) -> Task:
    """The task's first item alone."""
    num = task.items.count(0)
    return replace(task, pairs=task.pairs[:num], items=task.items[:num], gold=task.gold[:1])


def speedup(facts: dict[str, dict[str, Any]], kind: str) -> float:
    """Ratio of the medians, summed over the contests of a kind."""
    chosen = [f for f in facts.values() if f["kind"] == kind]
    theirs, ours = (sum(statistics.median(f[side]) for f in chosen) for side in ("theirs", "ours"))
    return round(theirs / ours, 3)


def show(facts: dict[str, dict[str, Any]]) -> None:
    """A line a contest."""
    print(
        f"{'task':28}{'kind':14}{'theirs s':>10}{'ours s':>10}{'ratio':>8}{'nats off':>10}  same items right"
    )
    for name, f in facts.items():
        theirs, ours = (statistics.median(f[side]) for side in ("theirs", "ours"))
        seconds = f"{theirs:10.2f}{ours:10.2f}{theirs / ours:8.2f}"
        print(f"{name:28}{f['kind']:14}{seconds}{f['nats']:10.1e}  {f['equal']}")


def main() -> None:
    """Print the table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--suites", type=Path, default=os.environ.get("FASTPATH_SUITES", "../shared/suites"))
    parser.add_argument("--items", type=int, default=4, help="of each task")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    folder = locate(MODEL).folder
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    tasks = shipped_tasks(tokenizer, options.items) | suite_tasks(options.suites, options.items)
    contests = contests_of(model, tokenizer, tasks)
    compete({name: replace(c, tasks=[_first(t) for t in c.tasks]) for name, c in contests.items()}, 1)
    facts = compete(contests, options.rounds)
    print(
        f"{MODEL}, {torch.get_num_threads()} threads, batches of {BATCH_SIZE}, {options.items} items a task"
    )
    print("theirs: lm-eval's hf; for variants three separate runs of ours, beside one for all three")
    show(facts)
    results = {
        "speedup_likelihood": speedup(facts, "multi-token"),
        "speedup_one_token": speedup(facts, "one token"),
        "speedup_variants": speedup(facts, "variants"),
        "max_abs_diff_nats": max(f["nats"] for f in facts.values()),
        "accuracy_equal": all(f["equal"] for f in facts.values()),
        "speedup_generation": speedup(facts, "generation"),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
