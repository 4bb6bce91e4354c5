"""`python -m prune`: the export is what was planned and needs nothing of ours; bad input is one line."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import run_stage, tiny_llama, write_recipe, write_tiny
from transformers import AutoModelForCausalLM

from fastpath.blocks import skipping
from fastpath.models import Lineage, weights_sha256
from fastpath.plan import Scores, read_plan
from fastpath.runs import read_json

ROOT = Path(__file__).parents[1]
IDS = torch.arange(3, 60)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def pruned(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pruned")
    recipe = write_recipe(folder / "r.yaml", model=base, out=folder / "run")
    assert run_stage("prune", recipe) == 0
    return folder / "run" / "prune"


def test_export_is_the_base_with_the_dropped_blocks_skipped(pruned, base):
    plan = read_plan(pruned / "plan.json")
    assert len(plan.drop) == 2
    exported = AutoModelForCausalLM.from_pretrained(pruned / "model", dtype=torch.float32)
    with torch.no_grad(), skipping(model := tiny_llama(), plan.drop):
        assert torch.allclose(exported(IDS).logits, model(IDS, use_cache=False).logits, atol=1e-4)


def test_export_loads_and_generates_where_fastpath_cannot_be_imported(pruned):
    code = f"""
import sys
sys.modules["fastpath"] = None  # importing it raises
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({str(pruned / "model")!r})
tokenizer = AutoTokenizer.from_pretrained({str(pruned / "model")!r})
ids = tokenizer("Hello", return_tensors="pt")
greedy = dict(max_new_tokens=8, do_sample=False)
cached, plain = (model.generate(**ids, **greedy, use_cache=c).tolist() for c in (True, False))
assert cached == plain
print(len(cached[0]))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


def test_export_keeps_the_dtype_the_base_was_stored_in(tmp_path):
    tiny_llama().to(torch.bfloat16).save_pretrained(tmp_path / "m")
    from tiny import byte_tokenizer

    byte_tokenizer().save_pretrained(tmp_path / "m")
    recipe = write_recipe(
        tmp_path / "r.yaml", model=tmp_path / "m", out=tmp_path / "run", prune={"criterion": "cosine"}
    )
    assert run_stage("prune", recipe, "model.dtype=float32") == 0
    from safetensors.torch import load_file

    base, cut = (
        load_file(tmp_path / "m" / "model.safetensors"),
        load_file(tmp_path / "run/prune/model/model.safetensors"),
    )
    assert {t.dtype for t in cut.values()} == {torch.bfloat16}
    keep = read_plan(tmp_path / "run/prune/plan.json").keep
    for new, old in enumerate(keep):
        name = "model.layers.{}.mlp.up_proj.weight"
        assert torch.equal(cut[name.format(new)], base[name.format(old)])


def test_lineage_and_card_say_where_it_comes_from(pruned, base):
    lineage = Lineage.read(pruned / "model")
    assert lineage.base_weights_sha256 == weights_sha256(base)
    assert lineage.weights_sha256 == weights_sha256(pruned / "model")
    assert lineage.keep == read_plan(pruned / "plan.json").keep
    card = (pruned / "model" / "README.md").read_text()
    for fact in (str(base), lineage.weights_sha256, "Not measured yet"):
        assert fact in card


def test_scores_have_a_simple_and_a_complex_column_and_their_difference(pruned):
    scores = Scores.model_validate(read_json(pruned / "scores.json"))
    assert scores.simple.items == scores.complex.items == 8
    for simple, both, reasoning in zip(
        scores.simple.cost, scores.complex.cost, scores.reasoning.cost, strict=True
    ):
        assert reasoning == pytest.approx(both - simple)
    for column in (scores.simple, scores.complex, scores.reasoning):
        assert all(a <= c <= b for a, c, b in zip(column.low, column.cost, column.high, strict=True))


@pytest.mark.parametrize(
    ("criterion", "chooser"),
    [("cosine", "lowest"), ("cosine", "span"), ("angular", "span"), ("angular", "lowest")],
)
def test_every_criterion_and_chooser_make_a_model(base, tmp_path, criterion, chooser):
    choice = {"criterion": criterion, "chooser": chooser, "batch_tokens": 512, "protect": [0]}
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune=choice)
    assert run_stage("prune", recipe) == 0
    plan = read_plan(tmp_path / "run/prune/plan.json")
    assert (plan.criterion, plan.chooser) == (criterion, chooser)
    assert 0 in plan.keep
    assert chooser == "lowest" or plan.drop[1] == plan.drop[0] + 1


def test_finished_stage_shows_its_summary_again_and_changes_nothing(pruned, base, capsys):
    before = {p: p.stat().st_mtime_ns for p in pruned.rglob("*") if p.is_file() and p.name != ".lock"}
    recipe = write_recipe(pruned.parent.parent / "again.yaml", model=base, out=pruned.parent)
    assert run_stage("prune", recipe) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert json.loads(last)["model"] == str(pruned / "model")


