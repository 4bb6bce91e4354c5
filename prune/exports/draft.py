"""Target draft: a much shallower model that guesses for the original, whose output stays exactly its own."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from fastpath.config import PruneConfig, Recipe
from fastpath.drafting import (
    Continued,
    acceptance,
    chat_ids,
    checked_lengths,
    continuations,
    greedy,
    step_seconds,
    verify_costs,
)
from fastpath.errors import ExportError
from fastpath.models import load_model, load_tokenizer, pick_device, pick_dtype
from fastpath.plan import Plan, read_scores
from fastpath.recipe_file import load_recipe
from fastpath.runs import is_done, step, write_json, write_text
from fastpath.speculative import choose_tokens
from prune.calibration import held_out_items
from prune.exports.made import Made, read_made
from prune.exports.proof import run_program
from prune.exports.request import Request
from prune.exports.shallow import judged, shallow_plans
from prune.run import run as prune_run

log = logging.getLogger("fastpath")
PROMPTS, NEW_TOKENS, CONTEXT, PROOFS = 12, 32, 128, 4
"""Prompts that plans are chosen on, and as many that the draft is measured on; tokens of each answer; cached
tokens when steps are timed; prompts whose answers are compared."""


@dataclass(frozen=True)
class Worth:
    """A draft model, measured beside its target."""

    acceptance: float
    """Share of the tokens of the target's own greedy answers that the draft guesses."""
    cost_ratio: float
    """Time of a token of the draft over one of the target."""
    verify_costs: dict[int, float]
    """{k: time of checking k guesses, over a token of the target}."""
    tokens: int
    """Guesses a round; 0: off."""
    predicted_speedup: float


