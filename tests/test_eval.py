"""`python -m eval`: every outcome is kept and paired, a killed run goes on, other weights are refused."""

import json
import shutil

import pytest
from tiny import run_stage, tiny_llama, write_recipe, write_tiny

from eval.facts import read_facts
from eval.run import joined_rows
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


def test_user_s_own_yaml_folder_is_evaluated(base, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.jsonl").write_text(
        "".join(
            json.dumps({"q": f"Ticket {n}: I forgot my password.", "label": n % 2}) + "\n" for n in range(8)
        )
    )
    (tmp_path / "mine" / "tickets.yaml").write_text(
        f"task: tickets\ndataset_path: json\ndataset_kwargs:\n  data_files: {tmp_path}/mine/data.jsonl\n"
        "test_split: train\noutput_type: multiple_choice\ndoc_to_text: '{{q}} Team:'\n"
        "doc_to_choice: [account, billing]\ndoc_to_target: label\n"
        "metric_list:\n  - metric: acc\n"
    )
    own = {
        "variants": {"same": str(base)},
        "simple": ["tickets"],
        "include_path": [str(tmp_path / "mine")],
        "items_per_task": 5,
    }
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", eval=own)
    assert run_stage("eval", recipe) == 0
    task = read_json(tmp_path / "run/eval/results.json")["variants"]["same"]["simple"]["tasks"]["tickets"]
    assert (task["num_items"], task["chance"]) == (5, 0.5)


def own_data(tmp_path, *rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


CHOICE = {
    "prompt": "I was charged twice. Team:",
    "choices": ["billing", "sales"],
    "answer": "billing",
    "suite": "simple",
}
WRITTEN = {"prompt": "6 times 3 is", "answer": "18", "suite": "complex"}


def test_user_s_own_requests_are_suites_of_their_own(base, tmp_path):
    rows = [CHOICE | {"prompt": f"{CHOICE['prompt']} {n}"} for n in range(3)] + [WRITTEN]
    own = {"variants": {"same": str(base)}, "simple": [], "complex": [], "data": [own_data(tmp_path, *rows)]}
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", eval=own)
    assert run_stage("eval", recipe) == 0
    variant = read_json(tmp_path / "run/eval/results.json")["variants"]["same"]
    assert variant["simple"]["tasks"]["mine_simple_choice"]["num_items"] == 3
    assert variant["complex"]["tasks"]["mine_complex_written"]["metric"] == "exact_match"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: expected an object"),
        (CHOICE | {"suite": "hard"}, "line 2: suite must be 'simple' or 'complex', got 'hard'"),
        (CHOICE | {"answer": "refunds"}, "line 2: the answer must be one of the choices"),
        (CHOICE | {"choices": ["billing"]}, "line 2: choices must be two texts or more"),
        (CHOICE | {"prompt": 3}, "line 2: 'prompt' must be text"),
        (CHOICE | {"hint": "x"}, "line 2: unknown key 'hint'"),
    ],
)
def test_faulty_line_of_own_data_is_named(tmp_path, row, message):
    from eval.own_data import own_tasks
    from fastpath.errors import ConfigError

    with pytest.raises(ConfigError, match=r"mine\.jsonl") as error:
        own_tasks([own_data(tmp_path, CHOICE, row)])
    assert message in str(error.value)


def test_empty_or_absent_data_is_named(tmp_path):
    from eval.own_data import own_tasks
    from fastpath.errors import ConfigError

    with pytest.raises(ConfigError, match="has no items"):
        own_tasks([own_data(tmp_path, "")])
    with pytest.raises(ConfigError, match="no such file"):
        own_tasks([str(tmp_path / "none.jsonl")])


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


def sample(target, responses, **facts):
    arguments = {f"gen_args_{n}": {"arg_0": "q", "arg_1": f" {n}"} for n in range(len(responses))}
    logged = {"doc": {"q": 1}, "doc_hash": "h", "doc_id": 0, "acc": 1.0, "filter": "none"}
    return logged | {"target": target, "arguments": arguments, "filtered_resps": responses} | facts


class Task:
    OUTPUT_TYPE = "multiple_choice"

    def doc_to_choice(self, doc):
        return ["7", "8", "9"]


@pytest.mark.parametrize(
    ("target", "nats"), [("8", 2.0), (1, 2.0), ("7", 1.0), (["7", "8"], None), (5, None)]
)
def test_gold_is_read_as_lm_eval_reads_it(target, nats):
    from eval.outcomes import outcomes

    (row,) = outcomes(Task(), [sample(target, [(-1.0, True), (-2.0, False), (-3.0, False)])])["rows"]
    assert row.get("nats") == nats
    assert row["answer"] == "7"


def test_item_of_a_task_with_two_filters_counts_once():
    from eval.outcomes import outcomes

    twice = [sample(0, [(-1.0, True)] * 3, filter=name) for name in ("strict", "flexible")]
    facts = outcomes(Task(), twice)
    assert len(facts["rows"]) == 1
    assert facts["filter"] == "strict"
    assert facts["chance"] == pytest.approx(1 / 3)


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


def test_interval_has_a_width_where_nothing_differs(base, tmp_path):
    from eval.gap import task_facts

    rows = [{"id": str(n), "source": str(n), "right": 1.0, "template": str(n)} for n in range(50)]
    side = {"metric": "acc", "kind": "likelihood", "chance": 0.25, "control": [], "rows": rows}
    facts = task_facts("t", side, side, seed=0)
    assert facts["gap"] == 0 > facts["gap_low"]
    assert facts["gap_high"] > 0.03


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


def test_rows_of_different_items_are_never_paired():
    from eval.gap import task_facts
    from fastpath.errors import RunError

    def side(ids):
        rows = [{"id": i, "source": i, "right": 1.0, "template": "t"} for i in ids]
        return {"metric": "acc", "kind": "likelihood", "chance": 0.5, "rows": rows, "control": []}

    with pytest.raises(RunError, match="answered different items"):
        task_facts("t", side("ab"), side("ba"), seed=0)
    assert next(joined_rows({"base": {"simple": {"t": side("a")}}}))["task"] == "t"
