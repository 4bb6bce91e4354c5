"""`python -m eval --dry-run`: lists, and touches neither network nor run folder."""

import json
import socket
from pathlib import Path

import pytest
from datasets import config as datasets_config
from lm_eval.tasks import TaskManager
from tiny import run_stage, write_recipe

from eval import harness
from eval.harness import OUR_TASKS
from eval.planned import planned_tasks
from fastpath.config import EvalConfig
from fastpath.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def attempts(monkeypatch):
    """Every address that this process tries to reach; none can be."""
    reached = []

    def refuse(self, address):
        reached.append(address)
        raise OSError("no network in this test")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: refuse(None, host))
    return reached


@pytest.fixture(scope="module")
def index():
    """lm-eval's index of all its tasks: some 10,000 files, read once for this file."""
    return TaskManager(include_path=OUR_TASKS, metadata={"items_seed": 0, "num_items": 2})


@pytest.fixture
def hub(tmp_path, monkeypatch, index):
    """Tasks of the hub, and an empty cache of datasets."""
    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(
        harness,
        "TaskManager",
        lambda include_defaults=True, **given: (
            index if include_defaults else TaskManager(include_defaults=False, **given)
        ),
    )
    return EvalConfig(
        simple=("arc_easy", "fda", "babilong_qa1"),
        complex=("minerva_math", "arithmetic_2da", "ifeval", "leaderboard_musr"),
        knowledge=("mmlu_stem",),
        depth=(),
    )


def test_dry_run_of_the_hub_suites_reaches_nothing(hub, attempts, tmp_path, capsys):
    overrides = [
        f"out={tmp_path / 'run'}",
        "model.name=nobody/nothing",
        "eval.variants={fast: prune, x: no/one}",
    ]
    assert run_stage("eval", CONFIGS / "hub-suites.yaml", *overrides, "--dry-run") == 0
    assert attempts == []
    assert not (tmp_path / "run").exists()
    *table, last = capsys.readouterr().out.splitlines()
    facts = json.loads(last)
    assert facts["tasks"] == sum(
        line.startswith((" simple ", " complex ", " knowledge ", " depth ")) for line in table
    )
    assert [d["model"] for d in facts["downloads"] if "model" in d] == ["nobody/nothing", "no/one"]
    datasets = {d["dataset"]: d for d in facts["downloads"] if "dataset" in d}
    assert datasets["allenai/ai2_arc"]["configs"] == ["ARC-Easy"]
    assert len(datasets["cais/mmlu"]["tasks"]) == 57
    assert any("not made yet" in line for line in table)


def test_an_offline_recipe_downloads_nothing(attempts, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r.yaml", model="embedded:smollm2-135m-instruct", out=tmp_path / "run")
    assert run_stage("eval", recipe, "--dry-run") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["downloads"] == []
    assert attempts == []


def test_yaml_and_python_tasks_are_read_without_being_built(hub, attempts):
    tasks = {task.name: task for task in planned_tasks(hub, seed=0)}
    assert len([t for t in tasks.values() if t.suite == "knowledge"]) > 10, "groups of groups are expanded"
    arc, fda, math = tasks["arc_easy"], tasks["fda"], tasks["minerva_math_geometry"]
    assert (arc.output, arc.metric, arc.items, arc.exact) == ("multiple_choice", "acc", 40, True)
    assert (fda.output, fda.metric, fda.data.path, fda.exact) == (
        "generate_until", "contains", "hazyresearch/based-fda", False,
    )  # fmt: skip
    assert (math.shots, math.metric, math.data.config) == (4, "exact_match", "geometry")
    assert tasks["ifeval"].metric == "prompt_level_strict_acc"
    assert tasks["arithmetic_2da"].data.path.startswith("hf://datasets/EleutherAI/arithmetic")
    assert tasks["babilong_qa1"].shots == 2
    assert attempts == []


def test_what_the_datasets_cache_holds_is_no_download(hub):
    folder = Path(datasets_config.HF_DATASETS_CACHE) / "allenai___ai2_arc/ARC-Easy/0.0.0/abc"
    folder.mkdir(parents=True)
    info = {"dataset_size": 1433908, "splits": {"test": {"num_examples": 7}}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    arc = next(task for task in planned_tasks(hub, seed=0) if task.name == "arc_easy")
    assert (arc.items, arc.exact, arc.data.bytes) == (7, True, 1433908)


def test_a_package_that_a_task_needs_is_named(tmp_path):
    (tmp_path / "needs.py").write_text("import json, no_such_package.deep\n\ndef score(): ...\n")
    (tmp_path / "t.yaml").write_text(
        "task: needs\ndataset_path: owner/name\nprocess_results: !function needs.score\n"
    )
    config = EvalConfig(simple=("needs",), depth=(), include_path=(str(tmp_path),))
    assert planned_tasks(config, seed=0)[0].missing == ("no_such_package",)


def test_items_of_our_own_tasks_are_counted():
    config = EvalConfig(depth=("fastpath_dial_counter",), items_per_task=3, items_per_level=3)
    items = {task.name: (task.items, task.data) for task in planned_tasks(config, seed=0)}
    assert items["fastpath_doc_type"] == (3, None)
    assert items["fastpath_dial_counter"] == (15, None), "three of each of five depths"


def test_errors_are_those_of_a_run(hub):
    with pytest.raises(ConfigError, match=r"eval\.knowledge: unknown task 'mmlux'"):
        planned_tasks(EvalConfig(knowledge=("mmlux",)), seed=0)
    with pytest.raises(ConfigError, match=r"eval\.knowledge: arc_easy is in the simple suite as well"):
        planned_tasks(EvalConfig(simple=("arc_easy",), knowledge=("arc_easy",)), seed=0)


def test_dry_run_refuses_what_a_run_refuses_and_takes_its_flag_between_overrides(tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r.yaml", model=tmp_path / "none", out=tmp_path / "run")
    assert run_stage("eval", recipe, "eval.complex=[fastpath_chain]", "--dry-run", "eval.depth=[]") == 0
    assert run_stage("eval", recipe, "--dry-run", "eval.depth=[fastpath_routing]") == 2
    assert "eval.depth: fastpath_routing is no depth dial" in capsys.readouterr().err
