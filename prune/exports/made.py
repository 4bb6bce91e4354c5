"""What is exported: a model that a stage of a run has finished."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpath.config import Recipe
from fastpath.errors import RunError
from fastpath.models import Lineage, load_model
from fastpath.plan import Plan, read_plan
from fastpath.recipe_file import build_recipe, parse_yaml
from fastpath.runs import EXPORTING, is_done
from fastpath.sources import Source, locate

log = logging.getLogger("fastpath")


@dataclass(frozen=True)
class Made:
    """A finished model of a run."""

    run: Path
    stage: str
    """prune or distill."""
    recipe: Recipe
    """What the stage was asked."""
    plan: Plan
    lineage: Lineage

    @property
    def folder(self) -> Path:
        """Its stock Hugging Face folder."""
        return self.run / self.stage / "model"

    @property
    def trust(self) -> bool:
        """Whether Python code of the model's repository may run."""
        return self.recipe.model.trust_remote_code

    def base(self) -> Source:
        """Where the original's files lie. Raises ModelError if they are gone."""
        model = self.recipe.model
        return locate(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)

    def load(self, **keys: Any) -> Any:
        """The model in memory; `keys` go to load_model."""
        return load_model(self.folder, trust_remote_code=self.trust, **keys)


def read_made(run: Path, stage: str | None = None) -> Made:
    """The model of a run's stage; None takes distill's where there is one, else prune's. Raises RunError."""
    stages = [stage] if stage else list(reversed(EXPORTING))
    done = [name for name in stages if is_done(run / name)]
    if not done:
        what = "has not finished" if run.is_dir() else "no such run;"
        raise RunError(
            f"{run}: {what} `python -m {stages[-1]} --config ...` makes the model that is exported"
        )
    if stage is None and done[0] == "prune" and (run / "distill").is_dir():
        log.warning("warning: %s: has not finished; this is the model of prune", run / "distill")
    folder = run / done[0]
    path = folder / "config.yaml"
    try:
        recipe = build_recipe(parse_yaml(path.read_text(encoding="utf-8"), where=str(path)))
    except OSError:
        raise RunError(f"{path}: cannot be read; it says which model this is") from None
    return Made(run, done[0], recipe, read_plan(folder / "plan.json"), Lineage.read(folder / "model"))
