"""The model card as the Hugging Face Hub reads it (base model, licence, tags, results), and the push."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import EvalResult, HfApi, ModelCardData, metadata_load
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from fastpath.errors import ExportError
from fastpath.runs import read_json
from fastpath.sources import EMBEDDED, is_hub_id
from prune.exports.made import Made

log = logging.getLogger("fastpath")
RELATION = "finetune"
"""What the hub calls a model with weights of its own from one base. Its words are adapter, quantized, merge,
finetune (huggingface.co/docs/hub/model-cards, "Specifying a base model"): there is none for pruned."""
CARRIED = ("license", "license_name", "license_link", "language")
WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
"""Files of an earlier push that must not stay: transformers reads a single file rather than an index's."""
SUITES = ("simple", "complex", "knowledge")


def hub_card(made: Made, base: Path, body: str) -> str:
    """README.md: the card that the run wrote, under the front matter that the hub reads."""
    results = list(measured(made))
    data = ModelCardData(
        base_model=hub_id_of(made.lineage.base),
        base_model_relation=RELATION if hub_id_of(made.lineage.base) else None,
        **carried_over(made, base),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["fastpath", "depth-pruned", *(["distilled"] if made.lineage.distillation else [])],
        model_name=f"{made.run.resolve().name}-{made.stage}" if results else None,
        eval_results=results or None,
    )
    text = body.split("---\n", 2)[2] if body.startswith("---\n") else body
    return f"---\n{data.to_yaml()}\n---\n{text}"


def hub_id_of(name: str) -> str | None:
    """The base's id on the hub, where it has one: a path of this machine means nothing there."""
    if name.startswith("embedded:"):
        return EMBEDDED[name.removeprefix("embedded:")].hub_id or None
    return name if is_hub_id(name) else None


def carried_over(made: Made, base: Path) -> dict[str, Any]:
    """Licence and languages as the base's own card states them."""
    name = made.lineage.base.removeprefix("embedded:")
    stated = metadata_load(base / "README.md") if (base / "README.md").is_file() else None
    found = {key: value for key, value in (stated or {}).items() if key in CARRIED}
    if "license" not in found and made.lineage.base.startswith("embedded:"):
        found["license"] = EMBEDDED[name].license
    files = sorted(path.name for path in base.glob("LICENSE*"))
    if "license" not in found and files:
        found |= {"license": "other", "license_name": "as-the-base", "license_link": files[0]}
    if "license" not in found:
        log.warning("warning: %s states no licence; look it up and add it to README.md", made.lineage.base)
    return found


def measured(made: Made) -> Iterator[EvalResult]:
    """What the run's evaluation found of exactly these weights, task by task; intervals stand in the text."""
    folder = made.run / "eval"
    if not (folder / "results.json").exists():
        return
    digests, results = read_json(folder / "weights.json"), read_json(folder / "results.json")
    for label, variant in results["variants"].items():
        if digests.get(label) != made.lineage.weights_sha256:
            continue
        for suite in SUITES:
            for task, facts in variant.get(suite, {}).get("tasks", {}).items():
                yield _result(f"{task} ({suite} suite, {facts['num_items']} items)", task, facts)
            for kind, facts in variant.get(suite, {}).get("means", {}).items():
                name = (
                    f"{suite} suite, mean of {facts['num_tasks']} tasks ({kind}, {facts['num_items']} items)"
                )
                yield _result(name, f"{suite}_{kind}_mean", facts)


def _result(name: str, dataset: str, facts: dict[str, Any]) -> EvalResult:
    gap, low, high = (100 * facts[key] for key in ("gap", "gap_low", "gap_high"))
    return EvalResult(
        task_type="text-generation",
        dataset_type=dataset,
        dataset_name=name,
        metric_type="accuracy",
        metric_name=f"accuracy (base {facts['base_accuracy']:.3f}; "
        f"points lost {gap:+.1f}, 95 % {low:+.1f} to {high:+.1f})",
        metric_value=round(facts["fast_accuracy"], 4),
    )


def push(folder: Path, name: str) -> str:
    """Upload the folder to a model repository, made private where it is new; its address. ExportError."""
    api = HfApi()
    try:
        address = api.create_repo(name, repo_type="model", private=True, exist_ok=True)
        api.upload_folder(
            folder_path=folder, repo_id=name, repo_type="model", commit_message="Upload by fastpath",
            delete_patterns=list(WEIGHTS),
        )  # fmt: skip
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"--push {name}: {reason}; the export is whole in {folder}") from None
    return str(address)
