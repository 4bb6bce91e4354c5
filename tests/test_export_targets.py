"""`--to gguf, mergekit, vllm, openvino`: the target's own code, where installed (`make test-exports`)."""

import ast
import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import export_of, facts_of, write_base, write_family, write_pruned, write_sentencepiece
from families import tiny_config
from safetensors.torch import load_file, save_file
from test_imports import imported
from test_serve_launch import VLLM_FLAGS

from fastpath.errors import ExportError
from fastpath.models import load_tokenizer
from fastpath.plan import Plan
from fastpath.sources import locate
from prune.exports import check, gguf, mergekit, openvino
from prune.exports.made import read_made
from prune.exports.proof import CHECK, TEXTS, beyond_window, compare, version_of, write_reference
from prune.exports.vllm import compare_line, serve_line

OPENVINO, VLLM = (
    Path(__file__).resolve().parents[1] / f".venv-{name}/bin/python" for name in ("openvino", "vllm")
)


def needs(package):
    """Skip where the target is not installed."""
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: `make test-exports`")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return write_pruned(folder, write_base(folder / "model"))


@pytest.mark.exports
@needs("mergekit")
def test_mergekit_makes_the_same_model_from_the_yaml(run, capsys):
    assert export_of("--run", run, "--to", "mergekit") == 0
    facts = facts_of(capsys)
    assert facts["proof"]["executed_by"].startswith("mergekit ")
    assert facts["proof"]["tensors_equal"] == 2 + 4 * 9  # embeddings, last norm, nine tensors a block
    assert facts["proof"]["largest_difference"] == 0.0
    assert (run / "export/mergekit/mergekit.yaml").read_text() == (run / "prune/mergekit.yaml").read_text()


@pytest.mark.exports
@needs("mergekit")
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_model_whose_config_mergekit_leaves_wrong_is_refused_in_words(tmp_path, capsys, family):
    run = write_pruned(tmp_path, write_family(tmp_path / "model", family))
    assert "# mergekit leaves layer_types" in (run / "prune/mergekit.yaml").read_text()
    assert export_of("--run", run, "--to", "mergekit") == 2
    err = capsys.readouterr().err
    assert "this cut also changes layer_types" in err and "--to hf works" in err and "Traceback" not in err
    assert not (run / "export/mergekit").exists()


@pytest.mark.exports
@needs("xllamacpp")
def test_llama_cpp_reads_the_converted_file_and_predicts_the_same(tmp_path, capsys):
    """The converter knows tokenizers by what they do: this one is SmolLM2's."""
    tokenizer = load_tokenizer(locate("embedded:smollm2-135m-instruct").folder)
    changes = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2}
    run = write_pruned(tmp_path, write_base(tmp_path / "model", tokenizer, **changes))
    assert export_of("--run", run, "--to", "gguf") == 0
    facts = facts_of(capsys)
    assert facts["proof"]["same_top"] == 1.0 and facts["proof"]["largest_difference"] < 0.01
    assert facts["file"].endswith("model-f32.gguf")
    drop = ",".join(map(str, read_made(run).plan.drop))
    assert facts["llama_quantize"] == f"llama-quantize --prune-layers {drop} BASE-f32.gguf cut-f32.gguf F32"
    assert {path.name for path in (run / "export/gguf").iterdir()} == {"model-f32.gguf", "README.md"}


@pytest.mark.exports
@needs("xllamacpp")
def test_tokenizer_of_sentencepiece_reaches_llama_cpp(tmp_path, capsys):
    """Its converter reads tokenizer.model, which a run's own folder does not hold."""
    run = write_pruned(tmp_path, write_sentencepiece(tmp_path / "model", "gemma"))
    assert not (run / "prune/model/tokenizer.model").exists()
    assert export_of("--run", run, "--to", "gguf") == 0
    assert facts_of(capsys)["proof"]["same_top"] == 1.0


@pytest.mark.exports
@needs("xllamacpp")
@pytest.mark.parametrize(("keep", "code"), [((0, 1, 2, 3), 0), ((0, 2, 3, 5), 2)])
def test_cut_whose_windows_llama_cpp_places_elsewhere_is_refused(tmp_path, capsys, keep, code):
    """It derives which blocks of Gemma 2 slide from their number; a prompt beyond the window shows it."""
    plan = Plan(depth=6, keep=keep, criterion="given", chooser="given", cost=None, unit="")
    (tmp_path / "plan.json").write_text(json.dumps(plan.model_dump()))
    base = write_sentencepiece(tmp_path / "model", "gemma2", query_pre_attn_scalar=12, sliding_window=40)
    run = write_pruned(tmp_path, base, plan=str(tmp_path / "plan.json"), drop=None)
    assert export_of("--run", run, "--to", "gguf") == code
    assert ("nats (allowed" in capsys.readouterr().err) == (code == 2)