def export_draft(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Choose a shallow plan, cut it, distil it (if the run was, or if told how), measure it, prove it."""
    out.mkdir(parents=True, exist_ok=True)
    device = pick_device(made.recipe.model)
    dtype, _ = pick_dtype(made.recipe.model, device)
    base = made.base().folder
    model = load_model(base, dtype=dtype, device=device, trust_remote_code=made.trust)
    chosen_on, measured_on = own_answers(model, load_tokenizer(base, trust_remote_code=made.trust), made)
    choice = step(out, "choice.json", lambda: choose(model, made, chosen_on))
    stage = draft_run(made, out, tuple(choice["keep"]), request.changes)
    folder = out / stage / "model"
    draft = load_model(folder, dtype=dtype, device=device, trust_remote_code=made.trust)
    worth = measure(model, draft, measured_on)
    set_guesses(folder, draft, worth.tokens)
    identical = same_answers(model, draft, measured_on[:PROOFS], max(1, worth.tokens))
    if identical < PROOFS and dtype == torch.float32:  # other types have ties that rounding decides
        raise ExportError(
            f"{folder}: with it the original says something else on {PROOFS - identical} prompts"
        )
    facts = {
        "draft": str(folder), "chosen_by": choice["chosen_by"], "keep": choice["keep"],
        "acceptance_untrained": choice["acceptance"], **asdict(worth),
        "proof": {"loaded_by": "transformers", "prompts": PROOFS, "identical": identical},
    }  # fmt: skip
    lines = usage(
        str(base) if made.lineage.base.startswith("embedded:") else made.lineage.base, folder, worth
    )
    write_json(out / "draft.json", facts)
    write_text(out / "README.md", "\n".join(["# A draft model", "", *lines, ""]))
    print("\n".join(lines))
    return facts


def own_answers(model: Any, tokenizer: Any, made: Made) -> tuple[list[Continued], list[Continued]]:
    """The original's greedy answers to held-out calibration prompts: to choose on, to measure on."""
    config = read_made(made.run, "prune").recipe.prune if is_done(made.run / "prune") else None
    items = [
        item
        for suite in held_out_items(config or PruneConfig(drop=1), seed=made.recipe.seed)
        for item in suite
    ]
    some = items[:: max(1, len(items) // (2 * PROMPTS))][: 2 * PROMPTS]
    texts = continuations(model, [chat_ids(tokenizer, item.prompt) for item in some], new_tokens=NEW_TOKENS)
    return texts[::2], texts[1::2]


def choose(model: Any, made: Made, texts: Sequence[Continued]) -> dict[str, Any]:
    """The shallow plan of highest predicted speedup, as plain data."""
    path = made.run / "prune" / "scores.json"
    scores = read_scores(path) if path.exists() else None
    costs = verify_costs(step_seconds(model, context=CONTEXT, tokens=checked_lengths()))
    best, *others = judged(model, shallow_plans(made.plan.depth, scores), texts, costs)
    for of in (best, *others[:3]):
        log.info("draft of %d blocks (%s): guesses %.0f %% untrained, predicted %.2f times",
                 len(of.keep), of.chosen_by, 100 * of.acceptance, of.prediction.speedup)  # fmt: skip
    return {"keep": list(best.keep), "chosen_by": best.chosen_by, "acceptance": best.acceptance}


def draft_run(made: Made, out: Path, keep: tuple[int, ...], changes: Sequence[str] = ()) -> str:
    """Make the draft as a run of its own in OUT, trained as the run's model was, but for key=value changes.

    Returns the stage that has it.
    """
    plan = Plan(depth=made.plan.depth, keep=keep, criterion="given", chooser="given", cost=None, unit="")
    write_json(out / "given.json", plan.model_dump())
    update = {"out": out, "prune": PruneConfig(plan=str(out / "given.json")), "eval": None, "serve": None}
    recipe: Recipe = made.recipe.model_copy(update=update)
    if recipe.distill is not None:
        fitting = {"candidates": 1, "last_blocks": min(recipe.distill.last_blocks, len(keep))}
        recipe = recipe.model_copy(update={"distill": recipe.distill.model_copy(update=fitting)})
    write_text(out / "recipe.yaml", recipe.to_yaml())
    recipe = load_recipe(out / "recipe.yaml", changes)
    prune_run(recipe.for_stage("prune"))
    if made.stage != "distill" and not changes:
        return "prune"
    write_text(out / "recipe.yaml", recipe.to_yaml())
    # A stage of its own, in a process of its own: stages do not import one another.
    run_program(
        [sys.executable, "-m", "distill", "--config", str(out / "recipe.yaml")], what="python -m distill"
    )
    return "distill"


def measure(model: Any, draft: Any, texts: Sequence[Continued]) -> Worth:
    """What the draft guesses right, what it costs, and how many guesses pay."""
    target = step_seconds(model, context=CONTEXT, tokens=checked_lengths())
    ratio = step_seconds(draft, context=CONTEXT, tokens=[1])[1] / target[1]
    accepted, costs = acceptance(draft, texts), verify_costs(target)
    chosen = choose_tokens(accepted, cost_ratio=ratio, verify_costs=costs)
    return Worth(accepted, ratio, costs, chosen.tokens, chosen.speedup)


def set_guesses(folder: Path, draft: Any, tokens: int) -> None:
    """Write k, as a constant, into the draft's generation config, which assisted generation reads."""
    if not tokens:
        return
    config: GenerationConfig = draft.generation_config
    config.num_assistant_tokens, config.num_assistant_tokens_schedule = tokens, "constant"
    config.assistant_confidence_threshold = 0.0
    config.save_pretrained(folder)


def same_answers(model: Any, draft: Any, texts: Sequence[Continued], tokens: int) -> int:
    """How many of the model's own greedy answers transformers' assisted generation gives as well."""
    config = draft.generation_config
    config.num_assistant_tokens, config.num_assistant_tokens_schedule = tokens, "constant"
    config.assistant_confidence_threshold = 0.0
    same = 0
    for text in texts:
        ids_1T = torch.tensor([text.ids[: text.start]], device=model.device)
        same += tuple(greedy(model, ids_1T, new_tokens=NEW_TOKENS, assistant_model=draft)) == text.ids
    return same


def usage(base: str, folder: Path, worth: Worth) -> list[str]:
    """How to use the draft, or why not to."""
    share = f"{100 * worth.acceptance:.0f} %"
    measured = (
        f"It guesses {share} of the original's tokens, each at {worth.cost_ratio:.2f} of the cost: predicted "
        f"{worth.predicted_speedup:.2f} times the speed"
    )
    if not worth.tokens:
        return [f"{measured} at best. Off: it would not pay on this machine. Distilling it raises the share."]
    config = {"method": "draft_model", "model": str(folder.resolve()), "num_speculative_tokens": worth.tokens}
    return [
        f"{measured} with {worth.tokens} guesses a round. The output is the original's own.",
        f"transformers: draft = AutoModelForCausalLM.from_pretrained({str(folder)!r}); "
        "original.generate(..., assistant_model=draft)",
        f"vLLM: vllm serve {base} --speculative-config '{json.dumps(config)}'",
    ]
