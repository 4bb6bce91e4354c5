"""Items of reasoning-gym (Apache-2.0, optional) as rows of lm-eval tasks whose answer the model writes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from datasets import Dataset

from fastpath.errors import ConfigError
from fastpath.items.item import digest

NUM_SHOTS = 12
MAX_TRIED = 20_000
RIGHT = 0.999
"""score_answer is no 0 or 1: it gives a part to whatever contains the answer (0.75 to "9214" for "214")."""


def load(
    *,
    generator: str,
    knob: Sequence[str],
    ks: Sequence[int],
    settings: Mapping[str, Any] | None = None,
    guess: float | None = None,
    items_seed: int = 0,
    num_items: int = 100,
    **_: Any,
) -> dict[str, Dataset]:
    """{"test", "fewshot"} rows of a generator, its `knob` set to each k in turn.

    `guess`: chance of guessing one of the k parts of an answer; `_` is lm-eval's own metadata.
    """
    rows = {}
    for split, count in (("test", num_items), ("fewshot", NUM_SHOTS)):
        given = {k: dict.fromkeys(knob, k) | dict(settings or {}) for k in ks}
        levels = {k: _entries(generator, given[k], split, str(items_seed), str(k)) for k in ks}
        dealt = [(k, next(levels[k])) for k in islice(cycle(ks), count)]
        chances = {k: {} if guess is None else {"chance": guess**k} for k in ks}
        rows[split] = Dataset.from_list([_row(generator, k, entry) | chances[k] for k, entry in dealt])
    return rows


def _entries(generator: str, settings: dict[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    """Distinct items: the i-th is a function of the generator's settings, the names and i alone."""
    # Item i of seed s is item i - 1 of seed s + 1: seeds of two splits must lie far apart.
    seed = int(digest(generator, *names), 16) % 2**31
    items = _gym().create_dataset(generator, size=MAX_TRIED, seed=seed, **settings)
    seen: set[str] = set()
    for entry in items:
        if entry["question"] not in seen:
            seen.add(entry["question"])
            yield entry
    raise ConfigError(f"{generator}, {settings}: only {len(seen)} distinct items; ask for fewer")


def _row(generator: str, k: int, entry: dict[str, Any]) -> dict[str, Any]:
    item = digest(generator, entry["question"], length=16)
    return {
        "id": item,
        "template": item,
        "source": item,
        "k": k,
        "prompt": f"{entry['question']}\nAnswer:",
        "answer": str(entry["answer"]),
        "generator": generator,
        "entry": json.dumps(entry),
    }


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Right or wrong by the generator's own rule, on the extracted answer."""
    rule = _gym().get_score_answer_fn(doc["generator"])
    return {"exact_match": float(rule(extract(results[0]), json.loads(doc["entry"])) >= RIGHT)}


def extract(text: str) -> str:
    """The answer in a text: what follows the last "Answer:", of that the last line, without a final stop."""
    lines = text.rpartition("Answer:")[2].strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else ""


def _gym() -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise ConfigError(
            f"reasoning-gym is not installed ({error}); run `pip install -c constraints.txt -e '.[gym]'`"
        ) from None
    return reasoning_gym
