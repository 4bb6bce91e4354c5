"""Cut the stored weights, check, repair, save: the model folder of a plan."""

import logging
from pathlib import Path
from typing import Any

import torch

from fastpath.blocks import TOLERANCE, check_surgery, keep_blocks
from fastpath.card import write_card
from fastpath.config import PruneConfig
from fastpath.env import code_version
from fastpath.errors import SurgeryError
from fastpath.models import Lineage, load_model, save_model, weights_sha256
from fastpath.plan import Plan, repair_words
from fastpath.quiet import quiet
from fastpath.runs import new_folder
from fastpath.sources import Source
from prune.calibration import calibration_items, dial_items, held_out_items
from prune.judge import repair, repair_items

log = logging.getLogger("fastpath")


def export_model(
    model: Any,
    tokenizer: Any,
    source: Source,
    plan: Plan,
    config: PruneConfig,
    folder: Path,
    *,
    seed: int,
    weights: str,
    trust: bool,
    device_map: str = "none",
) -> Plan:
    """Cut the weights as they are stored (not as they were computed with), save, check what was saved, mend.

    `weights` is the digest of the base's. Returns the plan with what the repair did.
    """

    def load_saved() -> Any:
        return load_model(
            unfinished,
            dtype=model.dtype,
            device=model.device,
            device_map=device_map,
            trust_remote_code=trust,
        )

    with new_folder(folder) as unfinished:
        save_cut(source.folder, tokenizer, plan, unfinished, trust=trust)
        saved = load_saved()
        worst = check_surgery(model, saved, plan.keep)
        check_cached(model, saved)
        if config.repair != "none":
            log.info("repair %s: fitting, then judging on other calibration items", config.repair)
            stored = load_model(unfinished, dtype="auto", trust_remote_code=trust)
            mending = repair(model, saved, stored, plan, tokenizer, config, seed=seed)
            plan = plan.model_copy(update={"repair": mending})
            log.info("repair %s", repair_words(plan.repair))
            if mending.applied:
                save_again(stored, unfinished)
            del stored  # large; and another copy of the model is coming
            if mending.applied:
                check_read_back(load_saved(), saved, unfinished)
        mended = plan.repair is not None and plan.repair.applied
        del saved
        lineage = Lineage(
            base=source.name,
            revision=source.revision,
            base_weights_sha256=weights,
            weights_sha256=weights_sha256(unfinished),
            depth=plan.depth,
            keep=plan.keep,
            code=code_version(),
            calibration_items=seen_items(config, seed=seed),
            repair=config.repair if mended else "none",
        )
        lineage.write(unfinished)
        write_card(unfinished, plan)
    log.info("saved %s; largest difference of a logit from the skipped original: %.1e", folder, worst)
    if len(plan.drop) > plan.depth / 3:
        log.warning("warning: %d of %d blocks dropped; more than a third is not known to heal on reasoning",
                    len(plan.drop), plan.depth)  # fmt: skip
    return plan


def save_cut(base: Path, tokenizer: Any, plan: Plan, folder: Path, *, trust: bool) -> None:
    """Write the base's stored weights without the dropped blocks; they are in memory here alone."""
    stored = load_model(base, dtype="auto", trust_remote_code=trust)
    save_model(keep_blocks(stored, plan.keep), tokenizer, folder)


def seen_items(config: PruneConfig, *, seed: int) -> tuple[str, ...]:
    """Ids of all items that went into the model.

    Those that blocks were scored, plans searched and the frontier costed on, unless the plan was given; and
    those that a repair was fitted, chosen and judged on.
    """
    ids: tuple[str, ...] = ()
    if not config.plan:
        simple, both = calibration_items(config, seed=seed)
        held_simple, held_both = held_out_items(config, seed=seed)
        suites = simple, both, dial_items(config, seed=seed), held_simple, held_both
        ids += tuple(item.id for items in suites for item in items)
    if config.repair != "none":
        ids += repair_items(config, seed=seed).ids
    return tuple(dict.fromkeys(ids))


def save_again(stored: Any, folder: Path) -> None:
    """Write a mended model over the cut."""
    for file in folder.glob("*.safetensors"):
        file.unlink()  # not written over: tensors in memory may be mapped from it
    with quiet():
        stored.save_pretrained(folder)


def check_read_back(loaded: Any, judged_model: Any, folder: Path) -> None:
    """Raise SurgeryError unless every tensor of the saved model is what was judged."""
    read, judged = loaded.state_dict(), judged_model.state_dict()
    if wrong := [key for key in judged if not torch.equal(read[key], judged[key])]:
        raise SurgeryError(f"{folder}: the repaired {wrong[0]} does not read back as it was judged")


def check_cached(model: Any, saved: Any) -> None:
    """Raise SurgeryError if the cut model cannot generate with its KV cache though the original can.

    A hybrid stack that lost all its full-attention blocks computes rightly and cannot generate.
    """
    if cache_error(model):
        return
    if reason := cache_error(saved):
        raise SurgeryError(
            f"{type(saved).__name__}: the cut model cannot use its KV cache: {reason}; "
            "keep one of the blocks that it needs for that (prune.protect)"
        )


@torch.no_grad()
def cache_error(model: Any) -> str:
    """Why cached and uncached logits of a model do not agree; "" if they do."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids = (torch.arange(3, 19, device=model.device) % vocabulary)[None]
    whole = model(ids, use_cache=False).logits[:, -1].double()
    try:
        cache = model(ids[:, :-1], use_cache=True).past_key_values
        step = model(ids[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1].double()
    except (RuntimeError, IndexError, ValueError, AttributeError, TypeError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    worst = (step - whole).abs().max().item()
    agree = worst <= TOLERANCE[model.dtype] * max(1.0, whole.abs().max().item())
    return "" if agree else f"its logits differ by {worst:.2g}"
