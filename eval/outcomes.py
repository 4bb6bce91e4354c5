"""What lm-eval logged of a task -> a row an item: right or wrong, the answer, nats of the right answer."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp

# The first that a task reports for each item, 0 or 1. acc before acc_norm: the norm rewards long choices.
# exact_match before minerva_math's math_verify, the wider match. ifeval: every instruction of a
# prompt was followed. swde, fda, squad_completion: the value stands in what was written.
PRIMARY_METRICS = ("acc", "exact_match", "acc_norm", "prompt_level_strict_acc", "contains")


def outcomes(task: Any, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{"metric", "filter", "kind", "chance", "rows": [{"id", "right", ...}], "control": prose nats a byte}.

    A task with several filters logs every item once for each: the first filter counts. Chance is what a guess
    among the choices gets; where the model writes, what the best constant answer gets, or what the items say.
    """
    first = samples[0]["filter"]
    samples = sorted((s for s in samples if s["filter"] == first), key=lambda s: s["doc_id"])
    scored = [s for s in samples if any(m in s for m in PRIMARY_METRICS)]
    metric = next((m for m in PRIMARY_METRICS if scored and m in scored[0]), None)
    if metric is None:
        raise ValueError(f"reports none of {', '.join(PRIMARY_METRICS)} for its items")
    return {
        "metric": metric,
        "filter": first,
        "kind": "generation" if task.OUTPUT_TYPE == "generate_until" else "likelihood",
        "chance": _chance(task, scored),
        "rows": [_row(task, s, metric) for s in scored],
        "control": [s["prose_nats_per_byte"] for s in samples if "prose_nats_per_byte" in s],
    }


def _is_choice(task: Any) -> bool:
    return task.OUTPUT_TYPE == "multiple_choice"


def _chance(task: Any, samples: Sequence[dict[str, Any]]) -> float:
    if _is_choice(task):
        return float(np.mean([1 / len(task.doc_to_choice(s["doc"])) for s in samples]))
    if task.OUTPUT_TYPE != "generate_until":
        return 0.0
    told = [s["doc"]["chance"] for s in samples if "chance" in s["doc"]]
    if told:
        return float(np.mean(told))
    # Only a text is an answer that could always be given: ifeval's target is 0 for every item.
    targets = Counter(s["target"] for s in samples if isinstance(s["target"], str))
    most = max(targets.values(), default=0)
    return most / len(samples) if most > 1 else 0.0


def _row(task: Any, sample: dict[str, Any], metric: str) -> dict[str, Any]:
    doc = sample["doc"]
    row = {
        "id": str(doc.get("id", sample["doc_hash"])),
        "template": str(doc.get("template", sample["doc_id"])),
        "source": str(doc.get("source", sample["doc_id"])),
        "k": doc.get("k"),
        "short_cut": doc.get("short_cut"),
        "right": float(sample[metric]),
        "prompt": _prompt(sample),
        "target": str(sample["target"]),
    }
    responses = sample["filtered_resps"]
    if _is_choice(task):
        choices = [str(choice) for choice in task.doc_to_choice(doc)]
        nats = np.array([-float(response[0]) for response in responses[: len(choices)]])
        row["answer"] = choices[int(nats.argmin())]
        gold = _gold(sample["target"], choices)
        if gold is not None:
            share = float(np.exp(-nats[gold] - logsumexp(-nats)))
            row |= {"target": choices[gold], "nats": float(nats[gold]), "share": share}
    elif task.OUTPUT_TYPE == "loglikelihood":
        likelihood, greedy = responses[0]
        answer = row["target"].strip() if greedy else "(something else)"
        row |= {"answer": answer, "nats": -float(likelihood)}
    else:
        row["answer"] = str(responses[0])[:200]
    return row


def _gold(target: Any, choices: list[str]) -> int | None:
    """Index of the right choice, as lm-eval reads a target: a text among the choices, or an index."""
    if isinstance(target, str) and target in choices:
        return choices.index(target)
    if isinstance(target, int | np.integer) and 0 <= target < len(choices):
        return int(target)
    return None  # several right choices, or none


def _prompt(sample: dict[str, Any]) -> str:
    """The context of the first request; a dict by name once lm-eval has logged it."""
    arguments = sample["arguments"]
    first = next(iter(arguments.values()))["arg_0"] if isinstance(arguments, dict) else arguments[0][0]
    return str(first)
