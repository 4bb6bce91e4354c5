"""Every shipped recipe runs, on a tiny model in the place of the one it names."""

from pathlib import Path

import pytest
from tiny import run_stage, write_tiny

from fastpath.plan import read_plan
from fastpath.recipe_file import load_recipe

CONFIGS = Path(__file__).parents[1] / "configs"
# The items of hub-suites are on the hub: test_dry_run.py reads it.
OFFLINE = sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "hub-suites.yaml"})
QUICK = ("quickstart",)
"""Run by `make test` too: all stages. The rest differ from them in few keys."""
SMALL = [
    "prune.items_per_task=2",
    "prune.items_per_level=2",
    "eval.items_per_task=2",
    "eval.speed.prompt_tokens=[8, 4]",
    "eval.speed.new_tokens=2",
]
FEW = {"agent": ["eval.agent.tasks=2", "eval.agent.calibration_tasks=2", "eval.agent.trials=3"]}
FEW_STEPS = [
    "distill.items_per_task=4",
    "distill.steps=2",
    "distill.log_steps=1",
    "distill.checkpoint_steps=2",
    "distill.dev_items_per_task=1",
    "distill.max_tokens=2048",
    "distill.last_blocks=2",
]


def marked(recipe):
    return pytest.param(recipe, id=recipe.stem, marks=[] if recipe.stem in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("recipe", map(marked, OFFLINE))
def test_recipe_runs_end_to_end_on_a_tiny_model(recipe, tmp_path):
    overrides = [f"out={tmp_path / 'run'}", f"model.name={write_tiny(tmp_path / 'model', depth=8)}", *SMALL]
    overrides += FEW.get(recipe.stem, [])
    assert run_stage("prune", recipe, *overrides) == 0
    if load_recipe(recipe).distill:
        overrides += FEW_STEPS
        assert run_stage("distill", recipe, *overrides) == 0
    assert run_stage("eval", recipe, *overrides) == 0
    assert (tmp_path / "run/eval/report.html").exists()


def test_the_plan_beside_a_recipe_can_be_cut():
    recipe = load_recipe(
        CONFIGS / "smollm2-135m.yaml",
        ["prune.drop=null", f"prune.plan={CONFIGS / 'smollm2-135m-plan.json'}"],
    )
    assert read_plan(Path(recipe.prune.plan)).drop == (12, 14, 26)
