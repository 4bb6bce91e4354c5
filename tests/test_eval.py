"""`python -m eval`: every outcome is kept and paired, a killed run goes on, other weights are refused."""

import json
import shutil

import pytest
from tiny import run_stage, tiny_llama, write_recipe, write_tiny

from eval.facts import read_facts
from fastpath.runs import read_json


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """A run with both stages done, and its recipe."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = write_recipe(folder / "r.yaml", model=base, out=folder / "run", prune={"criterion": "cosine"})
    assert run_stage("prune", recipe) == 0
    assert run_stage("eval", recipe) == 0
    return folder / "run", recipe


def copy_of(finished, tmp_path):
    run, recipe = finished
    shutil.copytree(run, tmp_path / "run")
    text = recipe.read_text().replace(str(run), str(tmp_path / "run"))
    (tmp_path / "r.yaml").write_text(text)
    return tmp_path / "run", tmp_path / "r.yaml"


def test_every_item_is_kept_with_what_each_model_did(finished):
    rows = [json.loads(line) for line in (finished[0] / "eval/items.jsonl").read_text().splitlines()]
    choice = [r for r in rows if r["suite"] != "depth" and r["task"] != "fastpath_worked"]
    assert len(choice) == 12
    assert len(rows) > 12, "a worked problem has several scored steps"
    for row in rows:
        assert row["template"] and row["id"] and row["k"] is not None
        assert {row["base"]["right"], row["fast"]["right"]} <= {0.0, 1.0}
        assert row["base"]["nats"] > 0


def test_results_follow_from_the_items(finished):
    rows = [json.loads(line) for line in (finished[0] / "eval/items.jsonl").read_text().splitlines()]
    results = read_json(finished[0] / "eval/results.json")["variants"]["fast"]
    for suite in ("simple", "complex"):
        for name, task in results[suite]["tasks"].items():
            mine = [r for r in rows if r["task"] == name]
            assert task["num_items"] == len(mine)
            assert task["base_accuracy"] == pytest.approx(sum(r["base"]["right"] for r in mine) / len(mine))
            assert task["gap"] == pytest.approx(task["base_accuracy"] - task["fast_accuracy"])
            assert task["gap_low"] <= task["gap"] <= task["gap_high"]
            assert task["lost"] - task["won"] == pytest.approx(task["gap"] * len(mine))


def test_a_row_s_nats_are_those_of_the_gold_answer(finished, base):
    """By our own likelihood, apart from lm-eval."""
    from tiny import byte_tokenizer

    from fastpath.data import item_batches
    from fastpath.items.catalog import generate
    from fastpath.nll import answer_nll

    items = generate("doc_type", split="evaluation", seed=0, num_items=6)
    rows = {r["id"]: r for r in map(json.loads, (finished[0] / "eval/items.jsonl").read_text().splitlines())}
    for batch in item_batches(items, byte_tokenizer(), batch_tokens=1):
        (i,) = batch.index
        assert rows[items[i].id]["base"]["nats"] == pytest.approx(
            answer_nll(tiny_llama(), batch).nats.item(), abs=1e-3
        )


def test_control_of_worked_steps_is_reported(finished):
    task = read_json(finished[0] / "eval/results.json")["variants"]["fast"]["complex"]["tasks"][
        "fastpath_worked"
    ]
    for side in ("base", "fast"):
        assert task[f"{side}_prose_nats_per_byte"] > 0
        assert task[f"{side}_nats_per_answer"] > 0


def test_card_of_the_exported_model_shows_the_measured_gap(finished):
    card = (finished[0] / "prune/model/README.md").read_text()
    assert "Not measured yet" not in card
    assert "Gap: base beside fast" in card
    assert "Claim" in card


def test_last_line_of_stdout_is_one_json_object(finished, capsys):
    _run, recipe = finished
    assert run_stage("eval", recipe) == 0
    facts = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert facts["stage"] == "eval"
    assert facts["fast"]["simple_unchanged"] in ("shown", "not shown", "refuted", "floor")


def test_rerun_does_only_what_is_missing(finished, tmp_path):
    run, recipe = copy_of(finished, tmp_path)
    kept = run / "eval/outcomes/base/fastpath_doc_type.json"
    lost = run / "eval/outcomes/fast/fastpath_arithmetic.json"
    before, results = lost.read_bytes(), (run / "eval/results.json").read_bytes()
    stamp = kept.stat().st_mtime_ns
    for path in (lost, run / "eval/results.json", run / "eval/DONE"):
        path.unlink()
    assert run_stage("eval", recipe) == 0
    assert kept.stat().st_mtime_ns == stamp
    assert lost.read_bytes() == before
    again = read_json(run / "eval/results.json")
    assert again["variants"] == json.loads(results)["variants"]


def test_results_of_other_weights_are_refused(finished, tmp_path, capsys):
    run, recipe = copy_of(finished, tmp_path)
    write_tiny(run / "prune/model", depth=4, seed=5)
    assert run_stage("eval", recipe) == 2
    assert "holds results of other weights of 'fast'" in capsys.readouterr().err


def test_base_against_itself_has_no_gap(base, tmp_path):
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base, out=tmp_path / "run", eval={"variants": {"same": str(base)}}
    )
    assert run_stage("eval", recipe) == 0
    facts = read_facts(tmp_path / "run" / "eval")
    assert facts.scores is None, "no prune stage: the report does without it"
    variant = facts.variants["same"]
    for suite in ("simple", "complex"):
        for task in variant[suite]["tasks"].values():
            assert (task["gap"], task["lost"], task["won"]) == (0, 0, 0)


def test_task_that_raises_is_named_the_others_finish_and_the_rerun_does_only_it(base, tmp_path, capsys):
    """A real fault in a user's task: its scoring divides by zero until a file appears."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "code.py").write_text(
        "from pathlib import Path\nfrom datasets import Dataset\n"
        "def load(**_): return {'test': Dataset.from_list([{'q': 'Is it so?', 'label': 0}])}\n"
        f"MENDED = Path({str(tmp_path)!r}, 'mended')\n"
        "def score(doc, results): return {'acc': 1.0 if MENDED.exists() else 1 / 0}\n"
    )
    (folder / "broken.yaml").write_text(
        "task: broken\ncustom_dataset: !function code.load\ntest_split: test\noutput_type: multiple_choice\n"
        "doc_to_text: q\ndoc_to_choice: ['yes', 'no']\ndoc_to_target: label\n"
        "process_results: !function code.score\nmetric_list:\n  - metric: acc\n"
    )
    own = {
        "variants": {"same": str(base)},
        "complex": ["broken", "fastpath_arithmetic"],
        "include_path": [str(folder)],
    }
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", eval=own)
    assert run_stage("eval", recipe) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "task broken failed on base (ZeroDivisionError" in line
    done = tmp_path / "run/eval/outcomes/same/fastpath_arithmetic.json"
    stamp = done.stat().st_mtime_ns
    assert not (tmp_path / "run/eval/DONE").exists()
    (tmp_path / "mended").touch()
    assert run_stage("eval", recipe) == 0
    assert done.stat().st_mtime_ns == stamp


