"""The dependency rule, as a test: imports point down, stages never import one another."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {"prune", "distill", "eval", "serve"}
MAY_IMPORT = {"fastpath": set()} | {stage: {"fastpath"} for stage in STAGES}
# What reads run folders from above may use any stage.
ABOVE = [folder for folder in ("notebooks", "benchmarks") if (ROOT / folder).is_dir()]


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_imports_point_down_only(package):
    for file in (ROOT / package).rglob("*.py"):
        wrong = set(imported(ast.parse(file.read_text()))) & set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{file} imports {sorted(wrong)}"


def test_import_of_a_stage_from_another_is_caught():
    tree = ast.parse("from eval.report import show\nimport torch")
    assert set(imported(tree)) & STAGES == {"eval"}


def test_nothing_says_import_eval():
    """`import eval` would shadow the builtin; `from eval.x import y` does not."""
    for folder in (*MAY_IMPORT, "tests", *ABOVE):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = (
                    [alias.asname or alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else []
                )
                assert "eval" not in names, file


@pytest.mark.parametrize("module", ["config", "plan", "errors", "stats"])
def test_plans_and_recipes_need_no_torch(module):
    """Their own code: a plan can be read and edited by people and tools that have no model."""
    names = set(imported(ast.parse((ROOT / "fastpath" / f"{module}.py").read_text())))
    assert not names & {"torch", "transformers", "datasets", "lm_eval"}
