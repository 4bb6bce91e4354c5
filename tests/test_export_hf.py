"""`--to hf`: what is published loads without us, is the base's where it should be, and says what it is."""

import json
import shutil

import pytest
from exporting import export_of, facts_of, write_base, write_pruned
from huggingface_hub import metadata_load
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fastpath.models import Lineage, weights_sha256
from fastpath.runs import locked
from prune.export import main
from prune.exports import hf, hub
from prune.exports.proof import Proof


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    return write_pruned(tmp_path_factory.mktemp("pruned"), base)


@pytest.fixture
def believed(monkeypatch):
    """The proof takes seconds in a process of its own; other tests show it."""
    given = Proof("transformers", 1, 1, largest_difference=0.0, allowed=1.0, same_top=1.0)
    monkeypatch.setattr(hf, "prove", lambda *_, **__: given)
    monkeypatch.setattr(hf, "version_of", lambda *_, **__: "transformers")


def test_folder_is_stock_proved_and_byte_equal_to_the_base_where_it_should_be(run, base, capsys):
    assert export_of("--run", run, "--to", "hf") == 0
    facts, folder = facts_of(capsys), run / "export/hf"
    assert facts["to"] == "hf" and facts["model"] == "prune" and facts["path"] == str(folder)
    assert facts["proof"]["largest_difference"] == 0.0 and facts["proof"]["same_top"] == 1.0
    assert facts["proof"]["loaded_by"].startswith("transformers ")
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert tokenizer | {"LICENSE", "NOTICE", "USE_POLICY.md"} <= {*facts["as_the_base"]}
    for name in facts["as_the_base"]:
        assert (folder / name).read_bytes() == (base / name).read_bytes()
    assert weights_sha256(folder) == Lineage.read(run / "prune/model").weights_sha256
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.num_hidden_layers == 4 and model.generation_config.eos_token_id == 257
    turns = [{"role": "user", "content": "Hello"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "user: Hello\n"
    assert not list(run.glob("export/.*"))


def test_card_carries_the_licence_and_what_the_hub_asks_for(run, believed):
    assert export_of("--run", run, "--to", "hf") == 0
    card = metadata_load(run / "export/hf/README.md")
    assert (
        card["license"] == "other" and card["license_name"] == "tiny-licence" and card["language"] == ["en"]
    )
    assert card["library_name"] == "transformers" and card["pipeline_tag"] == "text-generation"
    assert card["tags"] == ["fastpath", "depth-pruned"]
    assert "base_model" not in card and "model-index" not in card  # a folder of this machine; not evaluated
    text = (run / "export/hf/README.md").read_text()
    assert text.count("---\n") == 2 and "## Plan" in text and "Not measured yet" in text


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("embedded:smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("embedded:depthdial", None),
        ("/home/me/model", None),
        ("model.gguf", None),
    ],
)
def test_base_model_is_a_hub_id_or_left_out(name, want):
    assert hub.hub_id_of(name) == want


def test_weights_are_split_as_asked_and_the_same(run, capsys):
    assert export_of("--run", run, "--to", "hf", "--max-shard-size", "60KB") == 0
    facts, folder = facts_of(capsys), run / "export/hf"
    files = sorted(folder.glob("*.safetensors"))
    assert facts["shards"] == len(files) > 1 and facts["proof"]["largest_difference"] == 0.0
    assert (folder / "model.safetensors.index.json").exists()
    digest = weights_sha256(folder)  # of these files: a lineage that named the others would be wrong
    assert Lineage.read(folder).weights_sha256 == digest and digest in (folder / "README.md").read_text()
    together = {name: tensor for file in files for name, tensor in load_file(file).items()}
    whole = load_file(run / "prune/model/model.safetensors")
    assert together.keys() == whole.keys() and all(together[k].equal(whole[k]) for k in whole)


def evaluated(run, *, digest):
    """An evaluation as the stage leaves it, of the model with these weights."""
    task = {"num_items": 40, "base_accuracy": 0.75, "fast_accuracy": 0.7, "gap": 0.05, "gap_low": -0.012,
            "gap_high": 0.11}  # fmt: skip
    suites = {
        "simple": {"tasks": {"fastpath_doc_type": task}, "means": {"likelihood": {**task, "num_tasks": 1}}}
    }
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval/results.json").write_text(json.dumps({"variants": {"fast": suites}}))
    (run / "eval/weights.json").write_text(json.dumps({"base": "0", "fast": digest}))


def test_measured_results_of_exactly_these_weights_stand_in_the_model_index(base, tmp_path, believed):
    run = write_pruned(tmp_path, base)
    evaluated(run, digest="of other weights")
    assert export_of("--run", run, "--to", "hf") == 0
    assert "model-index" not in metadata_load(run / "export/hf/README.md")
    evaluated(run, digest=Lineage.read(run / "prune/model").weights_sha256)
    assert export_of("--run", run, "--to", "hf") == 0
    (entry,) = metadata_load(run / "export/hf/README.md")["model-index"]
    assert entry["name"] == "run-prune"
    tasks = {result["dataset"]["type"]: result for result in entry["results"]}
    assert set(tasks) == {"fastpath_doc_type", "simple_likelihood_mean"}
    (metric,) = tasks["fastpath_doc_type"]["metrics"]
    assert metric["type"] == "accuracy" and metric["value"] == 0.7
    assert metric["name"] == "accuracy (base 0.750; points lost +5.0, 95 % -1.2 to +11.0)"


class FakeHub:
    """As much of HfApi as a push needs."""

    def __init__(self):
        self.calls = []

    def create_repo(self, name, **keys):
        self.calls.append(("create", name, keys))
        return f"https://huggingface.co/{name}"

    def upload_folder(self, *, folder_path, repo_id, delete_patterns, **keys):
        self.deleted = delete_patterns
        self.calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))