def test_plan_edited_by_hand_is_cut_as_it_stands(pruned, base, tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run")
    assert run_stage("prune", recipe) == 0
    folder = tmp_path / "run" / "prune"
    plan = read_json(folder / "plan.json") | {"keep": [0, 1, 2, 5]}
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "DONE").unlink()
    assert run_stage("prune", recipe) == 0
    assert Lineage.read(folder / "model").keep == (0, 1, 2, 5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prune.drop=6"], "prune.drop: 6 of 6 blocks leaves nothing; at most 5"),
        (["prune.simple_tasks=[]"], "prune.simple_tasks: empty"),
        (
            ["prune.complex_tasks=[algebra]"],
            "prune.complex_tasks: unknown task 'algebra'; known tasks: doc_type",
        ),
        (["prune.criterion=magic"], "prune.criterion: input should be"),
        (["prune.dorp=3"], "prune.dorp: unknown key; did you mean 'drop'?"),
        (["model.name=/nowhere"], "/nowhere: no such folder"),
        (["prune=null"], "prune: the recipe has no such section"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_half_written(base, tmp_path, capsys, overrides, message):
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run")
    assert run_stage("prune", recipe, *overrides) == 2
    out, err = capsys.readouterr()
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {message}")
    assert not list(tmp_path.glob("run/prune/model*"))
    assert not list(tmp_path.glob("run/prune/*.json")) or {
        p.name for p in tmp_path.glob("run/prune/*.json")
    } == {"env.json"}


def test_mistaken_number_can_be_mended_without_deleting_the_folder(base, tmp_path):
    """A recipe that was refused has made nothing, so its folder belongs to nobody."""
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune={"criterion": "cosine"}
    )
    assert run_stage("prune", recipe, "prune.drop=6") == 2
    assert run_stage("prune", recipe) == 0


def test_folder_of_another_recipe_is_refused_naming_the_key(pruned, base, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=pruned.parent)
    assert run_stage("prune", recipe, "prune.drop=3") == 2
    assert "error: prune.drop: " in capsys.readouterr().err


def stage_process(recipe, *overrides, **options):
    command = [sys.executable, "-m", "prune", "--config", str(recipe), *overrides]
    # MKL may sum in another order where memory lies otherwise: once a last digit of a score differed.
    same_sums = {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | same_sums, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, **options,
    )  # fmt: skip


def test_full_disk_is_one_line_and_the_same_command_goes_on(base, tmp_path):
    """A real fault: the kernel refuses files beyond 40 kB, the weights are larger."""
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune={"criterion": "cosine"}
    )

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    process = stage_process(recipe, preexec_fn=small_files)
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert "error: cannot write: file too large" in err
    assert "Traceback" not in err
    folder = tmp_path / "run" / "prune"
    assert not [p for p in folder.iterdir() if "model" in p.name or p.name == "DONE"]
    assert run_stage("prune", recipe) == 0


def wait_for_new(process, sign, start):
    """Until the file `sign` has been written after `start`, or the process is over."""
    while process.poll() is None and not (sign.exists() and sign.stat().st_mtime > start):
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("scoring", "exporting"), [(1, 1), pytest.param(7, 3, marks=pytest.mark.slow, id="ten times")]
)
def test_killed_it_ends_with_the_same_plan_and_the_same_bytes(base, tmp_path, scoring, exporting):
    """Kills while blocks are scored (an item a batch: much to resume), and while it exports."""
    size = {"items_per_task": 24, "batch_tokens": 1}
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "calm", prune=size)
    assert stage_process(recipe).wait() == 0
    moments = random.Random(0)
    folder = tmp_path / "killed" / "prune"
    for kill in range(scoring + exporting):
        start = time.time()
        process = stage_process(recipe, f"out={folder.parent}", start_new_session=True)
        if kill < scoring:  # it works from here on
            scored = len(list(folder.glob("scores/*.json")))
            while process.poll() is None and len(list(folder.glob("scores/*.json"))) == scored:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.3))
        else:
            wait_for_new(process, folder / ".model.unfinished" / "config.json", start)
            time.sleep(moments.uniform(0, 0.02))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was at work"
        assert not (folder / "DONE").exists()
    assert stage_process(recipe, f"out={folder.parent}").wait() == 0
    for name in (
        "plan.json",
        "scores.json",
        "model/model.safetensors",
        "model/config.json",
        "model/lineage.json",
    ):
        assert (folder / name).read_bytes() == (tmp_path / "calm" / "prune" / name).read_bytes(), name
    assert not list(folder.rglob("*.unfinished"))


def test_model_whose_cache_computes_something_else_is_refused():
    from fastpath.errors import SurgeryError
    from prune.save import check_cached

    check_cached(tiny_llama(), model := tiny_llama())
    for layer in model.model.layers[3:]:
        layer.self_attn.layer_idx = 2  # what `del layers[i]` leaves behind: two blocks share one cache entry
    with pytest.raises(SurgeryError, match="the cut model cannot use its KV cache"):
        check_cached(tiny_llama(), model)
    check_cached(model, model)  # a base that cannot do it either is not the cut's fault
