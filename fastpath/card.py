"""The model card (README.md) of an exported model: plan, lineage and, once evaluated, the measured gap."""

from pathlib import Path

from fastpath.models import Lineage
from fastpath.plan import Plan, repair_words, spans_of
from fastpath.runs import write_text
from fastpath.sources import EMBEDDED

REFIT = "refit"
"""The repair of a lineage that distill made before any training."""

_TEMPLATE = """\
---
{base_model}library_name: transformers
pipeline_tag: text-generation
tags: [fastpath, depth-pruned]
---

# A fast tier of {base}

{num_keep} of {depth} blocks of `{base}`{at} are kept; {training}. A stock
transformers model: `AutoModelForCausalLM.from_pretrained(folder)` loads it, no other code is needed.

## Plan

Dropped, 0-based in the base model: {drop} ({criterion}, {chooser}). Kept: {keep}.

Repair without training: {repair}

## Measured gap

{gap}

## Lineage

| | |
|---|---|
| base | {base} |
| revision | {revision} |
| digest of the base's safetensors files | {base_weights_sha256} |
| digest of these safetensors files | {weights_sha256} |
| made by | {code} |
"""
NOT_MEASURED = "Not measured yet: `python -m eval` with the same recipe measures it and writes it here."


def write_card(folder: Path, plan: Plan, gap: str = NOT_MEASURED) -> None:
    """Write FOLDER/README.md from the plan, FOLDER/lineage.json and the gap as Markdown."""
    lineage = Lineage.read(folder)
    drop = ", ".join(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in spans_of(plan.drop))
    facts = {
        **vars(lineage),
        "base_model": _front_matter(lineage),
        "at": "" if lineage.revision == "local" else f" ({lineage.revision})",
        "num_keep": len(plan.keep),
        "drop": drop,
        "keep": ", ".join(map(str, plan.keep)),
        "criterion": plan.criterion,
        "chooser": plan.chooser,
        "repair": "the refit" if plan.repair is None and _refitted(lineage) else repair_words(plan.repair),
        "training": distillation_words(lineage),
        "gap": gap.strip(),
    }
    write_text(folder / "README.md", _TEMPLATE.format(**facts))


def distillation_words(lineage: Lineage) -> str:
    """How the weights were trained after the cut, in a clause."""
    solved = ""
    if _refitted(lineage):
        solved = "the last maps of blocks were solved for anew, towards the original's streams"
    if (facts := lineage.distillation) is None:
        return solved or "nothing was retrained"
    how = "the original was distilled back into them" if facts.get("kd_weight", 1) else "they were fine-tuned"
    return (
        f"{solved}{solved and ', then '}{how} ({facts['mode']}, {facts['steps']} steps, "
        f"{facts['learnt_tokens']:,} learnt tokens; the weights are those of {facts['checkpoint']})"
    )


def _refitted(lineage: Lineage) -> bool:
    return REFIT in lineage.repair.split(", ")


def _front_matter(lineage: Lineage) -> str:
    """What the hub wants to know of the base: a path of this machine means nothing there."""
    if lineage.base.startswith("embedded:"):
        weights = EMBEDDED[lineage.base.removeprefix("embedded:")]
        base = f"base_model: {weights.hub_id}\n" if weights.hub_id else ""
        return f"{base}license: {weights.license}\n"
    is_hub_id = len(lineage.revision) == 40  # a commit
    return f"base_model: {lineage.base}\n" if is_hub_id else ""
