"""Where the models come from and what they ran on, as words. Reads only."""

from collections.abc import Mapping
from typing import Any

from eval.facts import Facts
from eval.tables import Table


def lineage_table(facts: Facts) -> Table:
    """A column a model: folder, base, what is kept, the code that cut it, digests."""
    labels = list(facts.results["models"])
    columns = [_lineage_cells(facts, label) for label in labels]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    return Table(
        title="Where each model comes from",
        headings=("", *labels),
        rows=tuple((key, *(column.get(key, "") for column in columns)) for key in keys),
        sortable=False,
    )


def _lineage_cells(facts: Facts, label: str) -> dict[str, str]:
    lineage = facts.lineages[label]
    cells = {"folder": facts.results["models"][label], "digest of the weights": facts.digests[label]}
    if label == "base":
        return {"base": facts.results["base"], **cells}
    if lineage is None:
        return {"lineage": "no lineage.json: not exported by fastpath, or the folder is gone", **cells}
    dropped = sorted(set(range(lineage["depth"])) - set(lineage["keep"]))
    if lineage["weights_sha256"] != facts.digests[label]:
        cells["lineage"] = "the folder holds other weights now than were evaluated"
    return {
        "base": lineage["base"],
        "revision": lineage["revision"],
        "blocks": f"{len(lineage['keep'])} of {lineage['depth']} kept",
        "kept": _numbers(lineage["keep"]),
        "dropped": _numbers(dropped),
        "items calibrated or trained on": str(len(lineage["calibration_items"])),
        **({"distilled": _facts(lineage["distillation"])} if lineage.get("distillation") else {}),
        "made by": lineage["code"],
        **cells,
        "digest of the base's weights": lineage["base_weights_sha256"],
    }


def _facts(distillation: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in distillation.items() if "sha256" not in key)


def _numbers(blocks: list[int]) -> str:
    return ", ".join(map(str, blocks))


def env_table(env: Mapping[str, Any]) -> Table:
    """The environment as words: packages one by one, bytes in GB."""
    flat = {**env["packages"], **{key: value for key, value in env.items() if key != "packages"}}
    rows = []
    for key, value in flat.items():
        if key.endswith("_bytes") and isinstance(value, int):
            rows.append((key.removesuffix("_bytes"), f"{value / 1e9:.1f} GB"))
        else:
            rows.append((key, ", ".join(value) if isinstance(value, list) else str(value)))
    return Table(
        title="What the evaluation ran on", headings=("part", "version"), rows=tuple(rows), sortable=False
    )
