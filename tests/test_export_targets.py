"""`--to gguf, mergekit, vllm, openvino`: the target's own code, where installed (`make test-exports`)."""

import ast
import importlib.util
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from exporting import export_of, facts_of, write_base, write_family, write_pruned, write_sentencepiece
from safetensors.torch import save_file
from test_imports import imported
from test_serve_launch import VLLM_FLAGS

from fastpath.errors import ExportError
from fastpath.models import load_tokenizer
from fastpath.sources import locate
from prune.exports import check, gguf, mergekit, openvino
from prune.exports.made import read_made
from prune.exports.proof import CHECK, prove, version_of
from prune.exports.vllm import serve_line


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
def test_tokenizer_that_llama_cpp_does_not_know_is_one_line(run, capsys):
    assert export_of("--run", run, "--to", "gguf") == 2
    err = capsys.readouterr().err
    assert "llama.cpp does not know this model's tokenizer" in err and "Traceback" not in err
    assert not (run / "export/gguf").exists()


@pytest.mark.parametrize(
    ("target", "package", "hint"),
    [("gguf", "xllamacpp", gguf.INSTALL), ("mergekit", "mergekit", mergekit.INSTALL),
     ("openvino", "optimum", openvino.INSTALL)],
)  # fmt: skip
def test_target_that_is_not_installed_is_one_line_that_says_how(run, capsys, target, package, hint):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    assert export_of("--run", run, "--to", target) == 2
    err = capsys.readouterr().err
    assert "is not installed" in err and hint in err
    assert not (run / "export" / target).exists()


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
    if importlib.util.find_spec("vllm") is None:
        assert "vllm is not installed" in facts["proof"]


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
    exact = check.log_softmax(logits)
    assert check.compared([exact], [logits])["largest_difference"] == 0.0
    last = check.table(dict(enumerate(exact[-1])), 11)
    facts = check.compared([last], [logits])
    assert facts["positions"] == facts["same_top"] == 1 and facts["largest_difference"] == 0.0
    off = exact.copy()
    off[2, 7] += 0.5
    assert check.compared([off], [logits])["largest_difference"] == pytest.approx(0.5)
    assert check.compared([check.table({0: -1.0}, 11)], [logits])["largest_difference"] is None


def test_program_that_fails_or_is_not_there_is_one_line(tmp_path):
    empty = tmp_path / "reference.safetensors"
    save_file({"ids.0": torch.arange(3), "logits.0": torch.zeros(3, 5)}, empty)
    keys = {"dtype": "float32", "loaded_by": "it"}
    with pytest.raises(ExportError, match=r"it on .*: failed \(exit code 1\)"):
        prove("hf", tmp_path / "nothing", empty, python=sys.executable, **keys)
    with pytest.raises(ExportError, match="cannot be run"):
        prove("hf", tmp_path, empty, python="/no/python", **keys)
    with pytest.raises(ExportError, match="not-a-package is not installed: do this"):
        version_of("not-a-package", sys.executable, extra="do this")


def test_check_needs_nothing_of_ours():
    ours = {"fastpath", "prune", "distill", "eval", "serve"}
    assert not ours & set(imported(ast.parse(CHECK.read_text())))