def test_nothing_is_pushed_unless_asked_and_then_the_proved_folder(run, believed, monkeypatch, capsys):
    api = FakeHub()
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    assert export_of("--run", run, "--to", "hf") == 0
    assert not api.calls and "pushed_to" not in facts_of(capsys)
    assert export_of("--run", run, "--to", "hf", "--push", "me/small") == 0
    assert facts_of(capsys)["pushed_to"] == "https://huggingface.co/me/small"
    (create, name, keys), (upload, repo, files) = api.calls
    assert (create, name, upload, repo) == ("create", "me/small", "upload", "me/small")
    assert keys["private"] is True and {"model.safetensors", "README.md", "config.json", "LICENSE"} <= {
        *files
    }
    assert all(not name.startswith(".") for name in files)
    shards = ["model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    theirs = ["config.json", "adapter/model.safetensors", "README.md"]
    there = ["model.safetensors", *shards, *theirs]  # an earlier push's, and what is not ours
    assert list(filter_repo_objects(there, ignore_patterns=api.deleted)) == theirs
    own = Lineage.read(run / "prune/model").base  # a folder of this machine, which is nobody's business
    told = [(run / "export/hf" / name).read_text() for name in ("README.md", "lineage.json")]
    assert own.startswith("/") and not any(own in text for text in told)


def test_refused_push_is_one_line_and_the_folder_stays(run, believed, monkeypatch, capsys):

    class Refusing(FakeHub):
        def create_repo(self, name, **keys):
            raise OSError("401 Client Error\nlong story")

    monkeypatch.setattr(hub, "HfApi", Refusing)
    assert export_of("--run", run, "--to", "hf", "--push", "me/small") == 2
    err = capsys.readouterr().err
    assert (
        "error: --push me/small: 401 Client Error; the export is whole in" in err and "long story" not in err
    )
    assert (run / "export/hf/config.json").exists()


def test_model_that_became_another_is_not_exported(base, tmp_path, monkeypatch, capsys):
    """What is written is compared, and nothing is left if it differs."""
    run = write_pruned(tmp_path, base)

    def broken(made, folder, size):
        from tiny import tiny_llama

        tiny_llama(depth=4, seed=9).save_pretrained(folder)

    monkeypatch.setattr(hf, "copy_model", broken)
    assert export_of("--run", run, "--to", "hf") == 2
    assert "nats (allowed" in capsys.readouterr().err
    assert not (run / "export/hf").exists() and not list((run / "export").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "gguf", "--push", "a/b"], "--push: is for --to hf"),
        (["--to", "gguf", "--max-shard-size", "5GB"], "--max-shard-size: is for --to hf"),
        (["--to", "hf", "--model", "distill"], "`python -m distill --config ...` makes the model"),
        (["--to", "hf", "--max-shard-size", "many"], "--max-shard-size many: "),
        (["--to", "hf", "--python", "/no/such/python"], "/no/such/python: cannot be run"),
    ],
)
def test_what_cannot_be_exported_is_one_line(run, capsys, arguments, message):
    assert export_of("--run", run, *arguments) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_model_of_a_distillation_that_has_not_finished_is_the_cut_and_says_so(
    run, believed, tmp_path, caplog
):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "distill").mkdir()
    with caplog.at_level("WARNING", logger="fastpath"):
        assert export_of("--run", copy, "--to", "hf", "--model", "prune") == 0
        assert not [line for line in caplog.messages if "distill" in line]
        assert export_of("--run", copy, "--to", "hf") == 0
    assert f"warning: {copy / 'distill'}: has not finished; this is the model of prune" in caplog.messages


def test_two_exports_into_one_folder_are_not_written_at_once(run, believed, capsys):
    """The second would have removed the files under the first."""
    with locked(run / "export/.hf.lock"):
        assert export_of("--run", run, "--to", "hf") == 2
    assert f"{run / 'export/hf'}: another export is being written there" in capsys.readouterr().err
    assert export_of("--run", run, "--to", "hf") == 0
    assert not list(run.glob("export/.*"))


def test_run_that_is_not_there_is_one_line(tmp_path, capsys):
    assert export_of("--run", tmp_path / "none", "--to", "hf") == 2
    assert "no such run" in capsys.readouterr().err


def test_a_folder_that_is_there_is_never_replaced(tmp_path, monkeypatch, capsys):
    """--out ~/models would have taken everything in it away."""
    precious = tmp_path / "models"
    precious.mkdir()
    (precious / "thesis.txt").write_text("precious")
    given = ["prune.export", "--run", str(tmp_path / "run"), "--to", "hf", "--out", str(precious)]
    monkeypatch.setattr("sys.argv", given)
    assert main() == 2
    assert "--out" in capsys.readouterr().err
    assert (precious / "thesis.txt").read_text() == "precious"
