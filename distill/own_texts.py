"""Texts that the original model writes from nothing: general data that needs no dataset.

What a model was tuned on is what it writes by itself. Given the header of a user's turn alone it writes the
question too, then its answer: Magpie (arXiv 2406.08464). A model without a chat template goes on from its
begin token. So a student can be held to the original beyond the tasks of a recipe, where nothing else is at
hand.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from distill.own_data import Row
from distill.self_data import Sampler, sampled
from fastpath.errors import UserError
from fastpath.items.item import digest
from fastpath.progress import progress
from fastpath.runs import read_json, write_json
from fastpath.sources import cache_folder

log = logging.getLogger("fastpath")

NAME = "own_texts"
"""Name of these texts among the sources."""
SLOT = "\N{WHITE SQUARE}"
"""Stands where a user's words go in the chat template."""


def own_texts(
    load: Callable[[], Any],
    tokenizer: Any,
    *,
    num: int,
    weights: str,
    seed: int,
    sampler: Sampler,
    at_once: int,
) -> list[Row]:
    """`num` rows of form "own", less those that came out empty or as another did.

    Text n is kept under the digest of `weights` (digest of the model's), sampler, template, seed and n in the
    cache folder, so that a killed run goes on there and other runs find it. `load` gives the model, if
    any is missing. Raises UserError if the tokenizer has neither a chat template nor a begin or end token.
    """
    header, _ = frame(tokenizer)
    settings = json.dumps(asdict(sampler), sort_keys=True)
    folder = (
        cache_folder() / NAME / digest(weights, settings, tokenizer.chat_template or header, "1", length=16)
    )
    streams = [f"{folder.name}/{seed}/{number}" for number in range(num)]
    paths = {stream: folder / f"{digest(stream, length=32)}.json" for stream in streams}
    missing = [stream for stream in streams if not paths[stream].exists()]
    with progress("the original writes texts of its own", len(missing)) as advance:
        for start in range(0, len(missing), at_once):
            batch = missing[start : start + at_once]
            for stream, row in zip(batch, _write(load(), tokenizer, batch, sampler), strict=True):
                folder.mkdir(parents=True, exist_ok=True)
                write_json(paths[stream], row)
            advance(len(batch))
    written = {row["text"]: row for row in (read_json(path) for path in paths.values()) if row["text"]}
    log.info("the original's own texts: %d, of which %d are empty or twice", num, num - len(written))
    return [Row(NAME, "own", row) for row in written.values()]


def frame(tokenizer: Any) -> tuple[str, str]:
    """What stands before a user's words, and between them and the answer; or the begin token and nothing."""
    if not tokenizer.chat_template:
        begin = tokenizer.bos_token or tokenizer.eos_token
        if begin is None:
            raise UserError(
                "distill.own_texts: the tokenizer has no chat template and no token to begin with; 0 works"
            )
        return begin, ""
    asked = [{"role": "user", "content": SLOT}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    header, found, middle = text.partition(SLOT)
    if not found:
        raise UserError("distill.own_texts: the chat template does not write a user's words; 0 works")
    return header, middle


def _write(model: Any, tokenizer: Any, streams: Sequence[str], sampler: Sampler) -> list[dict[str, Any]]:
    """{text, start} of each stream: everything from `start` on is the model's own, but for the frame."""
    header, middle = frame(tokenizer)
    write = partial(sampled, model, tokenizer, sampler=sampler, raw=True)
    said = write([header] * len(streams), streams=streams)
    texts = [header + one["answer"] if one["answer"] else "" for one in said]
    # A question that was cut off is no question: what came of it is the text.
    asked = [n for n, one in enumerate(said) if middle and one["finished"] and one["answer"]]
    if asked:
        prompts = [texts[n] + middle for n in asked]
        answers = write(prompts, streams=[f"{streams[n]}/answer" for n in asked])
        for n, prompt, answer in zip(asked, prompts, answers, strict=True):
            texts[n] = prompt + answer["answer"]
    return [{"text": text, "start": len(header)} for text in texts]
