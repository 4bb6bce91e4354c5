"""Every notebook runs from a clean state, and what it keeps is small and without errors."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES, MOST_BYTES_OUTPUT = 500_000, 100_000


def code_cells(notebook):
    return [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.slow  # .ci/run has `make notebooks`
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_a_clean_state(notebook, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    made = nbformat.read(notebook, as_version=4)
    where = {"metadata": {"path": str(tmp_path / "notebooks")}}
    NotebookClient(made, timeout=900, kernel_name="python3", resources=where).execute()  # raises on an error


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_outputs_are_whole_small_and_without_errors(notebook):
    assert notebook.stat().st_size < MOST_BYTES
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, 1 + len(cells))), (
        "run from top to bottom"
    )
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.get("text")
        assert len(str(output)) < MOST_BYTES_OUTPUT


def test_a_sentence_stands_before_every_result():
    """Whoever reads must know what to look for: no two results without words between."""
    for notebook in NOTEBOOKS:
        cells = nbformat.read(notebook, as_version=4).cells
        assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
        assert sum("**Look at:**" in cell.source for cell in cells) >= 4, notebook


def test_notebooks_of_the_four_questions_are_there():
    assert [notebook.stem[0] for notebook in NOTEBOOKS] == ["1", "2", "3", "4"]