def test_items_seen_in_calibration_never_score(finished, tmp_path, capsys):
    run, recipe = copy_of(finished, tmp_path)
    shutil.rmtree(run / "eval")
    lineage = read_json(run / "prune/model/lineage.json")
    assert len(lineage["calibration_items"]) == 16 + 10 + 16, "scored, of a dial, of the frontier"
    first = json.loads((finished[0] / "eval/items.jsonl").read_text().splitlines()[0])["id"]
    (run / "prune/model/lineage.json").write_text(json.dumps(lineage | {"calibration_items": [first]}))
    assert run_stage("eval", recipe) == 2
    assert f"fast was calibrated on item {first}" in capsys.readouterr().err


def test_variant_with_another_vocabulary_is_refused(base, tmp_path, capsys):
    other = write_tiny(tmp_path / "other")
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"<pad>"', '"<fill>"'))
    for name in ("tokenizer_config.json",):
        (other / name).write_text((other / name).read_text().replace("<pad>", "<fill>"))
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base, out=tmp_path / "run", eval={"variants": {"x": str(other)}}
    )
    assert run_stage("eval", recipe) == 2
    assert "x has another vocabulary than the base" in capsys.readouterr().err


def test_recipe_mended_after_a_refusal_needs_no_new_folder(base, tmp_path):
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base, out=tmp_path / "run", eval={"variants": {"x": str(base)}}
    )
    assert run_stage("eval", recipe, "eval.simple=[fastpath_simpel]") == 2
    assert run_stage("eval", recipe) == 0


