"""Files that start GPU engines: valid, complete, and what the gateway's recipe says of them."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from fastpath.recipe_file import load_recipe
from serve import launch

# `vllm serve --help` of 0.32 (research/serving.md, 1.2).
VLLM_FLAGS = {
    "--served-model-name", "--host", "--port", "--max-num-queued-reqs", "--enable-prompt-tokens-details",
    "--max-model-len", "--max-num-seqs", "--long-prefill-token-threshold", "--enable-prefix-caching",
    "--no-enable-prefix-caching", "--scheduling-policy", "--speculative-config",
}  # fmt: skip


def written(monkeypatch, tmp_path, target, *arguments):
    (tmp_path / "run/prune/model").mkdir(parents=True, exist_ok=True)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump({"out": str(tmp_path / "run"), "model": {"name": "Org/Model"}}))
    command = ["launch", "--config", str(recipe), "--target", target, *arguments]
    monkeypatch.setattr(sys, "argv", command)
    return launch.main(), tmp_path / "run/serve" / target


def test_vllm_gets_an_engine_for_fast_and_one_for_the_others_in_order_of_tier(monkeypatch, tmp_path):
    code, folder = written(monkeypatch, tmp_path, "vllm", "--draft")
    script = folder / "engines.sh"
    assert code == 0
    assert subprocess.run([shutil.which("sh"), "-n", script], check=False).returncode == 0
    fast, full = (shlex.split(line[:-2]) for line in script.read_text().splitlines() if line.endswith(" &"))
    assert fast[2] == str(tmp_path / "run/prune/model") and full[2] == "Org/Model"
    for command in (fast, full):
        assert {word for word in command if word.startswith("--")} <= VLLM_FLAGS
        assert command[command.index("--host") + 1] == "127.0.0.1"
        assert command[command.index("--long-prefill-token-threshold") + 1] == "512"
    assert "priority" in full and "priority" not in fast
    assert full[full.index("--max-num-seqs") + 1] == "10"
    assert json.loads(full[full.index("--speculative-config") + 1])["model"] == fast[2]
    assert "--speculative-config" not in fast


def test_exported_draft_guesses_for_standard_as_often_as_was_measured_to_pay(monkeypatch, tmp_path, capsys):
    draft = tmp_path / "draft"
    draft.mkdir()
    (draft / "config.json").write_text("{}")
    (draft / "generation_config.json").write_text('{"num_assistant_tokens": 6}')
    code, folder = written(monkeypatch, tmp_path, "vllm", "--draft-model", str(draft))
    assert code == 0
    lines = (folder / "engines.sh").read_text().splitlines()
    fast, full = (shlex.split(line[:-2]) for line in lines if line.endswith(" &"))
    config = json.loads(full[full.index("--speculative-config") + 1])
    assert config == {"method": "draft_model", "model": str(draft), "num_speculative_tokens": 6}
    assert "--speculative-config" not in fast
    assert written(monkeypatch, tmp_path, "vllm", "--draft-model", "/none")[0] == 2
    assert "--draft-model /none: no model there" in capsys.readouterr().err


@pytest.mark.parametrize("beside", ["draft.json", "prune/draft.json", "prune/model/draft.json"])
def test_draft_that_was_measured_not_to_pay_is_refused(monkeypatch, tmp_path, capsys, beside):
    """An earlier number of guesses may still stand in its generation config."""
    export = tmp_path / "draft"
    draft = export / "prune/model"
    draft.mkdir(parents=True)
    (draft / "config.json").write_text("{}")
    (draft / "generation_config.json").write_text('{"num_assistant_tokens": 6}')
    (export / beside).write_text('{"tokens": 0, "predicted_speedup": 0.9}')
    assert written(monkeypatch, tmp_path, "vllm", "--draft-model", str(draft))[0] == 2
    err = capsys.readouterr().err
    assert "measured as off (draft.json)" in err and "Traceback" not in err
    assert not (tmp_path / "run/serve").exists()
    (export / beside).write_text('{"tokens": 3, "predicted_speedup": 1.2}')
    code, folder = written(monkeypatch, tmp_path, "vllm", "--draft-model", str(draft))
    assert code == 0 and '"num_speculative_tokens": 3' in (folder / "engines.sh").read_text()


@pytest.mark.parametrize("target", sorted(launch.TARGETS))
def test_the_gateways_recipe_is_valid_and_names_every_engine(monkeypatch, tmp_path, target):
    code, folder = written(monkeypatch, tmp_path, target)
    assert code == 0
    serve = load_recipe(folder / "serve.yaml").serve
    names = [serve.fast.model, serve.standard.model, serve.deep.model]
    priorities = [serve.fast.priority, serve.standard.priority, serve.deep.priority]
    if target == "ray":
        assert names == ["fast", "standard", "deep"] and set(priorities) == {"none"}
        assert {tier.url for tier in serve.served().values()} == {"http://127.0.0.1:8001/v1"}
    else:
        assert names == ["fast", "standard-deep", "standard-deep"]
        assert priorities == ["none", "low_first", "low_first"]
        assert serve.fast.url != serve.standard.url == serve.deep.url


def test_compose_runs_a_service_an_engine_that_only_this_machine_reaches(monkeypatch, tmp_path):
    _, folder = written(monkeypatch, tmp_path, "compose")
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    assert list(services) == ["fast", "standard-deep"]
    model = str(tmp_path / "run/prune/model")
    assert (
        services["fast"]["volumes"] == [f"{model}:{model}:ro"] and services["standard-deep"]["volumes"] == []
    )
    assert services["fast"]["command"][0] == model
    assert all(service["ports"][0].startswith("127.0.0.1:") for service in services.values())


def test_ray_runs_a_deployment_a_tier_each_with_its_own_queue(monkeypatch, tmp_path):
    _, folder = written(monkeypatch, tmp_path, "ray", "serve.deep.queue=5")
    (application,) = yaml.safe_load((folder / "ray.yaml").read_text())["applications"]
    configs = application["args"]["llm_configs"]
    assert [config["model_loading_config"]["model_id"] for config in configs] == ["fast", "standard", "deep"]
    assert [config["deployment_config"]["max_queued_requests"] for config in configs] == [16, 32, 5]
    assert configs[2]["engine_kwargs"]["max_model_len"] == 32768


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.name=embedded:depthdial"], "no hub id or folder"),
        (["serve.tiers=[standard]", "--draft"], "--draft: the draft model"),
        (["serve.fast.model=distill"], "run `python -m distill` first"),
    ],
)
def test_what_cannot_be_launched_is_refused_in_one_line(monkeypatch, tmp_path, capsys, arguments, words):
    code, folder = written(monkeypatch, tmp_path, "vllm", *arguments)
    assert code == 2 and words in capsys.readouterr().err
    assert not folder.exists()
