"""What every process but the first does in `accelerate launch -m distill`: train its share, save nothing."""

import logging
from pathlib import Path

from distill.training import train
from fastpath.config import Recipe
from fastpath.models import pick_device
from fastpath.team import Team


def work(recipe: Recipe) -> Path:
    """Train the pair that the first process tells of. Returns its stage's folder."""
    logging.getLogger("fastpath").setLevel(logging.WARNING)
    device = pick_device(recipe.model)
    team = Team.launched(device)
    out = recipe.out / "distill"
    while (told := team.hear()) is not None:
        asked, job, folder = told
        train(asked, job, device, folder)
    return out
