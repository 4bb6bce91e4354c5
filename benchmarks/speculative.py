"""Speculative decoding with a pruned draft: is the output standard's own, and is it faster, as predicted?

python benchmarks/speculative.py [--run runs/NAME] [--prompts 50] [--new-tokens 48] [distill.KEY=VALUE ...]

The draft is `python -m prune.export --run RUN --to draft`, which is run first where it has not been or where
changes of its distillation are given (a draft distilled otherwise is refused); without --run, that of a quick
cut of embedded:smollm2-135m-instruct in runs/speculative, distilled by DRAFT (about half an hour).
Transformers' assisted generation and plain greedy decoding answer the same prompts in turn, in float32, one
at a time. k is what pays best by prediction, and 1 where nothing pays: what is then measured is the loss that
`off` avoids.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from fastpath.cli import guarded
from fastpath.drafting import (
    assisted,
    chat_ids,
    checked_lengths,
    greedy,
    set_guesses,
    step_seconds,
    verify_costs,
)
from fastpath.errors import ExportError
from fastpath.items.catalog import generate
from fastpath.models import load_model, load_tokenizer
from fastpath.runs import is_done, read_json, write_text
from fastpath.speculative import choose_tokens, predicted_speedup
from prune.exports.made import read_made

TASKS = ("doc_type", "date_pick", "routing", "field_lookup", "worked")
CONTEXT = 128
RECIPE = """\
out: runs/speculative
model: {name: "embedded:smollm2-135m-instruct", dtype: float32}
prune: {drop: 3, criterion: cosine, chooser: lowest, items_per_task: 4, items_per_level: 2}
"""
DRAFT = (
    "distill.mode=full", "distill.freeze_prefix=false", "distill.learn=all", "distill.steps=200",
    "distill.own_texts=400", "distill.own_texts_weight=3.0", "distill.items_per_task=100",
    "distill.batch_rows=8", "distill.max_tokens=192", "distill.learning_rate=1.0e-3",
)  # fmt: skip
"""How the draft of that cut is distilled."""


def main() -> int:
    """Measure and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--run", type=Path, help="run folder; default: runs/speculative, made where it is missing"
    )
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("changes", nargs="*", metavar="key=value", help="of the draft's distillation")
    arguments = parser.parse_args()

    def work() -> None:
        run = arguments.run or quick_run()
        folder = draft_of(run, arguments.changes or ([] if arguments.run else DRAFT))
        made = read_made(run)
        base = made.base().folder
        model, draft = (load_model(path, dtype=torch.float32) for path in (base, folder))
        tokenizer = load_tokenizer(base)
        facts = compared(model, draft, prompts(tokenizer, arguments.prompts), new_tokens=arguments.new_tokens)
        print_table(facts)
        print(json.dumps({"draft": str(folder), **facts}))

    return guarded(work)


def quick_run() -> Path:
    """A run of the embedded model, pruned in seconds."""
    run = Path("runs/speculative")
    if not is_done(run / "prune"):
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "recipe.yaml", RECIPE)
        module("prune", "--config", str(run / "recipe.yaml"))
    return run


def draft_of(run: Path, changes: Sequence[str]) -> Path:
    """The draft model of a run: exported where it has not been, or where changes are asked for.

    What is finished is read back, and refused by name where it was distilled otherwise.
    """
    facts = run / "export/draft/draft.json"
    if changes or not facts.exists():
        module("prune.export", "--run", str(run), "--to", "draft", *changes)
    return Path(read_json(facts)["draft"])


def module(name: str, *arguments: str) -> None:
    """`python -m NAME ...`, which says on stderr what it does. Raises ExportError if it fails."""
    command = [sys.executable, "-m", name, *arguments]
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    if code:
        raise ExportError(f"python -m {name}: failed (exit code {code}); the line above says why")


def prompts(tokenizer: Any, num: int) -> list[list[int]]:
    """Chat prompts of the generators, of the split that evaluation uses."""
    each = -(-num // len(TASKS))
    items = [item for task in TASKS for item in generate(task, split="evaluation", seed=0, num_items=each)]
    return [chat_ids(tokenizer, item.prompt) for item in items[:num]]


def compared(model: Any, draft: Any, asked: list[list[int]], *, new_tokens: int) -> dict[str, Any]:
    """Both ways on every prompt, in turn; the prediction from what the draft was accepted and costs."""
    seconds = step_seconds(model, context=CONTEXT, tokens=checked_lengths())
    ratio = step_seconds(draft, context=CONTEXT, tokens=[1])[1] / seconds[1]
    costs = verify_costs(seconds)
    accepted = measured_acceptance(model, draft, asked[::10], new_tokens=new_tokens)
    chosen = choose_tokens(accepted, cost_ratio=ratio, verify_costs=costs)
    tokens = max(1, chosen.tokens)
    with matches() as rounds:
        sides = assisted(model, draft, asked, new_tokens=new_tokens, tokens=tokens)
    accepted = acceptance_of(rounds)
    return {
        "prompts": len(asked), "identical": sides.identical == len(asked),
        "identical_prompts": sides.identical, "acceptance": accepted, "cost_ratio": ratio,
        "verify_cost": costs[tokens], "k": tokens,
        "chosen": chosen.tokens or "off", "speedup": sides.speedup,
        "predicted_speedup": predicted_speedup(
            accepted, tokens=tokens, cost_ratio=ratio, verify_cost=costs[tokens]
        ),
        "tokens_per_second": sides.tokens / sides.plain_seconds,
        "assisted_tokens_per_second": sides.tokens / sides.assisted_seconds,
    }  # fmt: skip


def measured_acceptance(model: Any, draft: Any, asked: list[list[int]], *, new_tokens: int) -> float:
    """Acceptance on a few prompts, to choose k by."""
    set_guesses(draft, 4)
    with matches() as rounds:
        for ids in asked:
            greedy(model, torch.tensor([ids]), new_tokens=new_tokens, assistant_model=draft)
    return acceptance_of(rounds)


@contextmanager
def matches() -> Iterator[list[tuple[int, int]]]:
    """Inside the block every round of assisted generation adds (guesses, those that stood) to the list."""
    rounds: list[tuple[int, int]] = []
    update = AssistedCandidateGenerator.update_candidate_strategy

    def noted(self: Any, input_ids: Any, scores: Any, num_matches: int) -> None:
        rounds.append((scores.shape[1] - 1, int(num_matches)))
        update(self, input_ids, scores, num_matches)

    AssistedCandidateGenerator.update_candidate_strategy = noted  # type: ignore[method-assign]
    try:
        yield rounds
    finally:
        AssistedCandidateGenerator.update_candidate_strategy = update  # type: ignore[method-assign]


def acceptance_of(rounds: list[tuple[int, int]]) -> float:
    """Maximum likelihood: share of the judged guesses that stood; one that fell ends a round."""
    stood = sum(kept for _, kept in rounds)
    fell = sum(kept < guesses for guesses, kept in rounds)
    return stood / max(1, stood + fell)


def print_table(facts: dict[str, Any]) -> None:
    """What was measured, in words."""
    costs = f"{facts['cost_ratio']:.2f}, {facts['verify_cost']:.2f} (k = {facts['k']})"
    print(f"output identical to standard   {facts['identical_prompts']} of {facts['prompts']}")
    print(f"acceptance                     {facts['acceptance']:.2f}")
    print(f"cost of a guess, of checking   {costs}")
    print(f"speedup measured, predicted    {facts['speedup']:.2f}, {facts['predicted_speedup']:.2f}")
    print(f"chosen k                       {facts['chosen']}")


if __name__ == "__main__":
    sys.exit(main())