@pytest.mark.exports
@needs("xllamacpp")
def test_tokenizer_that_llama_cpp_does_not_know_is_one_line(run, capsys):
    assert export_of("--run", run, "--to", "gguf") == 2
    err = capsys.readouterr().err
    assert "llama.cpp does not know this model's tokenizer" in err and "Traceback" not in err
    assert not (run / "export/gguf").exists()


@pytest.mark.exports
@pytest.mark.skipif(not OPENVINO.exists(), reason="no .venv-openvino: `make openvino`")
def test_openvino_reads_and_predicts_the_same(run, capsys):
    assert export_of("--run", run, "--to", "openvino", "--python", OPENVINO) == 0
    proof = facts_of(capsys)["proof"]
    assert proof["same_top"] == 1.0 and proof["largest_difference"] <= proof["allowed"]
    assert "openvino" in proof["loaded_by"]
    assert {"openvino_model.xml", "openvino_tokenizer.xml"} <= {
        p.name for p in (run / "export/openvino").iterdir()
    }


@pytest.mark.exports
@pytest.mark.skipif(not VLLM.exists(), reason="no .venv-vllm: `make vllm`")
def test_vllm_reads_and_predicts_the_same(tmp_path, capsys):
    sizes = {"hidden_size": 128, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    run = write_pruned(tmp_path, write_base(tmp_path / "model", **sizes))
    assert export_of("--run", run, "--to", "vllm", "--python", VLLM) == 0
    proof = facts_of(capsys)["proof"]
    assert proof["same_top"] == 1.0 and proof["largest_difference"] <= proof["allowed"]
    assert proof["loaded_by"].startswith("vllm ")


@pytest.mark.parametrize(
    ("target", "package", "hint"),
    [("gguf", "xllamacpp", gguf.INSTALL), ("mergekit", "mergekit", mergekit.INSTALL),
     ("openvino", "optimum", openvino.INSTALL)],
)  # fmt: skip
def test_target_that_is_not_installed_is_one_line_that_says_how(run, tmp_path, capsys, target, package, hint):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    assert export_of("--run", run, "--to", target, "--out", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "is not installed" in err and hint in err
    assert not (tmp_path / "out").exists()


def test_vllm_gets_a_command_with_its_own_flags_and_a_script_that_parses(run, capsys):
    assert export_of("--run", run, "--to", "vllm") == 0
    facts, folder = facts_of(capsys), run / "export/vllm"
    words = shlex.split(facts["serve"])
    assert words[:3] == ["vllm", "serve", str((run / "prune/model").resolve())]
    assert {word for word in words if word.startswith("--")} <= VLLM_FLAGS
    assert serve_line(read_made(run)) in (folder / "serve.sh").read_text()
    assert subprocess.run([shutil.which("sh"), "-n", folder / "serve.sh"], check=False).returncode == 0
    compile((folder / "compare.py").read_text(), "compare.py", "exec")
    assert {path.name for path in folder.iterdir()} == {"compare.py", "reference.safetensors", "serve.sh"}
    assert facts["compare"].endswith(" reference.safetensors 0.01")
    if importlib.util.find_spec("vllm") is None:
        assert "vllm is not installed" in facts["proof"]


def test_code_of_a_repository_runs_in_vllm_only_where_the_recipe_allows_it(run):
    made = read_made(run)
    trusted = made.recipe.model.model_copy(update={"trust_remote_code": True})
    own_code = replace(made, recipe=made.recipe.model_copy(update={"model": trusted}))
    assert "--trust-remote-code" in serve_line(own_code) and "--trust-remote-code" in compare_line(own_code)
    assert "--trust-remote-code" not in serve_line(made) + compare_line(made)


def test_llama_quantize_line_says_where_it_gives_less_than_this_model(run):
    made = read_made(run)
    _, says, line = gguf.quantize_lines(made, "model-f16.gguf", "f16")
    assert "training" not in says and "not compared" in says
    assert "BASE-f16.gguf cut-f16.gguf F16" in line  # never the file that was compared
    trained = type(made)(made.run, "distill", made.recipe, made.plan, made.lineage)
    assert "without the training" in gguf.quantize_lines(trained, "m.gguf", "f16")[1]
    with pytest.raises(ExportError, match="does not train"):
        mergekit.export_mergekit(trained, run / "export/mergekit", None)


# The comparison itself


def test_tensors_that_differ_in_value_type_or_name_are_found(tmp_path):
    a = torch.arange(6.0)
    written = {
        "a": {"x": a},
        "same": {"x": a},
        "value": {"x": a + 1},
        "type": {"x": a.half()},
        "name": {"y": a},
    }
    for name, tensors in written.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert mergekit.compared(tmp_path / "a", tmp_path / "same") == 1
    for other in ("value", "type", "name"):
        with pytest.raises(ExportError):
            mergekit.compared(tmp_path / "a", tmp_path / other)


def test_comparison_counts_every_token_of_the_vocabulary():
    logits = np.random.default_rng(0).normal(size=(5, 11)).astype(np.float32)
    exact = check.log_softmax(logits)  # as good as logits: a constant does not matter
    assert check.compared([logits], [logits])["largest_difference"] == 0.0
    assert check.compared([exact], [logits])["largest_difference"] == pytest.approx(0, abs=1e-12)
    last = check.table(dict(enumerate(exact[-1])), 11)
    facts = check.compared([last], [logits])
    assert facts["positions"] == facts["same_top"] == 1
    assert facts["largest_difference"] == pytest.approx(0, abs=1e-12)
    off = exact.copy()
    off[2, 7] += 0.5
    assert 0.4 < check.compared([off], [logits])["largest_difference"] < 0.5  # of a sum that is one again
    assert check.compared([check.table({0: -1.0}, 11)], [logits])["largest_difference"] is None


def test_program_that_fails_or_is_not_there_is_one_line(tmp_path):
    empty = tmp_path / "reference.safetensors"
    save_file({"ids.0": torch.arange(3), "logits.0": torch.zeros(3, 5)}, empty)
    keys = {"dtype": "float32", "loaded_by": "it"}
    with pytest.raises(ExportError, match=r"it on .*: failed \(exit code 1\)"):
        compare("hf", tmp_path / "nothing", empty, python=sys.executable, **keys)
    with pytest.raises(ExportError, match="cannot be run"):
        compare("hf", tmp_path, empty, python="/no/python", **keys)
    with pytest.raises(ExportError, match="not-a-package is not installed: do this"):
        version_of("not-a-package", sys.executable, extra="do this")


def test_a_build_by_another_name_is_found_by_its_module():
    assert version_of("yaml", sys.executable, extra="") == f"yaml {metadata.version('PyYAML')}"


def test_a_program_may_say_more_after_its_result(monkeypatch, tmp_path):
    """vLLM's own processes log after check.py has printed."""
    facts = {"prompts": 1, "positions": 2, "largest_difference": 0.0, "allowed": 1.0, "same_top": 2}
    said = f"loading\n{json.dumps(facts)}\n(EngineCore pid=1) INFO shutdown\n"
    monkeypatch.setattr("prune.exports.proof.run_python", lambda *_, **__: said)
    assert compare("vllm", tmp_path, tmp_path, dtype="float32", loaded_by="it", python="").same_top == 1.0


def test_comparison_by_hand_judges_and_says_so_by_its_exit_code(run, tmp_path):
    """A folder of its own, as `--to vllm` leaves one; stock transformers stand for the target."""
    made = read_made(run)
    write_reference(made, tmp_path / "exact.safetensors")
    tensors = load_file(tmp_path / "exact.safetensors")
    assert bytes(tensors["text.0"].tolist()).decode() == TEXTS[0]
    other = {**tensors, "logits.1": tensors["logits.1"].flip(-1)}
    save_file(other, tmp_path / "predicts.safetensors")
    save_file({**tensors, "text.1": tensors["text.0"].clone()}, tmp_path / "reads.safetensors")
    for name, code, message in (("exact", 0, ""), ("predicts", 1, "nats (allowed"), ("reads", 1, "reads '")):
        command = [sys.executable, CHECK, "hf", made.folder, tmp_path / f"{name}.safetensors", "0.001"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr
        assert json.loads(done.stdout)["allowed"] > 0


def test_a_prompt_is_longer_than_a_window_that_can_be_reached():
    assert beyond_window(tiny_config("llama")) == 0
    assert beyond_window(tiny_config("gemma2")) == 8 + 64
    assert beyond_window(tiny_config("gemma2", sliding_window=100)) == 0  # more than its 128 positions
    assert beyond_window(tiny_config("mistral", sliding_window=2**17, max_position_embeddings=2**18)) == 0


def test_check_needs_nothing_of_ours():
    ours = {"fastpath", "prune", "distill", "eval", "serve"}
    assert not ours & set(imported(ast.parse(CHECK.read_text())))
