"""What the student writes, and the phase before it that compares streams alone."""

import pytest
import torch
from test_pair import IDS, pair_of, stepped, write_folders
from tiny import byte_tokenizer

from distill.examples import Example
from distill.on_policy import STOP, Writer, prompts_of, until_end
from distill.packing import padded_batch
from fastpath.config_distill import OnPolicyConfig
from fastpath.models import load_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("mode", ["full", "shared-lora"])
def test_local_phase_compares_streams_alone(folders, mode):
    pair = pair_of(folders, mode)
    (loss, kd, ce, hidden), gradients = stepped(pair, hidden_weight=1.0, predicts=False)
    assert kd.item() == ce.item() == 0 < hidden.item() == loss.item()
    (_, _, _, beside), _ = stepped(pair, hidden_weight=1.0)
    assert hidden.item() == pytest.approx(beside.item())
    assert all(gradient is not None for gradient in gradients.values()), "DDP waits for each"
    assert any(gradient.any() for gradient in gradients.values())


def writer_of(pair, **changes):
    config = OnPolicyConfig(**({"new_tokens": 8} | changes))
    return Writer(pair, byte_tokenizer(), config, max_tokens=24, seed=0)


@pytest.mark.parametrize("mode", ["full", "shared-lora"])
def test_student_writes_what_its_exported_model_would(folders, mode):
    prompts = [IDS[0, :9].tolist(), IDS[1, :4].tolist(), IDS[1, :20].tolist()]
    made = writer_of(pair_of(folders, mode)).examples(prompts, ["a", "b", "c"])
    cut = pair_of(folders, "full")
    cut.student = load_model(folders[1], dtype=torch.float32)
    assert [e.ids for e in made] == [e.ids for e in writer_of(cut).examples(prompts, ["a", "b", "c"])]
    for prompt, example in zip(prompts, made, strict=True):
        assert list(example.ids[: len(prompt)]) == prompt
        assert example.counts == (False,) * len(prompt) + (True,) * (len(example.ids) - len(prompt))
        assert len(prompt) < len(example.ids) <= 24
        assert max(example.ids) < 259, "row 259 of the head is no token"
    alone = writer_of(pair_of(folders, mode)).examples(prompts[1:2], ["b"])
    assert alone[0].ids == made[1].ids, "whatever else is written at once"
    assert writer_of(cut).examples(prompts[:1], ["other"])[0].ids != made[0].ids


def test_batches_keep_their_prompts_and_numbers(folders):
    examples = [Example(tuple(range(n)), (False,) * (n - 3) + (True,) * 3, "item") for n in (9, 6, 12, 5)]
    batches = [
        padded_batch([(example,) for example in examples[i : i + 2]], pad=258)
        | {"rows": torch.tensor([i, i + 1])}
        for i in (0, 2)
    ]
    made = writer_of(pair_of(folders, "full"))(batches)
    for before, after in zip(batches, made, strict=True):
        assert prompts_of(before) == prompts_of(after)
        assert after["rows"].equal(before["rows"])
        assert after.keys() == before.keys()


def test_what_is_written_ends_with_its_end():
    tokenizer = byte_tokenizer()
    text = tokenizer(f" 4.{STOP} more")["input_ids"]
    stop = len(tokenizer(f" 4.{STOP}")["input_ids"])
    assert until_end(text, {257}, tokenizer, []) == text[:stop]
    assert until_end([5, 6, 257, 257, 7], {257}, tokenizer, [1]) == [5, 6, 257]
    assert until_end([5, 6, 7], {257}, tokenizer, [1]) == [5, 6, 7]
    asked = tokenizer(f"One.{STOP} Two?\n")["input_ids"]
    assert until_end(text, {257}, tokenizer, asked) == text[:stop], "what the prompt holds does not count"
    follows = tokenizer(f"{STOP[1:]} more")["input_ids"]
    assert until_end(follows, {257}, tokenizer, asked) == follows[: len(STOP) - 1], "it begins in the prompt"
