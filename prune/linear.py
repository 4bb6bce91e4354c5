"""The best linear replacement of every block: weighted least squares in float64, resumable."""

# L blocks, N real tokens of one half of a batch, D width

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from fastpath.blocks import find_blocks, tap
from fastpath.data import Batch
from fastpath.progress import progress
from prune.part import Part, over_tokens, run_blocks

RIDGE = 1e-8
"""Of the mean squared input: keeps the equations solvable where tokens are fewer than widths."""
SECONDS_BETWEEN_SAVES = 60.0


@dataclass(frozen=True)
class Replacements:
    """What each block adds to the stream as a linear map of what enters it, fitted on each half of items."""

    maps: tuple[torch.Tensor, torch.Tensor]
    """float64 (L, D, D) each, of the half False and of the half True."""
    half: np.ndarray
    """bool (items,): the half of each item."""

    def held_out(self, block: int, x_TD: torch.Tensor, item: int) -> torch.Tensor:
        """float64 (T, D): what the map that has not seen this item says block `block` adds to x."""
        return x_TD.double() @ self.maps[int(not self.half[item])][block]


def linear_cost(model: Any, batch: Batch, fitted: Replacements) -> Part:
    """1 - held-out R^2 of each block's best linear replacement, over all real tokens.

    The least-squares problem of ReplaceMe (arXiv 2505.02819) as a score: x_after ~ x_before + x_before M,
    with M of least squares on the half of the items that does not hold this one. The cost of a token is
    |residual|^2 / |x_after|^2, so that each token counts alike: 0 for a block that does nothing and for one
    that is exactly linear. Without unit; above 1 where the map is worse than none (too few items).

    Divided by the stream after the block, not by what the block adds to it (|x_after - x_before|^2): what is
    predicted is the whole stream that a replacement would write, and the other ratio is 0/0 for a block that
    does nothing.
    """

    def cost(i: int, before_BTD: torch.Tensor, after_BTD: torch.Tensor) -> torch.Tensor:
        rows = []
        for row, item in enumerate(batch.index):
            before_TD, after_TD = before_BTD[row].double(), after_BTD[row].double()
            residual_TD = after_TD - before_TD - fitted.held_out(i, before_TD, item)
            rows.append(residual_TD.square().sum(-1) / after_TD.square().sum(-1).clamp_min(1e-30))
        return torch.stack(rows)

    return over_tokens(model, batch, cost)


def fit_replacements(model: Any, batches: Sequence[Batch], half: np.ndarray, folder: Path) -> Replacements:
    """One pass over the blocks: normal equations of f = x_after - x_before on x_before, for both halves.

    Each token weighs 1 / |x_after|^2, so that the first token, whose norm may be a hundred times that of the
    others, counts as one token. The equations take 32 D^2 bytes a block, in memory and in
    FOLDER/linear.safetensors, from which a killed run goes on; the maps 16 D^2 more: 48 D^2 at the end.
    """
    depth, width = len(find_blocks(model)[1]), model.config.get_text_config(decoder=True).hidden_size
    sums = {name: torch.zeros(2, depth, width, width, dtype=torch.float64) for name in ("gram", "cross")}
    path, done = folder / "linear.safetensors", 0
    if path.exists():
        kept = load_file(path)
        done, sums = int(kept.pop("done")), kept
    saved = time.monotonic()
    with progress("fitting linear replacements", len(batches)) as advance:
        advance(done, kept=True)
        for number, batch in enumerate(batches[done:], start=done + 1):
            _accumulate(sums, model, batch.to(model.device), half)
            if number == len(batches) or time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                _save({**sums, "done": torch.tensor(number)}, path)
                saved = time.monotonic()
            advance(1)
    first, second = (_solved(sums["gram"][h], sums["cross"][h]).to(model.device) for h in (0, 1))
    return Replacements((first, second), half)


@torch.no_grad()
def _accumulate(sums: dict[str, torch.Tensor], model: Any, batch: Batch, half: np.ndarray) -> None:
    """Add the tokens of a batch to the normal equations of each half."""
    second_B = torch.from_numpy(half[list(batch.index)]).to(batch.ids.device)

    def see(i: int, before_BTD: torch.Tensor, after_BTD: torch.Tensor) -> None:
        for h in (0, 1):
            real_BT = batch.attention & (second_B == bool(h))[:, None]
            x_ND, after_ND = before_BTD[real_BT].double(), after_BTD[real_BT].double()
            weighted_ND = x_ND / after_ND.square().sum(-1, keepdim=True).clamp_min(1e-30)
            sums["gram"][h, i] += (weighted_ND.T @ x_ND).cpu()
            sums["cross"][h, i] += (weighted_ND.T @ (after_ND - x_ND)).cpu()

    with tap(model, see):
        run_blocks(model, batch)


def _solved(gram_LDD: torch.Tensor, cross_LDD: torch.Tensor) -> torch.Tensor:
    """(L, D, D) maps; one block at a time, for memory."""
    maps = torch.empty_like(gram_LDD)
    for i, (gram_DD, cross_DD) in enumerate(zip(gram_LDD, cross_LDD, strict=True)):
        ridge = RIDGE * gram_DD.diagonal().mean().clamp_min(1e-30)
        maps[i] = torch.linalg.solve(gram_DD + ridge * torch.eye(len(gram_DD), dtype=gram_DD.dtype), cross_DD)
    return maps


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    save_file(tensors, unfinished)
    unfinished.replace(path)
