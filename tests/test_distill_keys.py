"""What a recipe says reaches what it is about: data, optimiser, schedule of the hidden error."""

import json
from collections import Counter

import torch
from tiny import byte_tokenizer, tiny_llama

from distill.data import Numbered, read_data, with_own_writing
from distill.packing import IGNORED
from distill.phases import phases
from distill.training import training_arguments
from fastpath.config_distill import DistillConfig


def rows_of(config):
    return Numbered(read_data(config, seed=0), config, byte_tokenizer(), seed=0, packed=False)


def test_items_and_own_data_come_in_the_shares_of_their_weights(tmp_path):
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps({"prompt": "Say yes.", "completion": " Yes."}) + "\n")
    config = DistillConfig(
        tasks=("doc_type",), items_per_task=4, items_weight=3, data=({"source": str(mine)},),
        steps=50, batch_rows=4, max_tokens=512,
    )  # fmt: skip
    rows = rows_of(config)
    assert len(rows) == 200
    kinds = Counter(rows[i][1][0].kind for i in range(len(rows)))
    assert kinds == {"item": 150, "completion": 50}


def test_texts_of_the_originals_own_come_in_their_share(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPATH_CACHE", str(tmp_path))
    config = DistillConfig(
        tasks=("doc_type",), items_per_task=4, own_texts=3, own_texts_weight=2, own_questions=3,
        own_questions_weight=1, steps=50, batch_rows=4, max_tokens=512,
    )  # fmt: skip
    tokenizer, how = byte_tokenizer(), {"weights": "w", "seed": 0, "folder": tmp_path}
    data = with_own_writing(read_data(config, seed=0), config, tiny_llama, tokenizer, **how)
    rows = Numbered(data, config, tokenizer, seed=0, packed=False)
    kinds = Counter(rows[i][1][0].kind for i in range(len(rows)))
    assert kinds == {"item": 50, "own": 150}
    asked = {example.ids for example in rows.mixture.sources["own_questions"]}
    assert sum(rows[i][1][0].ids in asked for i in range(len(rows))) == 50


def test_answers_are_learnt_or_all_tokens(tmp_path):
    config = DistillConfig(tasks=("doc_type",), items_per_task=2, steps=1, batch_rows=4, max_tokens=512)
    answers, everything = (
        rows_of(config.model_copy(update={"learn": learn})) for learn in ("answers", "all")
    )
    few, all_of = (rows.batch([rows[i] for i in range(4)]) for rows in (answers, everything))
    assert torch.equal(few["input_ids"], all_of["input_ids"])
    real = all_of["attention_mask"].bool()
    assert (all_of["labels"][:, 1:] != IGNORED).equal(real[:, 1:])
    assert (all_of["labels"][:, 0] == IGNORED).all()
    assert 0 < (few["labels"] != IGNORED).sum() < 0.2 * real.sum()
    assert all_of["rows"].tolist() == [0, 1, 2, 3]


def test_optimiser_and_reports_are_the_recipes(tmp_path):
    config = DistillConfig(
        weight_decay=0.1, max_gradient_norm=2.0, report_to=("tensorboard",), batch_rows=8, micro_rows=2,
        learning_rate=1e-3, steps=7, checkpoint_steps=10, log_steps=5,
    )  # fmt: skip
    keys = {"dtype": torch.float32, "device": torch.device("cpu")}
    arguments = training_arguments(config, tmp_path, 3, **keys)
    assert (arguments.weight_decay, arguments.max_grad_norm, arguments.learning_rate) == (0.1, 2.0, 1e-3)
    assert arguments.gradient_accumulation_steps == 4
    assert arguments.report_to == ["tensorboard"]
    assert arguments.warmup_steps == 3, "half of 7, though 10 are the default"
    assert (arguments.seed, arguments.max_steps, arguments.bf16) == (3, 7, False)
    assert training_arguments(DistillConfig(), tmp_path, 0, **keys).report_to == [], "no telemetry"


def test_hidden_error_fades_out():
    local, logits = phases(DistillConfig(local_steps=9, hidden_weight=0.5, hidden_steps=4))
    assert (local.config.learn, logits.config.learn) == ("all", "answers")
    assert [logits.hidden_weight(step) for step in (0, 2, 4, 9)] == [0.5, 0.25, 0, 0]
    assert [local.hidden_weight(step) for step in (0, 2, 4, 9)] == [1.0] * 4
