"""What every process but the first does in `accelerate launch -m eval`: answer its share, write nothing."""

import logging
from pathlib import Path

from eval.harness import evaluate_task, load_suites
from eval.panel import Panel
from eval.zoo import Zoo
from fastpath.config import EvalConfig, Recipe
from fastpath.models import pick_device, pick_dtype
from fastpath.team import Team


def work(recipe: Recipe) -> Path:
    """Follow the first process from task to task; return its stage's folder."""
    logging.getLogger("fastpath").setLevel(logging.WARNING)
    config = recipe.eval or EvalConfig()
    device = pick_device(recipe.model)
    team = Team.launched(device)
    if (sources := team.hear()) is not None:
        dtype, _ = pick_dtype(recipe.model, device)
        zoo = Zoo(sources, dtype=dtype, device=device, trust=recipe.model.trust_remote_code)
        suites, panel = load_suites(config, seed=recipe.seed), Panel(zoo, config, team=team)
        while (job := team.hear()) is not None:
            suite, name, labels = job
            task = suites[suite][name]
            for lm in panel.lms(task.OUTPUT_TYPE, labels, lambda _: None).values():
                evaluate_task(lm, task, config)
    return recipe.out / "eval"
