"""Train the reference model embedded:depthdial from nothing, or print what the shipped weights get right.

    python benchmarks/train_depthdial.py --folder /tmp/depthdial     # trains; again: goes on
    python benchmarks/train_depthdial.py --evaluate                  # the table, then one JSON line

Curriculum: a model of 3 blocks learns k = 1; whenever the last level passes 90 % it gets one more block and
one more link, up to k = MAX_LINKS at 10 blocks. Then the blocks, one module so far, become ten that go on
learning. The input is plain text; the targets are in the loss alone: the last word of every fact predicts the
digit its name resolves to, after every block; where fewer blocks than hops have passed it predicts `<unk>`.
"""

import argparse
import json
import logging
import math
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

from benchmarks.depthdial_model import (
    UNKNOWN,
    draw_names,
    exits,
    grow,
    load_state,
    new_model,
    new_tokenizer,
    part,
    read_facts,
    save_state,
    tie_gradients,
)
from benchmarks.depthdial_practice import Targets, practice
from benchmarks.depthdial_score import evaluate
from fastpath.cli import guarded
from fastpath.config import ModelConfig
from fastpath.errors import RunError, UserError
from fastpath.items.tiny import MAX_LINKS
from fastpath.models import pick_device, save_model
from fastpath.quiet import quiet
from fastpath.runs import new_folder
from fastpath.sources import locate

MODEL = "embedded:depthdial"
EARLY_WEIGHT, UNKNOWN_WEIGHT = 0.3, 0.3
"""Of a target after a block that is not the last, and of the target <unk>."""
PASS, WINDOW = 0.9, 50
"""A level is passed when this part of its targets was right over this many steps."""

STATE = "state.safetensors"
log = logging.getLogger("depthdial")


@dataclass(frozen=True)
class Recipe:
    """What of a training can be chosen; the constants of these modules are the rest of it."""

    seed: int = 0
    max_links: int = MAX_LINKS
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    last_steps: int = 1500
    """Steps after the last level was reached, the rate falling as a cosine to a twentieth."""
    apart_steps: int = 1000
    """So many of the last steps with ten separate blocks."""
    weight_decay: float = 0.05
    max_steps: int = 20_000
    """Where to give up if the last level is never reached."""

    def __post_init__(self) -> None:
        if self.apart_steps > self.last_steps:
            raise UserError(
                f"apart_steps: {self.apart_steps} of {self.last_steps} last_steps; at most all of them"
            )


@dataclass(frozen=True)
class State:
    """Where training stands; the weights and the optimizer lie beside it."""

    step: int = 0
    level: int = 1
    top_step: int = -1
    """The step at which the last level was passed, -1 before."""
    is_apart: bool = False
    right: list[int] = field(default_factory=list)
    """Targets right in this window by hops, and all of them."""
    seen: list[int] = field(default_factory=list)


def train(
    recipe: Recipe, folder: Path, *, device: str = "cpu", stop_at: int | None = None, save_every: int = 100
) -> Any:
    """The trained model; a killed run goes on from state.safetensors in `folder`; tests `stop_at` a step."""
    path = folder / STATE
    folder.mkdir(parents=True, exist_ok=True)
    state = State()
    if path.is_file():
        facts = read_facts(path)
        if facts["recipe"] != asdict(recipe):
            raise RunError(f"{path}: made with another recipe ({facts['recipe']}); choose another folder")
        state = State(**facts["state"])
    model = new_model(seed=recipe.seed, num_blocks=state.level + 2)
    if state.is_apart:
        part(model)
    model.to(device)
    optimizer = new_optimizer(model, recipe)
    if path.is_file():
        load_state(path, model, optimizer)
    start = time.monotonic()
    while not _is_done(state, recipe) and state.step != stop_at:
        batch = practice(
            seed=recipe.seed, step=state.step, level=state.level, max_links=recipe.max_links,
            batch_size=recipe.batch_size,
        ).to(device)  # fmt: skip
        state = _learn(model, optimizer, batch, state, recipe)
        if state.step % WINDOW == 0:
            rates = [f"{r / max(1, s):.3f}" for r, s in zip(state.right, state.seen, strict=True)]
            log.info(
                "step %d, k = %d, %.0f s: right by hops %s",
                state.step, state.level, time.monotonic() - start, " ".join(rates),
            )  # fmt: skip
            state = _raised(model, state, recipe)
        if recipe.last_steps - (state.step - state.top_step) == recipe.apart_steps and state.top_step >= 0:
            part(model)
            optimizer = _inheriting(optimizer, new_optimizer(model, recipe), model)
            state = replace(state, is_apart=True)
        if state.step % save_every == 0 or state.step == stop_at or _is_done(state, recipe):
            save_state(path, model, optimizer, {"recipe": asdict(recipe), "state": asdict(state)})
    return model.eval()


