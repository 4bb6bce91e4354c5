"""The base model's own worked answers: calibrating on a model's own decode tokens preserves its reasoning.

RESP (arXiv 2512.02185) and RAC (arXiv 2509.12464) find so for other kinds of pruning.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fastpath.items.item import Item, digest
from fastpath.own_answers import NEXT, ends_in_gold, write_answers
from fastpath.progress import progress
from fastpath.runs import step

log = logging.getLogger("fastpath")
SETTINGS: dict[str, Any] = {"max_new_tokens": 512, "do_sample": False, "stop_strings": [f"\n{NEXT}"]}


def with_own_answers(
    model: Any, tokenizer: Any, items: Sequence[Item], *, weights: str, folder: Path
) -> list[Item]:
    """The items; a worked one carries the model's own greedy answer where that ends, and in the gold result.

    All of that answer's tokens then count. Each answer is kept in FOLDER/self_answers/ under the digest of
    prompt, `weights` (digest of the model's) and settings, so that a killed run goes on there.
    """
    out = list(items)
    worked = [number for number, item in enumerate(items) if item.steps]
    right = 0
    with progress("the base writes its own answers", len(worked)) as advance:
        for number in worked:
            item = items[number]
            key = digest(item.prompt, weights, json.dumps(SETTINGS, sort_keys=True), "2", length=32)
            path = f"self_answers/{key}.json"
            kept = (folder / path).exists()
            said = step(folder, path, partial(_write, model, tokenizer, item))
            if said["finished"] and ends_in_gold(item, said["answer"]):
                out[number] = replace(item, answer=said["answer"], steps=((0, len(said["answer"])),))
                right += 1
            advance(1, kept=kept)
    log.info(
        "%d of %d worked items carry the base's own answer, the others the reference", right, len(worked)
    )
    return out


def _write(model: Any, tokenizer: Any, item: Item) -> dict[str, Any]:
    limit = SETTINGS["max_new_tokens"]
    return write_answers(model, tokenizer, [item.prompt], max_new_tokens=limit)[0]