@pytest.mark.parametrize("shots", [0, 6])
def test_shots_are_balanced_and_of_other_templates(base, shots):
    from eval.harness import load_suites
    from fastpath.config import EvalConfig

    task = load_suites(EvalConfig(shots=shots, items_per_task=3), seed=0)["simple"]["fastpath_doc_type"]
    task.build_all_requests(limit=None, rank=0, world_size=1)
    prompt = task.instances[0].args[0]
    assert prompt.count("Document:") == shots + 1
    if shots:
        answers = [
            line.rpartition(": ")[2] for line in prompt.split("\n") if line.startswith("Type of document: ")
        ]
        assert sorted(answers) == sorted(task.doc_to_choice(task.eval_docs[0]))


def test_steps_of_one_problem_are_not_counted_as_independent(finished):
    task = read_json(finished[0] / "eval/results.json")["variants"]["fast"]["complex"]["tasks"][
        "fastpath_worked"
    ]
    assert task["num_sources"] == 6 < task["num_items"]
    assert "mcnemar_p" not in task
    assert f"{task['num_items']} steps of 6" in (finished[0] / "eval/report.md").read_text()


def test_prune_folder_of_another_recipe_or_base_is_refused(finished, tmp_path, capsys):
    recipe = copy_of(finished, tmp_path)[1]
    assert run_stage("eval", recipe, "prune.drop=3") == 2
    assert "error: prune.drop: " in capsys.readouterr().err
    write_tiny(tmp_path / "other", seed=3)
    assert run_stage("eval", recipe, f"model.name={tmp_path / 'other'}") == 2
    assert "error: model.name: " in capsys.readouterr().err


def test_card_is_rewritten_by_a_finished_run(finished, tmp_path):
    run, recipe = copy_of(finished, tmp_path)
    (run / "prune/DONE").unlink()
    assert run_stage("prune", recipe) == 0
    assert "Not measured yet" in (run / "prune/model/README.md").read_text()
    assert run_stage("eval", recipe) == 0
    assert "Gap: base beside fast" in (run / "prune/model/README.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["eval.simple=[fastpath_simpel]"], "eval.simple: unknown task 'fastpath_simpel'; ours are"),
        (["eval.complex=[]"], "eval.complex: empty"),
        (
            ["eval.complex=[fastpath_doc_type]"],
            "eval.complex: fastpath_doc_type is in the simple suite as well",
        ),
        (["eval.include_path=[/nowhere]"], "eval.include_path: no such folder: /nowhere"),
        (["eval.variants={base: prune}"], "eval.variants: 'base' cannot label a variant"),
        (["eval.variants={fast: /nowhere}"], "/nowhere: no such folder"),
        (["eval.variants={../evil: prune}"], "eval.variants"),
        (["eval.variants={task: prune}"], "eval.variants: 'task' cannot label a variant"),
        (
            ["eval.speed.prompt_tokens=5000"],
            "eval.speed: 5002 tokens are more than the 2048 positions of base",
        ),
        (["seed=-1"], "seed: input should be greater than or equal to 0"),
        (["model.device=meta"], "model.device: 'meta' cannot be used here"),
        (["eval.margin=0"], "eval.margin: input should be greater than 0, got 0"),
        (["eval.items_per_task=100000000"], "task 'doc_type'"),
        (["out=elsewhere"], "elsewhere/prune: not finished; first run `python -m prune`"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(finished, tmp_path, monkeypatch, capsys, overrides, message):
    monkeypatch.chdir(tmp_path)
    recipe = copy_of(finished, tmp_path)[1]
    shutil.rmtree(tmp_path / "run" / "eval")
    assert run_stage("eval", recipe, *overrides) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line


@pytest.mark.parametrize("finished_run", [True, False])
def test_results_of_another_version_are_refused_in_one_line(finished, tmp_path, capsys, finished_run):
    run, recipe = copy_of(finished, tmp_path)
    if finished_run:
        old = read_json(run / "eval/results.json") | {"version": 1}
        (run / "eval/results.json").write_text(json.dumps(old))
    else:
        for name in ("DONE", "results.json", "version.json"):
            (run / "eval" / name).unlink()
    assert run_stage("eval", recipe) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "this code reads version 2" in error
