"""Texts that the original model writes from nothing: general data that needs no dataset.

What a model was tuned on is what it writes by itself. Given the header of a user's turn alone it writes the
question too, then its answer: Magpie (arXiv 2406.08464). A model without a chat template goes on from its
begin token. Given "Question: What" it writes a question in plain text, then its answer. So a student can be
held to the original beyond the tasks of a recipe, where nothing else is at hand.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distill.own_data import Row
from distill.self_data import Sampler, sampled, unfinished
from fastpath.errors import UserError
from fastpath.items.item import digest
from fastpath.progress import progress
from fastpath.runs import locked, read_json, write_json
from fastpath.sources import cache_folder

log = logging.getLogger("fastpath")

NAME, QUESTIONS = "own_texts", "own_questions"
"""Names of these texts among the sources."""
OPENINGS = (
    "What", "Which", "Why", "How", "When", "Where", "Who", "A", "The", "If", "In", "What is", "How do you",
    "How can", "An", "Which of the following",
)  # fmt: skip
"""What a question in plain text begins with: left to itself a model tuned on chats writes no question."""
SLOT = "\N{WHITE SQUARE}"
"""Stands where a user's words go in the chat template."""


@dataclass(frozen=True)
class Frame:
    """What stands around the model's own words."""

    header: str
    """Before them all."""
    middle: str = ""
    """Between a finished question and its answer; "": there is no answer."""
    asks: bool = False
    """Whether a question ends with its first question mark or line, not with the end token."""


def own_texts(
    load: Callable[[], Any],
    tokenizer: Any,
    *,
    name: str,
    num: int,
    weights: str,
    seed: int,
    sampler: Sampler,
    at_once: int,
) -> list[Row]:
    """`num` rows of form "own", less those that came out empty or as another did.

    `name`: NAME for chats (or what follows the begin token), QUESTIONS for questions in plain text. Text n is
    kept under the digest of `weights` (digest of the model's), sampler, frames, seed and n in the cache
    folder, so that a killed run goes on there and other runs find it. `load` gives the model, if any is
    missing. Raises UserError if the tokenizer has neither a chat template nor a begin or end token.
    """
    asked = name == QUESTIONS
    frames = questions(tokenizer) if asked else [chat(tokenizer)]
    settings = json.dumps(asdict(sampler), sort_keys=True)
    about = (
        json.dumps([asdict(of) for of in frames]) if asked else tokenizer.chat_template or frames[0].header
    )
    folder = cache_folder() / NAME / digest(weights, settings, about, "2" if asked else "1", length=16)
    jobs = {f"{folder.name}/{seed}/{number}": frames[number % len(frames)] for number in range(num)}
    paths = {stream: folder / f"{digest(stream, length=32)}.json" for stream in jobs}
    what = "questions" if asked else "texts"
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", wait=True):  # two runs at once write them once
            _write_missing(
                lambda batch: _write(load(), tokenizer, batch, sampler),
                jobs, paths, at_once, title=f"the original writes {what} of its own",
            )  # fmt: skip
    written = {row["text"]: row for row in (read_json(path) for path in paths.values()) if row["text"]}
    log.info("the original's own %s: %d, of which %d are empty or twice", what, num, num - len(written))
    return [Row(name, "own", row) for row in written.values()]


def _write_missing(
    write: Callable[[Mapping[str, Frame]], list[dict[str, Any]]],
    jobs: Mapping[str, Frame],
    paths: Mapping[str, Path],
    at_once: int,
    *,
    title: str,
) -> None:
    """Write the files that are not there, in the batches that all of them would be written in."""
    missing = {stream for stream in jobs if not paths[stream].exists()}
    with progress(title, len(missing)) as advance:
        for streams in unfinished(list(jobs), missing, at_once):
            batch = {stream: jobs[stream] for stream in streams}
            rows = dict(zip(batch, write(batch), strict=True))
            for stream in missing.intersection(batch):
                write_json(paths[stream], rows[stream])
            advance(len(missing.intersection(batch)))


def questions(tokenizer: Any) -> list[Frame]:
    """A frame for each of OPENINGS, after the begin token where the tokenizer sets one."""
    begin = tokenizer.bos_token if tokenizer.bos_token_id in tokenizer("")["input_ids"] else ""
    return [Frame(f"{begin}Question: {opening}", "\nAnswer:", asks=True) for opening in OPENINGS]


def chat(tokenizer: Any) -> Frame:
    """What stands before a user's words, and between them and the answer; or the begin token and nothing."""
    if not tokenizer.chat_template:
        begin = tokenizer.bos_token or tokenizer.eos_token
        if begin is None:
            raise UserError(
                "distill.own_texts: the tokenizer has no chat template and no token to begin with; 0 works"
            )
        return Frame(begin)
    asked = [{"role": "user", "content": SLOT}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    header, found, middle = text.partition(SLOT)
    if not found:
        raise UserError("distill.own_texts: the chat template does not write a user's words; 0 works")
    return Frame(header, middle)


def _write(model: Any, tokenizer: Any, jobs: Mapping[str, Frame], sampler: Sampler) -> list[dict[str, Any]]:
    """{text, start} of each stream: everything from `start` on is the model's own, but for the frame."""
    frames, streams = list(jobs.values()), list(jobs)
    write = partial(sampled, model, tokenizer, sampler=sampler, raw=True)
    said = write([of.header for of in frames], streams=streams)
    said = [
        _first_line(one) if of.asks else {**one, "answer": one["answer"].strip()}
        for of, one in zip(frames, said, strict=True)
    ]
    texts = [of.header + one["answer"] if one["answer"] else "" for of, one in zip(frames, said, strict=True)]
    # A question that was cut off is no question: what came of it is the text.
    asked = [n for n, of in enumerate(frames) if of.middle and said[n]["finished"] and said[n]["answer"]]
    if asked:
        prompts = [texts[n] + frames[n].middle for n in asked]
        answers = write(prompts, streams=[f"{streams[n]}/answer" for n in asked])
        for n, prompt, answer in zip(asked, prompts, answers, strict=True):
            if not frames[n].asks:
                texts[n] = prompt + answer["answer"].strip()
            elif answer["answer"].strip():  # without an answer the question alone is the text
                texts[n] = prompt + answer["answer"].rstrip()
    return [{"text": text, "start": len(of.header)} for of, text in zip(frames, texts, strict=True)]


def _first_line(said: dict[str, Any]) -> dict[str, Any]:
    """What was said up to its first question mark or the end of its first line."""
    found = re.match(r"[^?\n]*\??", said["answer"])
    text = found[0] if found else ""
    finished = said["finished"] or text.endswith("?") or text != said["answer"]
    return {"answer": text.rstrip(), "finished": finished}
