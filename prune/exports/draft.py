"""Target draft: a much shallower model that guesses for the original, whose output stays exactly its own."""

import gc
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fastpath.config import PruneConfig, Recipe
from fastpath.config_distill import DistillConfig
from fastpath.drafting import (
    Assisted,
    Continued,
    acceptance,
    assisted,
    chat_ids,
    checked_lengths,
    continuations,
    set_guesses,
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
from prune.exports.request import Request
from prune.exports.shallow import judged, shallow_plans
from prune.run import run as prune_run

log = logging.getLogger("fastpath")
PROMPTS, NEW_TOKENS, CONTEXT = 12, 32, 128
"""Prompts that plans are chosen on, and as many that the draft is measured on; tokens of each answer; cached
tokens when steps are timed."""
CARD_HEADING = "## As a draft"


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
    measured: Assisted
    """With the guesses that were predicted to pay best; with one where none were."""


def export_draft(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Choose a shallow plan, cut it, distil it (if the run was, or if told how), measure it, prove it."""
    out.mkdir(parents=True, exist_ok=True)
    # The original is loaded twice, so that it takes no memory while another process distils it.
    choice = step(out, "choice.json", lambda: choose(load_original(made), made))
    folder = out / draft_run(made, out, tuple(choice["keep"]), request.changes) / "model"
    (out / "draft.json").unlink(missing_ok=True)
    model = load_original(made)
    draft = load_model(folder, dtype=model.dtype, device=model.device, trust_remote_code=made.trust)
    worth = measure(model, draft, own_answers(model, made, prompts(made)[1]))
    sides, dtype = worth.measured, str(model.dtype).removeprefix("torch.")
    if wrong := sides.prompts - sides.identical:
        if model.dtype == torch.float32:  # other types have ties that rounding decides
            raise ExportError(f"{folder}: with it the original says something else on {wrong} prompts")
        log.warning("warning: another answer on %d of %d prompts (%s)", wrong, sides.prompts, dtype)
    set_guesses(draft, worth.tokens)
    draft.generation_config.save_pretrained(folder)
    facts = {
        "draft": str(folder), "chosen_by": choice["chosen_by"], "keep": choice["keep"],
        "acceptance_untrained": choice["acceptance"], **asdict(worth), "speedup": sides.speedup,
        "proof": {"loaded_by": "transformers", "dtype": dtype, "prompts": sides.prompts,
                  "identical": sides.identical},
    }  # fmt: skip
    words = measured_words(worth, dtype)
    lines = [words, *usage(original_name(made), folder, worth.tokens)]
    tell_card(folder, words)
    write_text(out / "README.md", "\n".join(["# A draft model", "", *lines, ""]))
    write_json(out / "draft.json", facts)
    print("\n".join(lines))
    return facts


def load_original(made: Made) -> Any:
    """The model that the draft guesses for. Raises ExportError where guesses cannot be taken back."""
    device = pick_device(made.recipe.model)
    dtype, _ = pick_dtype(made.recipe.model, device)
    model: Any = load_model(made.base().folder, dtype=dtype, device=device, trust_remote_code=made.trust)
    if model._is_stateful:
        raise ExportError(
            f"{type(model).__name__}: its state cannot be set back to before a wrong guess: no draft for it"
        )
    return model


def original_name(made: Made) -> str:
    """Hub id, or the folder where the original lies."""
    base = made.lineage.base
    return str(made.base().folder) if base.startswith("embedded:") else base


def prompts(made: Made) -> tuple[list[str], list[str]]:
    """Held-out calibration prompts: to choose on, to measure on."""
    config = read_made(made.run, "prune").recipe.prune if is_done(made.run / "prune") else None
    items = [
        item
        for suite in held_out_items(config or PruneConfig(drop=1), seed=made.recipe.seed)
        for item in suite
    ]
    some = [item.prompt for item in items[:: max(1, len(items) // (2 * PROMPTS))][: 2 * PROMPTS]]
    return some[::2], some[1::2]


def own_answers(model: Any, made: Made, asked: Sequence[str]) -> list[Continued]:
    """The original's greedy answers."""
    tokenizer = load_tokenizer(made.base().folder, trust_remote_code=made.trust)
    return continuations(model, [chat_ids(tokenizer, prompt) for prompt in asked], new_tokens=NEW_TOKENS)


def choose(model: Any, made: Made) -> dict[str, Any]:
    """The shallow plan of highest predicted speedup, as plain data."""
    texts = own_answers(model, made, prompts(made)[0])
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
    distilled = made.stage == "distill" or bool(changes)
    if distilled:
        last = min((recipe.distill or DistillConfig()).last_blocks, len(keep))
        changes = ("distill.candidates=1", f"distill.last_blocks={last}", *changes)
    write_text(out / "recipe.yaml", recipe.to_yaml())
    recipe = load_recipe(out / "recipe.yaml", changes)
    prune_run(recipe.for_stage("prune"))
    if not distilled:
        return "prune"
    write_text(out / "recipe.yaml", recipe.to_yaml())
    distil(out / "recipe.yaml")
    return "distill"


def distil(recipe: Path) -> None:
    """`python -m distill`, in a process of its own: stages do not import one another. Raises ExportError.

    It takes as long as it takes, and its progress goes to stderr.
    """
    gc.collect()
    torch.cuda.empty_cache()  # what was computed here leaves the device to it
    command = [sys.executable, "-m", "distill", "--config", str(recipe)]
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    if code:
        raise ExportError(f"python -m distill --config {recipe}: failed (exit code {code}), as said above")


def measure(model: Any, draft: Any, texts: Sequence[Continued]) -> Worth:
    """What the draft guesses right, what it costs, and how many guesses pay; 0 if measured they do not."""
    target = step_seconds(model, context=CONTEXT, tokens=checked_lengths())
    ratio = step_seconds(draft, context=CONTEXT, tokens=[1])[1] / target[1]
    accepted, costs = acceptance(draft, texts), verify_costs(target)
    chosen = choose_tokens(accepted, cost_ratio=ratio, verify_costs=costs)
    asked = [text.ids[: text.start] for text in texts]
    sides = assisted(model, draft, asked, new_tokens=NEW_TOKENS, tokens=max(1, chosen.tokens))
    tokens = chosen.tokens if sides.speedup > 1 else 0
    return Worth(accepted, ratio, costs, tokens, chosen.speedup, sides)


def measured_words(worth: Worth, dtype: str) -> str:
    """What the draft is worth, for people."""
    sides = worth.measured
    guesses = "1 guess" if sides.guesses == 1 else f"{sides.guesses} guesses"
    same = f"identical on {sides.identical} of {sides.prompts} prompts ({dtype})"
    output = "is the original's own" if sides.identical == sides.prompts else "differs where rounding decides"
    off = " Off: it would not pay on this machine. Distilling it (longer) raises the acceptance."
    best = "" if worth.tokens else " at best"
    return (
        f"Acceptance {100 * worth.acceptance:.0f} % of the original's tokens, each guess at "
        f"{worth.cost_ratio:.2f} of the cost. With {guesses} a round "
        f"{sides.speedup:.2f} times the speed, measured; predicted {worth.predicted_speedup:.2f}{best}. "
        f"The output {output}: {same}.{'' if worth.tokens else off}"
    )


def tell_card(folder: Path, words: str) -> None:
    """Write into the draft's model card what it is worth; without paths, for it may be published."""
    path = folder / "README.md"
    card = path.read_text(encoding="utf-8").split(CARD_HEADING)[0].rstrip()
    write_text(path, f"{card}\n\n{CARD_HEADING}\n\n{words}\n")


def usage(original: str, folder: Path, tokens: int) -> list[str]:
    """How to use the draft with so many guesses a round; nothing where it is off."""
    if not tokens:
        return []
    config = {"method": "draft_model", "model": str(folder.resolve()), "num_speculative_tokens": tokens}
    return [
        f"transformers: draft = AutoModelForCausalLM.from_pretrained({str(folder)!r}); "
        "original.generate(..., assistant_model=draft)",
        f"vLLM: vllm serve {original} --speculative-config '{json.dumps(config)}'",
    ]
