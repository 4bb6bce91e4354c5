"""`python -m distill` that was killed goes on to the same bytes."""

import json
import os
import shutil
import signal
import time

import pytest
from test_distill import check_same, distilled, pruned, stage_process, stopped_at, student_of
from tiny import run_stage, write_tiny

from distill.training import read_metrics
from fastpath.runs import read_json


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return pruned(folder, write_tiny(folder / "base"))


@pytest.mark.parametrize("early", [0, 1])
def test_patience_goes_on_where_it_was(recipe, tmp_path, early):
    """Killed while it counts, or when it had decided to stop: as many steps, the same bytes."""
    keys = ["distill.dev_items_per_task=2", "distill.dev_tasks=[doc_type, arithmetic]", "distill.patience=3",
            "distill.learning_rate=0.5", "distill.steps=12", "distill.checkpoint_steps=1"]  # fmt: skip
    calm = distilled(recipe, *keys, out=tmp_path / "calm")
    steps = read_json(calm / "phases.json")[0]["steps"]
    assert 3 < steps < 12, "it stops early"
    with stopped_at(steps - early):
        assert run_stage("distill", recipe, student_of(recipe), *keys, f"out={tmp_path / 'killed'}") == 130
    folder = distilled(recipe, *keys, out=tmp_path / "killed")
    check_same(folder, calm)
    assert read_json(folder / "phases.json") == read_json(calm / "phases.json")


def test_score_of_a_checkpoint_that_is_gone_beats_none(recipe, tmp_path):
    """A loss that is no number may have taken it: else a folder that is not there would be exported."""
    keys = ["distill.dev_items_per_task=2", "distill.dev_tasks=[doc_type, arithmetic]"]
    with stopped_at(1):
        assert run_stage("distill", recipe, student_of(recipe), *keys, f"out={tmp_path}") == 130
    (file,) = tmp_path.glob("distill/checkpoints/logits/*/trainer_state.json")
    state = read_json(file) | {"best_metric": 0.0, "best_model_checkpoint": str(tmp_path / "checkpoint-1")}
    file.write_text(json.dumps(state))
    (trained,) = read_json(distilled(recipe, *keys, out=tmp_path) / "phases.json")
    assert (tmp_path / "distill" / trained["checkpoint"]).is_dir()
    assert trained["complex_nats_per_token"] > 0


def test_half_a_line_of_the_log_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


@pytest.mark.parametrize("mode", ["full", pytest.param("shared-lora", marks=pytest.mark.slow)])
def test_killed_it_ends_with_the_same_bytes(recipe, tmp_path, mode):
    common = [student_of(recipe), f"distill.mode={mode}", "distill.steps=30"]
    assert stage_process(recipe, *common, f"out={tmp_path / 'calm'}").wait() == 0
    folder = tmp_path / "killed" / "distill"
    process = stage_process(recipe, *common, f"out={folder.parent}", start_new_session=True)
    while process.poll() is None and not (folder / "checkpoints/logits/checkpoint-6/DONE").exists():
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert stage_process(recipe, *common, f"out={folder.parent}").wait() == 0
    check_same(folder, tmp_path / "calm" / "distill")

    # As if killed when the last checkpoint had been begun.
    (folder / "DONE").unlink()
    (folder / "phases.json").unlink()
    shutil.rmtree(folder / "model")
    (folder / "checkpoints/logits/checkpoint-30/DONE").unlink()
    (folder / "checkpoints/logits/checkpoint-30/optimizer.pt").write_bytes(b"half")
    assert stage_process(recipe, *common, f"out={folder.parent}").wait() == 0
    check_same(folder, tmp_path / "calm" / "distill")