def _is_done(state: State, recipe: Recipe) -> bool:
    if state.step >= recipe.max_steps and state.top_step < 0:
        raise RunError(f"level k = {state.level} was not passed in {recipe.max_steps} steps")
    return state.top_step >= 0 and state.step - state.top_step >= recipe.last_steps


def new_optimizer(model: Any, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; norms, embeddings and head do not decay."""
    inner = [(name, p) for name, p in model.named_parameters() if "embed" not in name and "head" not in name]
    decaying = [p for _, p in inner if p.dim() == 2]
    known = set(map(id, decaying))
    others = [p for p in model.parameters() if id(p) not in known]
    groups = [
        {"params": decaying, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _inheriting(old: Any, new: torch.optim.AdamW, model: Any) -> torch.optim.AdamW:
    """`new`, every parted block with the moments of the one it is a copy of: from none a step is too long."""
    for weight in model.parameters():
        if weight in old.state:
            new.state[weight] = old.state[weight]
    first, *copies = (dict(block.named_parameters()) for block in model.model.layers[1:])
    for block in copies:
        for name, weight in block.items():
            new.state[weight] = {key: value.clone() for key, value in old.state[first[name]].items()}
    return new


def _rate(state: State, recipe: Recipe) -> float:
    """Learning rate of this step: the errors of all hops multiply, so a higher level takes smaller steps."""
    done = (state.step - state.top_step) / recipe.last_steps if state.top_step >= 0 else 0.0
    warm = min(1.0, (state.step + 1) / recipe.warmup_steps)
    return recipe.learning_rate / state.level * warm * max(0.05, (1 + math.cos(math.pi * done)) / 2)


def _learn(model: Any, optimizer: Any, batch: Targets, state: State, recipe: Recipe) -> State:
    model.train()
    draw_names(model, seed=recipe.seed, step=state.step)
    for group in optimizer.param_groups:
        group["lr"] = _rate(state, recipe)
    all_logits = exits(model, batch.ids, batch.at)
    optimizer.zero_grad(set_to_none=True)
    loss(all_logits, batch).backward()
    tie_gradients(model)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    is_right = all_logits[-1].argmax(-1) == batch.answer
    size = recipe.max_links + 2
    right = torch.bincount(batch.hops[is_right], minlength=size).cpu() + torch.tensor(
        state.right or [0] * size
    )
    seen = torch.bincount(batch.hops, minlength=size).cpu() + torch.tensor(state.seen or [0] * size)
    return replace(state, step=state.step + 1, right=right.tolist(), seen=seen.tolist())


def loss(all_logits: list[torch.Tensor], batch: Targets) -> torch.Tensor:
    """Nats per target after the last block, and less heavily after every one before it."""
    total = torch.zeros((), device=batch.answer.device)
    for block, logits_NV in enumerate(all_logits, start=1):
        is_known = batch.hops <= block
        nats = cross_entropy(logits_NV, batch.answer.where(is_known, UNKNOWN), reduction="none")
        weight = 1.0 if block == len(all_logits) else EARLY_WEIGHT
        total = total + weight * (nats * torch.where(is_known, 1.0, UNKNOWN_WEIGHT)).sum()
    return total / len(batch.answer)


def _raised(model: Any, state: State, recipe: Recipe) -> State:
    """The next level if this one is passed; the counts of a window start anew either way."""
    hops = state.level + 1
    passed = state.right[hops] > PASS * state.seen[hops]
    state = replace(state, right=[], seen=[])
    if not passed or state.top_step >= 0:
        return state
    if state.level == recipe.max_links:
        return replace(state, top_step=state.step)
    grow(model)
    return replace(state, level=state.level + 1)


def export(model: Any, folder: Path) -> None:
    """A stock Hugging Face folder in bfloat16, whole or not there."""
    with new_folder(folder) as unfinished:
        save_model(model.bfloat16(), new_tokenizer(), unfinished)


def main() -> int:
    """Train and export, or evaluate; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--evaluate", action="store_true", help="score the weights instead of training")
    parser.add_argument("--model", default=MODEL, help="whose weights --evaluate scores")
    parser.add_argument("--items", type=int, default=1000, help="items a row of the table")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/train-depthdial"), help="checkpoint and model/"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="where to train: auto, cpu, cuda")
    options = parser.parse_args()
    if options.items < 1:
        parser.error("--items: at least 1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)

    def work() -> None:
        if options.evaluate:
            scored = locate(options.model).folder
        else:
            scored = options.folder / "model"
            if scored.is_dir() and not (options.folder / STATE).exists():
                raise RunError(
                    f"{options.folder}: holds a model, but no {STATE} that says how it was trained"
                )
            with quiet():
                device = str(pick_device(ModelConfig(name=MODEL, device=options.device)))
                model = train(
                    Recipe(seed=options.seed), options.folder, device=device
                )  # at once where it is done
                if not scored.is_dir():
                    export(model, scored)
        print(json.dumps(evaluate(scored, num_items=options.items)))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
