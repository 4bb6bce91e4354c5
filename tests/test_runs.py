"""A run folder is whole or absent, belongs to one recipe, and resumes."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fastpath.errors import RunError
from fastpath.recipe_file import build_recipe
from fastpath.runs import finish, is_done, new_folder, stage_folder, step, write_json, write_text

ROOT = Path(__file__).parents[1]


def recipe(tmp_path, **changes):
    return build_recipe(
        {"out": str(tmp_path / "run"), "model": {"name": "a/b"}, "prune": {"drop": 2}} | changes
    )


def test_step_is_made_once_and_read_back(tmp_path):
    made = []
    for _ in range(2):
        assert step(tmp_path, "a/b.json", lambda: made.append(1) or {"x": [1.5, (2,)]}) == {"x": [1.5, [2]]}
    assert made == [1]


def test_failed_step_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        step(tmp_path, "a.json", lambda: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_numbers_read_back_are_the_numbers_written(tmp_path):
    values = [0.1 + 0.2, 1e-308, -0.0, 3.0000000000000004]
    assert step(tmp_path, "n.json", lambda: values) == values


def test_nan_is_refused_rather_than_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "n.json", {"x": float("nan")})
    assert not (tmp_path / "n.json").exists()


def test_broken_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(RunError, match=r"a\.json: not valid JSON .*delete it"):
        step(tmp_path, "a.json", dict)


def test_stage_keeps_the_recipe_and_the_environment(tmp_path):
    with stage_folder(recipe(tmp_path), "prune") as folder:
        assert "drop: 2" in (folder / "config.yaml").read_text()
        assert json.loads((folder / "env.json").read_text())["packages"]["torch"]
        assert not is_done(folder)
        finish(folder)
    assert is_done(folder)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"prune": {"drop": 3}}, "prune.drop"),
        ({"seed": 1}, "seed"),
        ({"model": {"name": "a/c"}}, "model.name"),
    ],
)
def test_other_recipe_is_refused_naming_the_key_and_both_values(tmp_path, changes, key):
    with stage_folder(recipe(tmp_path), "prune") as folder:
        step(folder, "fact.json", dict)
    with (
        pytest.raises(RunError, match=rf"^{key}: .* was made with .*, asked for now is"),
        stage_folder(recipe(tmp_path, **changes), "prune"),
    ):
        pass


def test_section_of_another_stage_may_change(tmp_path):
    with stage_folder(recipe(tmp_path), "prune"):
        pass
    with stage_folder(recipe(tmp_path, eval={"margin": 0.1}), "prune"):
        pass


def test_second_process_is_refused_and_a_dead_one_does_not_lock(tmp_path):
    with (
        stage_folder(recipe(tmp_path), "prune"),
        pytest.raises(RunError, match="another process"),
        stage_folder(recipe(tmp_path), "prune"),
    ):
        pass
    with stage_folder(recipe(tmp_path), "prune"):  # the lock file lies there, nobody holds it
        pass


def test_out_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match=r"^out: cannot make"), stage_folder(recipe(tmp_path), "prune"):
        pass


def test_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with new_folder(target) as folder:
        (folder / "weights").write_text("old")
        assert not target.exists()
    with pytest.raises(OSError, match="full"), new_folder(target) as folder:
        (folder / "weights").write_text("half")
        raise OSError("full")
    assert (target / "weights").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    with new_folder(target) as folder:
        (folder / "weights").write_text("new")
    assert (target / "weights").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_old_text_survives_a_disk_that_takes_no_more(tmp_path):
    """A real fault: the kernel refuses to let the file grow."""
    path = tmp_path / "facts.json"
    write_text(path, "old")
    write = f"write_text(Path({str(path)!r}), 'x' * 99999)"
    code = f"from pathlib import Path; from fastpath.runs import write_text; {write}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["facts.json"]
