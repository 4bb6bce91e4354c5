"""The user's own training data: rows of text, chats or prompts with completions, of a file or a dataset."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpath.errors import ConfigError
from fastpath.jsonl import read_jsonl
from fastpath.quiet import quiet

log = logging.getLogger("fastpath")
FORMS: dict[str, tuple[str, ...]] = {
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "answer": ("prompt", "answer"),
    "text": ("text",),
}
"""The keys of each form of a row: the first form of which it has all keys is taken, others are not read.

A completion follows its prompt as it stands and ends the sequence; an answer follows after a space, as our
items and the lines of eval.data do.
"""
KEY = "distill.data"


@dataclass(frozen=True)
class Row:
    """One row as it was read."""

    where: str
    """Key of the recipe, file or dataset, number of the line or row."""
    form: str
    """A key of FORMS."""
    data: Mapping[str, Any]

    @property
    def texts(self) -> tuple[str, ...]:
        """What of it must not be evaluated on: the whole text, or each prompt, with its answer too."""
        if self.form == "chat":
            return tuple(m["content"] for m in self.data["messages"] if m["role"] == "user")
        if self.form == "text":
            return (self.data["text"],)
        if self.form == "own":
            return (self.data["text"][self.data["start"] :],)
        prompt, answer = (self.data[key] for key in FORMS[self.form])
        return prompt, f"{prompt.rstrip()} {answer.lstrip()}"


def read_rows(
    source: str, *, split: str = "train", subset: str | None = None, revision: str = "main"
) -> list[Row]:
    """The rows of a local .jsonl file, or of a folder or hub id that `datasets` reads.

    `split`, `subset` and `revision` are those of `datasets.load_dataset` ("train[:1000]" takes the first
    thousand). Raises ConfigError naming file and line, or what the hub said, and what would work.
    """
    if source.endswith((".jsonl", ".json")):
        return [_row(data, where) for where, data in read_jsonl(source, key=KEY)]
    rows = _dataset(source, split, subset, revision)
    return [_row(data, f"{KEY}: {source}, row {number}") for number, data in enumerate(rows)]


def _row(data: Mapping[str, Any], where: str) -> Row:
    present = {key for key, value in data.items() if value is not None}
    form = next((form for form, keys in FORMS.items() if present.issuperset(keys)), None)
    if form is None:
        known = ", ".join("{" + ", ".join(keys) + "}" for keys in FORMS.values())
        raise ConfigError(
            f"{where}: found the keys {', '.join(sorted(present)) or '(none)'}; a row has {known}"
        )
    for key in FORMS[form]:
        if key == "messages":
            _check_messages(data[key], where)
        elif not isinstance(data[key], str):
            raise ConfigError(f"{where}: {key!r} must be text, got {data[key]!r:.40}")
    return Row(where, form, {key: data[key] for key in FORMS[form]})


def _check_messages(messages: Any, where: str) -> None:
    right = isinstance(messages, list) and all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in messages
    )
    if not right:
        raise ConfigError(
            f"{where}: 'messages' must be a list of {{role, content}}, both texts, got {messages!r:.60}"
        )


def _dataset(source: str, split: str, subset: str | None, revision: str) -> Any:
    import datasets
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    log.info("reading the dataset %s (subset %s, split %s, %s)", source, subset or "default", split, revision)
    local = Path(source).expanduser()
    path = str(local) if local.is_dir() else source
    try:
        with quiet(), _no_bars():
            return datasets.load_dataset(path, subset, split=split, revision=revision)
    except Exception as error:  # whatever the readers of a stranger's files stumble over
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{KEY}: {source} (subset {subset or 'default'}, split {split}): not a .jsonl file and not read "
            f"as a dataset: {reason}"
        ) from None


@contextmanager
def _no_bars() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            enable_progress_bars()
