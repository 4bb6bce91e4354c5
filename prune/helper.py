"""What every process but the first does in `accelerate launch -m prune`: compute its share, write nothing."""

import logging
from pathlib import Path

from fastpath.config import Recipe
from fastpath.models import load_model, pick_device, pick_dtype
from fastpath.team import Team
from prune.share import help_out


def work(recipe: Recipe) -> Path:
    """Follow the first process, which says where the weights lie, until it has its plan.

    Returns its stage's folder.
    """
    logging.getLogger("fastpath").setLevel(logging.WARNING)
    device = pick_device(recipe.model)
    team = Team.launched(device)
    if (folder := team.hear()) is not None:
        dtype, trust = pick_dtype(recipe.model, device)[0], recipe.model.trust_remote_code
        help_out(load_model(folder, dtype=dtype, device=device, trust_remote_code=trust), team)
    return recipe.out / "prune"
