"""`python -m distill`: what is trained is exported; killed == uninterrupted; bad input is one line."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import run_stage, write_recipe, write_tiny
from transformers import AutoModelForCausalLM

from distill.losses import LOSSES
from distill.trainer import Watch
from fastpath.config_distill import MODES, DistillConfig
from fastpath.models import Lineage, weights_sha256
from fastpath.runs import read_json

ROOT = Path(__file__).parents[1]
SMALL = {
    "mode": "full", "tasks": ["doc_type", "one_hop"], "items_per_task": 12, "steps": 4, "batch_rows": 4,
    "micro_rows": 2, "max_tokens": 512, "log_steps": 1, "checkpoint_steps": 2, "warmup_steps": 1,
    "last_blocks": 2, "lora_rank": 4, "lora_alpha": 6, "learning_rate": 1e-3,
}  # fmt: skip


def recipe_of(folder, base, **distill):
    plan = folder / "given.json"
    plan.write_text(json.dumps({"depth": 6, "keep": [0, 1, 4, 5], "criterion": "given", "chooser": "given",
                                "cost": None, "unit": ""}))  # fmt: skip
    return write_recipe(
        folder / "r.yaml", model=base, out=folder / "run", prune={"drop": None, "plan": str(plan)},
        distill=SMALL | distill,
    )  # fmt: skip


def pruned(folder, base, **distill):
    """The recipe of a run of which the stage prune is done."""
    recipe = recipe_of(folder, base, **distill)
    assert run_stage("prune", recipe) == 0
    return recipe


@contextmanager
def stopped_at(save):
    """Inside the block training is interrupted after so many checkpoints."""
    count, original = [], Watch.on_save

    def stop(self, *args, **words):
        original(self, *args, **words)
        count.append(1)
        if len(count) == save:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "on_save", stop)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def recipe(base, tmp_path_factory):
    return pruned(tmp_path_factory.mktemp("run"), base)


def distilled(recipe, *overrides, out=None):
    """The folder of a stage that was run with other keys on the same student."""
    run = recipe.parent / "run"
    assert run_stage("distill", recipe, student_of(recipe), f"out={out or run}", *overrides) == 0
    return (Path(out) if out else run) / "distill"


# Every batch is the same four examples, so that the losses of two steps can be compared.
SAME_BATCH = ["distill.items_per_task=2", "distill.pack=never", "distill.steps=12"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_learns_and_exports_a_stock_model(recipe, tmp_path, mode, base):
    folder = distilled(recipe, f"distill.mode={mode}", *SAME_BATCH, out=tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["kd_nats_per_token"] < rows[0]["kd_nats_per_token"]
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert model.config.num_hidden_layers == 4
    lineage = Lineage.read(folder / "model")
    assert lineage.weights_sha256 == weights_sha256(folder / "model")
    assert lineage.base_weights_sha256 == weights_sha256(base)
    assert lineage.distillation["mode"] == mode
    assert lineage.distillation["learnt_tokens"] == rows[-1]["learnt_tokens"] > 0
    changed = load_file(folder / "model" / "model.safetensors")
    before = load_file(recipe.parent / "run/prune/model/model.safetensors")
    assert changed.keys() == before.keys()
    same = {name for name in before if torch.equal(before[name], changed[name])}
    frozen = {name for name in before if "layers.0." in name or "layers.1." in name or "embed" in name}
    assert frozen <= same, "before the first cut nothing changes"
    assert {name for name in before if "layers.3." in name and "_proj" in name}.isdisjoint(same)


@pytest.mark.parametrize("mode", ["full", "shared-lora"])
def test_it_trains_in_bfloat16(recipe, tmp_path, mode):
    dev = "distill.dev_items_per_task=1"
    keys = [f"distill.mode={mode}", dev, *SAME_BATCH, "model.dtype=bfloat16"]
    folder = distilled(recipe, *keys, out=tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-2]["kd_nats_per_token"] < rows[1]["kd_nats_per_token"]
    weights = load_file(folder / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}, "as the base was stored"


def test_mode_of_the_memory_estimate_is_the_first_that_fits(recipe, tmp_path, monkeypatch):
    keys = ["distill.mode=auto", "distill.steps=1", "distill.checkpoint_steps=1"]
    assert read_json(distilled(recipe, *keys, out=tmp_path / "run") / "mode.json") == "full"
    monkeypatch.setattr("distill.memory.free_bytes", lambda device: 10)  # a mode once chosen is kept
    (tmp_path / "run/distill/DONE").unlink()
    distilled(recipe, *keys, out=tmp_path / "run")


def student_of(recipe):
    return f"distill.student={recipe.parent / 'run/prune/model'}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distill.pack=no"], "distill.pack: input should be 'auto' or 'never', got False"),
        (["distill.candidates=2"], "candidates: dev items tell them apart; set dev_items_per_task"),
        (
            ["distill.dev_items_per_task=1", "distill.dev_tasks=[doc_type]"],
            "distill.dev_tasks: none is complex, and early stopping goes by the complex ones",
        ),
        (["distill.steps=0"], "distill: steps: 0 in every phase, and no refit_tokens: there is"),
        (["distill.on_policy={stepz: 1}"], "on_policy.stepz: unknown key; did you mean 'steps'?"),
        (["distill.student=/nowhere"], "distill.student: /nowhere has no lineage.json; name the stage prune"),
        (["distill.batch_rows=3"], "distill: batch_rows: 3 rows are not a multiple of micro_rows"),
        (["distill.loss_options={alpha: 0.5}"], "forward_kl: no option 'alpha'; it takes no options"),
        (["distill.tasks=[algebra]"], "unknown task 'algebra': known are doc_type"),
        (["distill.tasks=[]"], "tasks: empty, no data and no practice: there is nothing to learn from"),
        (["distill.last_blocks=9"], "distill.last_blocks: 9 of 4 blocks; at most 4"),
        (["distill.data=[{source: no.jsonl}]"], "distill.data: no.jsonl: no such file"),
        (["distill.data=[{sorce: no.jsonl}]"], "distill.data.0.sorce: unknown key; did you mean 'source'?"),
        (["distill.report_to=[wandb]"], "distill.report_to: wandb is not installed; pip install wandb"),
        (["model.device=cuda:1"], "model.device: 'cuda:1': the trainer takes the first GPU that it sees"),
        (["model.device_map=auto"], "model.device_map: distill holds each model on one device"),
    ],
)
def test_bad_input_is_one_line(recipe, tmp_path, capsys, overrides, message):
    assert run_stage("distill", recipe, student_of(recipe), f"out={tmp_path}", *overrides) == 2
    check_one_line(capsys, message)


def check_one_line(capsys, message):
    out, err = capsys.readouterr()
    assert out == ""
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in error


def test_what_does_not_fit_is_refused_and_says_what_would(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("distill.memory.free_bytes", lambda device: 10_000)
    assert run_stage("distill", recipe, student_of(recipe), f"out={tmp_path}") == 2
    check_one_line(
        capsys, "distill.mode: full would take more than the 0.00 GiB that are free; none fits; try"
    )


def test_teacher_of_another_student_is_refused(recipe, tmp_path, capsys):
    other = write_tiny(tmp_path / "other", seed=5)
    assert run_stage("distill", recipe, student_of(recipe), f"out={tmp_path}", f"model.name={other}") == 2
    check_one_line(capsys, f"{other}: cannot teach this student, which was cut from other weights")


def test_student_that_was_changed_or_reads_other_tokens_is_refused(recipe, tmp_path, capsys):
    shutil.copytree(recipe.parent / "run/prune/model", tmp_path / "model")
    keys = [recipe, f"distill.student={tmp_path / 'model'}", f"out={tmp_path / 'run'}"]
    vocabulary = read_json(tmp_path / "model/tokenizer.json")
    vocabulary["model"]["vocab"]["new"] = 259
    (tmp_path / "model/tokenizer.json").write_text(json.dumps(vocabulary))
    assert run_stage("distill", *keys) == 2
    check_one_line(capsys, "another vocabulary than the teacher's")
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"1234")
    assert run_stage("distill", *keys) == 2
    check_one_line(capsys, "holds other weights than its lineage.json tells of")


def test_prune_has_to_come_first(base, tmp_path, capsys):
    assert run_stage("distill", recipe_of(tmp_path, base)) == 2
    check_one_line(capsys, "not finished; first run `python -m prune` with the same recipe")


def test_loss_that_is_no_number_stops_and_names_the_rows(recipe, tmp_path, capsys):
    keys = [student_of(recipe), f"out={tmp_path}", "distill.warmup_steps=0"]
    assert run_stage("distill", recipe, *keys, "distill.learning_rate=1e30") == 2
    check_one_line(capsys, "step 2: the loss is not a number on rows")
    assert not list(tmp_path.glob("distill/checkpoints/*/checkpoint-*")), "the last good one would be kept"
    assert not (tmp_path / "distill/model").exists()
    keys = [*keys, "distill.checkpoint_steps=1", "distill.learning_rate=1e30", f"out={tmp_path / 'each'}"]
    assert run_stage("distill", recipe, *keys) == 2
    broken = tmp_path / "each/distill/checkpoints/logits/checkpoint-1"
    assert broken.exists() and not (broken / "DONE").exists(), "its weights are what broke the loss"


def test_folder_begun_with_other_data_is_refused(recipe, tmp_path, capsys):
    data = tmp_path / "mine.jsonl"
    data.write_text(json.dumps({"prompt": "Say yes.", "completion": " Yes."}) + "\n")
    keys = [student_of(recipe), f"out={tmp_path}", "distill.tasks=[]", f"distill.data=[{{source: {data}}}]"]
    assert run_stage("distill", recipe, *keys) == 0
    capsys.readouterr()
    data.write_text(json.dumps({"prompt": "Say no.", "completion": " No."}) + "\n")
    (tmp_path / "distill/DONE").unlink()
    assert run_stage("distill", recipe, *keys) == 2
    check_one_line(capsys, "begun with other data than there is now")


def test_eval_compares_base_pruned_and_distilled(recipe):
    distilled(recipe)
    variants = "eval.variants={pruned: prune, distilled: distill}"
    assert run_stage("eval", recipe, student_of(recipe), variants) == 0
    run = recipe.parent / "run"
    results = read_json(run / "eval/results.json")
    assert set(results["variants"]) == {"pruned", "distilled"}
    assert results["models"]["distilled"].endswith("distill/model")
    for stage, word in (("prune", "nothing was retrained"), ("distill", "the original was distilled back")):
        card = (run / stage / "model/README.md").read_text()
        assert word in card and "Not measured yet" not in card
    assert "distilled" in (run / "eval/report.md").read_text()


def test_dev_items_are_new_and_stop_early(recipe, tmp_path):
    keys = ["distill.dev_items_per_task=2", "distill.dev_tasks=[doc_type, arithmetic]", "distill.patience=1",
            "distill.learning_rate=0.5", "distill.steps=12"]  # fmt: skip
    folder = distilled(recipe, *keys, out=tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    dev = [row for row in rows if "eval_complex_nats_per_token" in row]
    (trained,) = read_json(folder / "phases.json")
    assert trained["steps"] == dev[-1]["step"] < 12, "such a rate makes it worse"
    best = min(dev, key=lambda row: row["eval_complex_nats_per_token"])
    assert trained["checkpoint"] == f"checkpoints/logits/checkpoint-{best['step']}"
    assert {"eval_simple_nats_per_token", "eval_simple_accuracy", "eval_complex_accuracy"} <= dev[0].keys()
    assert "learnt tokens" in (folder / "metrics.svg").read_text()
    seen = set(Lineage.read(folder / "model").calibration_items)
    before = set(Lineage.read(recipe.parent / "run/prune/model").calibration_items)
    assert len(seen - before) == 2 * 12 + 2 * 2


def stage_process(recipe, *overrides, **options):
    same_sums = {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "distill", "--config", str(recipe), *map(str, overrides)]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | same_sums | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def check_same(folder, calm):
    for name in ("model.safetensors", "config.json", "lineage.json"):
        assert (folder / "model" / name).read_bytes() == (calm / "model" / name).read_bytes(), name
    logs = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (folder, calm)
    ]
    for row in (*logs[0], *logs[1]):
        row.pop("tokens_per_second", None)
    assert logs[0] == logs[1]


def test_losses_of_a_recipe_are_those_there_are():
    assert DistillConfig.model_fields["loss"].annotation.__args__ == tuple(LOSSES)
