"""`accelerate launch -m prune`, `-m eval`: two processes write what one writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import run_stage, write_recipe, write_tiny

from fastpath.runs import read_json

ROOT = Path(__file__).parents[1]
LAUNCH = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node",
    "2",
    "-m",
]
QUICK = {"criterion": "cosine"}
TASKS = {"complex": ["fastpath_worked", "fastpath_arithmetic_written"], "items_per_task": 5}


def launched(stage, *arguments):
    """Two processes on CPU (gloo), which accelerate's own launcher only starts where there are two GPUs."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    given = os.environ | {"PYTHONPATH": path, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*LAUNCH, stage, "--config", *map(str, arguments)]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=300)


def plain(value):
    """Without what differs between any two runs, and nats only as exactly as batches allow."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ("speed",)}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path):
    model = write_tiny(tmp_path / "model")
    recipe = write_recipe(tmp_path / "r.yaml", model=model, out=tmp_path / "run", prune=QUICK, eval=TASKS)
    assert run_stage("prune", recipe) == 0
    done = launched("eval", recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["stage"] == "eval", "only the first process prints"
    assert done.stdout.count('"stage"') == 1
    (tmp_path / "run/eval").rename(tmp_path / "two")
    assert run_stage("eval", recipe) == 0
    one, two = read_json(tmp_path / "run/eval/results.json"), read_json(tmp_path / "two/results.json")
    assert plain(one) == plain(two)
    rows = [
        (folder / "items.jsonl").read_text().splitlines()
        for folder in (tmp_path / "run/eval", tmp_path / "two")
    ]
    assert [plain(json.loads(row)) for row in rows[0]] == [plain(json.loads(row)) for row in rows[1]]

    again = launched("eval", recipe)
    assert again.returncode == 0 and "already done" in again.stderr, "the helpers are sent home at once"


PRUNED = ("scores.json", "frontier.json", "plan.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        {"criterion": "ablation", "chooser": "lowest"},
        {"criterion": "linear", "chooser": "greedy"},
        {"criterion": "cosine", "chooser": "evolution", "complex_weight": 1.0, "generations": 2},
    ],
    ids=lambda choice: choice["chooser"],
)
def test_two_processes_prune_as_one_does(tmp_path, choice):
    """Bit for bit: the same batches, whoever computes them. Streams that do not fit change nothing."""
    torch.set_num_threads(1)  # as the processes of a launcher
    model = write_tiny(tmp_path / "model")
    own = choice | {"batch_tokens": 600, "stream_gib": 0.0005}
    recipe = write_recipe(tmp_path / "r.yaml", model=model, out=tmp_path / "run", prune=own)
    done = launched("prune", recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('"stage"') == 1, "only the first process prints"
    folder = tmp_path / "run/prune"
    kept = len(list(folder.glob("scores/batch-*.json")))
    assert kept > 2
    folder.rename(tmp_path / "two")
    assert run_stage("prune", recipe) == 0
    for name in PRUNED:
        assert read_json(folder / name) == read_json(tmp_path / "two" / name), name
    assert sorted(p.name for p in folder.glob("search/*")) == sorted(
        p.name for p in (tmp_path / "two").glob("search/*")
    )
    for path in folder.glob("search/*.json"):
        assert read_json(path) == read_json(tmp_path / "two/search" / path.name)

    again = launched("prune", recipe)
    assert again.returncode == 0 and "already done" in again.stderr, "the helpers are sent home at once"
    for name in ("DONE", "frontier.json", "plan.json", "scores/batch-0001.json", "scores.json"):
        (folder / name).unlink()
    going_on = launched("prune", recipe)
    assert going_on.returncode == 0 and f"going on: {kept - 1} of {kept} batches" in going_on.stderr
    for name in PRUNED:
        assert read_json(folder / name) == read_json(tmp_path / "two" / name), name


@pytest.mark.slow
def test_a_given_plan_sends_the_helpers_home(tmp_path):
    model = write_tiny(tmp_path / "model")
    recipe = write_recipe(tmp_path / "r.yaml", model=model, out=tmp_path / "run")
    assert run_stage("prune", recipe) == 0
    given = f"prune.plan={tmp_path / 'run/prune/plan.json'}"
    done = launched("prune", recipe, given, "prune.drop=null", f"out={tmp_path / 'given'}")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_refuse_a_task_of_one_item(tmp_path):
    few = {"items_per_task": 1}
    model = write_tiny(tmp_path / "model")
    recipe = write_recipe(tmp_path / "r.yaml", model=model, out=tmp_path / "run", prune=QUICK, eval=few)
    assert run_stage("prune", recipe) == 0
    done = launched("eval", recipe)
    assert done.returncode != 0
    assert "error: fastpath_doc_type: 1 items are too few for 2 processes" in done.stderr


FAULTY = """
from datasets import Dataset

def load(**_):
    return {"test": Dataset.from_list([{"number": i, "prompt": "a b", "answer": "c"} for i in range(4)])}

def score(doc, results):
    if doc["number"] % 2 == FAULT:
        raise RuntimeError("no score for this one")
    return {"acc": 1.0}
"""
YAML = """
task: faulty
custom_dataset: !function faulty.load
test_split: test
output_type: loglikelihood
doc_to_text: prompt
doc_to_target: answer
process_results: !function faulty.score
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_task_that_fails_in_one_process_ends_them_all(tmp_path, rank):
    """And does not leave the other waiting for ever."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/faulty.py").write_text(FAULTY.replace("FAULT", str(rank)))
    (tmp_path / "tasks/faulty.yaml").write_text(YAML)
    model = write_tiny(tmp_path / "model")
    own = {"simple": ["faulty"], "complex": ["fastpath_chain"], "depth": [], "items_per_task": 4,
           "include_path": [str(tmp_path / "tasks")], "variants": {"same": str(model)}}  # fmt: skip
    recipe = write_recipe(tmp_path / "r.yaml", model=model, out=tmp_path / "run", eval=own)
    done = launched("eval", recipe)
    assert done.returncode != 0
    assert "no score for this one" in done.stderr
    assert not (tmp_path / "run/eval/results.json").exists()
