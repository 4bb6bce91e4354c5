"""`from prune import score, plan, cut`: the stage on a model in memory, and lm-eval on what it makes."""

import re
from pathlib import Path

import lm_eval
import pytest
import torch
from exporting import write_base
from lm_eval.tasks import TaskManager
from tiny import byte_tokenizer, tiny_llama

from fastpath.blocks import skipping
from fastpath.errors import ConfigError, SurgeryError
from prune import cut, plan, score, search_plan

IDS = torch.arange(3, 60)[None]
README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.fixture(scope="module")
def scores(model):
    return score(model, byte_tokenizer(), criterion="cosine", items_per_task=2)


def test_five_lines_score_plan_and_cut(model, scores):
    assert len(scores.simple.cost) == len(scores.complex.cost) == 6
    chosen = plan(scores, drop=2)
    assert sorted(chosen.drop) == sorted(sorted(range(6), key=lambda i: scores.simple.cost[i])[:2])
    smaller = cut(model, chosen)
    assert smaller.config.num_hidden_layers == 4 and model.config.num_hidden_layers == 6
    with torch.no_grad(), skipping(model, chosen.drop):
        assert torch.allclose(smaller(IDS).logits, model(IDS, use_cache=False).logits, atol=1e-5)


def test_names_are_functions_also_after_the_modules_are_imported(model):
    import prune
    import prune.run
    import prune.scoring

    assert all(callable(getattr(prune, name)) for name in prune.__all__)


def test_plan_protects_blocks_and_refuses_in_one_line(scores):
    assert not set(plan(scores, drop=3, protect={0, 5}).drop) & {0, 5}
    (drop,) = {tuple(plan(scores, drop=3, chooser="span").drop)}
    assert drop == tuple(range(drop[0], drop[0] + 3))
    with pytest.raises(ConfigError, match="6 of 6 blocks leaves nothing"):
        plan(scores, drop=6)
    with pytest.raises(ConfigError, match="search_plan"):
        plan(scores, drop=1, chooser="greedy")
    with pytest.raises(ConfigError, match="no block 9"):
        plan(scores, drop=1, protect=[9])


def test_search_tries_plans_on_the_model(model):
    found = search_plan(model, byte_tokenizer(), drop=2, chooser="greedy", items_per_task=2)
    assert len(found.drop) == 2 and found.cost is not None
    assert found.unit == "nats per answer token"


def test_model_in_training_mode_is_refused(scores):
    with pytest.raises(SurgeryError, match="call eval"):
        cut(tiny_llama().train(), plan(scores, drop=1))


def test_lm_eval_takes_a_cut_model_without_saving_it(model, scores):
    from lm_eval.models.huggingface import HFLM

    smaller = cut(model, plan(scores, drop=2))
    lm = HFLM(pretrained=smaller, tokenizer=byte_tokenizer(), batch_size=4)
    tasks = TaskManager(include_path="eval/tasks", include_defaults=False)
    results = lm_eval.simple_evaluate(
        lm, tasks=["fastpath_doc_type"], task_manager=tasks, limit=4, bootstrap_iters=0, log_samples=False
    )
    assert 0 <= results["results"]["fastpath_doc_type"]["acc,none"] <= 1
    assert results["n-samples"]["fastpath_doc_type"]["effective"] == 4


def test_the_lines_of_the_readme_run_as_they_stand(tmp_path, monkeypatch):
    """Only the model's name is another, and the task is one that needs no network."""
    text = README.read_text(encoding="utf-8").split("In memory, without a recipe", 1)[1]
    (code,) = re.findall(r"^```python\n(.*?)^```$", text.split("\n## ", 1)[0], re.MULTILINE | re.DOTALL)
    code, named = re.subn(r"^name = .*$", f"name = {str(write_base(tmp_path))!r}", code, flags=re.MULTILINE)
    assert named == 1
    asked, evaluate = [], lm_eval.simple_evaluate

    def offline(model, *, tasks):
        asked.append((tasks, model.model))
        ours = TaskManager(include_path="eval/tasks", include_defaults=False)
        return evaluate(model, tasks=["fastpath_doc_type"], task_manager=ours, limit=1, bootstrap_iters=0)

    monkeypatch.setattr(lm_eval, "simple_evaluate", offline)
    made: dict = {}
    exec(code, made)
    assert asked == [(["arc_easy"], made["smaller"])]
    assert made["model"].dtype == torch.float32
    assert made["smaller"].config.num_hidden_layers == made["model"].config.num_hidden_layers - 3
