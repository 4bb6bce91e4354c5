"""What a model gets right of the tiny tasks, by task and by k, on held-out items."""

from pathlib import Path
from typing import Any

import torch

from fastpath.data import item_batches
from fastpath.items.catalog import TASKS, generate
from fastpath.models import load_model, load_tokenizer
from fastpath.nll import logits_at, predicting, token_nats
from fastpath.stats import wilson

SIMPLE = [task for task in TASKS if task.startswith("tiny_") and TASKS[task].suite == "simple"]
MAX_K = 7
"""Up to here every dial is to be 95 % right. Training goes one further, so that this k is not its edge."""
DIALS = [task for task in TASKS if task.startswith("tiny_") and TASKS[task].suite == "depth"]


@torch.no_grad()
def num_right(model: Any, tokenizer: Any, *, task: str, k: int | None, num_items: int, seed: int) -> int:
    """Held-out items whose answer is the likeliest of all words, not just of the choices."""
    items = generate(task, split="evaluation", seed=seed, num_items=num_items, k=k)
    right = 0
    for batch in item_batches(items, tokenizer, batch_tokens=8192):
        logits_NV = logits_at(model, predicting(batch.answer), **batch.inputs, use_cache=False)
        right += int(token_nats(logits_NV, batch.ids[batch.answer])[1].sum())
    return right


def evaluate(folder: Path, *, num_items: int, seed: int = 0) -> dict[str, Any]:
    """Print right answers by task and k with 95 % Wilson intervals; the accuracies, by k the worse dial's.

    Those at a k above MAX_K are told apart: {"simple_accuracy", "dial_accuracy", "beyond", "items_per_row"}.
    """
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    cases: list[tuple[str, int | None]] = [(task, None) for task in SIMPLE]
    cases += [(task, k) for task in DIALS for k in TASKS[task].ks]
    simple: dict[str, float] = {}
    dials: dict[int, list[float]] = {}
    print(f"{'task':14}{'k':>3}{'right':>8}  95 %")
    for task, k in cases:
        right = num_right(model, tokenizer, task=task, k=k, num_items=num_items, seed=seed)
        ends = wilson(right, num_items)
        level = "" if k is None else k
        note = f"  beyond k = {MAX_K}" if k is not None and k > MAX_K else ""
        print(
            f"{task:14}{level:>3}{right / num_items:8.1%}  {ends.low:.1%} to {ends.high:.1%}{note}",
            flush=True,
        )
        if k is None:
            simple[task] = right / num_items
        else:
            dials.setdefault(k, []).append(right / num_items)
    within = {str(k): min(values) for k, values in dials.items() if k <= MAX_K}
    beyond = {str(k): min(values) for k, values in dials.items() if k > MAX_K}
    return {
        "simple_accuracy": simple,
        "dial_accuracy": within,
        "beyond": beyond,
        "items_per_row": num_items,
    }
