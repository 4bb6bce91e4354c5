"""GET /v1/models: every tier, its limits, and what its model was measured to lose."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastpath.config import Recipe
from fastpath.errors import RunError
from fastpath.runs import read_json
from serve.errors import UnknownModel
from serve.tiers import Tier

Data = dict[str, Any]
SUITES = ("simple", "complex", "knowledge")
STARTED = int(time.time())


def listing(model: str, tiers: Mapping[str, Tier], default: str, gaps: Mapping[str, Any]) -> Data:
    """NAME, which is its default tier, and NAME:tier of each."""
    entries = {model: tiers[default], **{f"{model}:{name}": tier for name, tier in tiers.items()}}
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": STARTED,
                "owned_by": "fastpath",
                "service_tier": tier.name,
                "service_tiers": list(tiers),
                "context_tokens": tier.context_tokens,
                "max_new_tokens": tier.max_new_tokens,
                "answered_by": tier.shown_model,
                "measured_gap": gaps.get(tier.name),
            }
            for name, tier in entries.items()
        ],
    }


def one_model(every: Data, name: str) -> Data:
    """One entry of the list. Raises UnknownModel."""
    for entry in every["data"]:
        if entry["id"] == name:
            return entry
    raise UnknownModel(f"no model {name[:128]!r} here; models: {', '.join(e['id'] for e in every['data'])}")


def measured_gaps(recipe: Recipe, tiers: Mapping[str, Tier]) -> dict[str, Data]:
    """Tier -> suite -> kind of task -> the gap that this run measured between the base and the tier's model.

    A tier that the base answers has no gap; one whose model was not evaluated is left out: not measured.
    """
    path = recipe.out / "eval" / "results.json"
    if not path.is_file():
        return {}
    results = read_json(path)
    try:
        folders = {_folder(where): label for label, where in results["models"].items()}
        evaluated = {
            name: results["variants"][label]
            for name, tier in tiers.items()
            if (label := folders.get(_folder(tier.model))) in results["variants"]
        }
        return {
            name: {suite: facts[suite]["means"] for suite in SUITES if suite in facts}
            for name, facts in evaluated.items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path}: not the results of an evaluation ({error!r}); evaluate the run again"
        ) from None


def _folder(where: str) -> str:
    return str(Path(where).resolve())
