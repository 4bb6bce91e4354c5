"""The base's own worked answers: verified, cached by content, resumable, and what then counts."""

import pytest
from tiny import byte_tokenizer, run_stage, tiny_llama, write_recipe, write_tiny

from fastpath.data import encode
from fastpath.items.catalog import generate
from fastpath.own_answers import ends_in_gold
from fastpath.recipe_file import load_recipe
from fastpath.runs import read_json, write_json
from prune import self_answers
from prune.calibration import calibration_items
from prune.self_answers import with_own_answers

WORKED = generate("worked", split="calibration", seed=0, num_items=3)
OTHERS = generate("arithmetic", split="calibration", seed=0, num_items=2)


def gold(item):
    start, end = item.steps[-1]
    return item.answer[start:end]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("{gold}", True),
        ("First 3, then {gold}.", True),
        ("So we get {gold}.0 of them", True),
        ("The result is {gold}, since 5 + 5 = 1,000", False),
        ("{gold}7", False),
        ("-{gold}", False),
        ("no number", False),
        ("", False),
    ],
)
def test_an_answer_is_right_if_its_last_number_is_the_gold_result(text, right):
    assert ends_in_gold(WORKED[0], text.format(gold=gold(WORKED[0]))) is right


def test_right_answers_replace_the_reference_and_all_their_tokens_count(tmp_path, monkeypatch):
    said = {WORKED[0].id: f"My own way: {gold(WORKED[0])}", WORKED[1].id: "wrong: 0"}
    said[WORKED[2].id] = f"right so far, and then on and on: {gold(WORKED[2])}"
    monkeypatch.setattr(
        self_answers,
        "_write",
        lambda m, t, item: {"answer": said.get(item.id, ""), "finished": item.id != WORKED[2].id},
    )
    items = [OTHERS[0], *WORKED, OTHERS[1]]
    made = with_own_answers(None, None, items, weights="w", folder=tmp_path)
    assert made[1].answer == said[WORKED[0].id]
    assert made[0:1] + made[2:] == items[0:1] + items[2:], "the others keep the reference"
    assert made[1].template == WORKED[0].template
    _, counts = encode(made[1], byte_tokenizer())
    assert sum(counts) == len(made[1].answer)


def test_answers_are_written_once_for_one_content(tmp_path, monkeypatch):
    calls = []

    def write(model, tokenizer, item):
        calls.append(item.id)
        return {"answer": "1", "finished": True}

    monkeypatch.setattr(self_answers, "_write", write)
    for _ in range(2):
        with_own_answers(None, None, WORKED, weights="w", folder=tmp_path)
    assert len(calls) == 3
    with_own_answers(None, None, WORKED, weights="other weights", folder=tmp_path)
    assert len(calls) == 6
    monkeypatch.setattr(self_answers, "SETTINGS", {**self_answers.SETTINGS, "max_new_tokens": 8})
    with_own_answers(None, None, WORKED, weights="w", folder=tmp_path)
    assert len(calls) == 9


def test_a_real_model_writes_greedily_and_its_stop_string_ends_it(monkeypatch):
    monkeypatch.setattr(self_answers, "SETTINGS", {**self_answers.SETTINGS, "max_new_tokens": 12})
    model, tokenizer = tiny_llama(), byte_tokenizer()
    first, again = (self_answers._write(model, tokenizer, WORKED[0]) for _ in range(2))
    assert first == again
    assert len(first["answer"].encode()) <= 12 * 3  # a byte may decode as the sign for a broken letter


def test_prune_scores_on_own_answers_and_resumes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(self_answers, "SETTINGS", {**self_answers.SETTINGS, "max_new_tokens": 4})
    base = write_tiny(tmp_path / "model")
    small = {"self_answers": True, "criterion": "ablation", "items_per_task": 2}
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", prune=small)
    assert run_stage("prune", recipe) == 0
    folder = tmp_path / "run/prune"
    kept = {(data := read_json(path))["prompt"]: (path, data) for path in (folder / "self_answers").iterdir()}
    assert len(kept) == 4, "two items are scored, two others are the frontier's"
    tokens = read_json(folder / "scores.json")["complex"]["tokens"]

    both = calibration_items(load_recipe(folder / "config.yaml").prune, seed=0)[1]
    items = {item.prompt: item for item in both if item.steps}
    assert set(items) < set(kept)
    item = next(iter(items.values()))
    path, said = kept[item.prompt]
    right = f"I say {gold(item)}"
    write_json(path, said | {"answer": right, "finished": True})
    for path in (folder / "DONE", folder / "scores.json", *folder.glob("scores/*.json")):
        path.unlink()
    assert run_stage("prune", recipe) == 0
    results = sum(end - start for start, end in item.steps)
    assert read_json(folder / "scores.json")["complex"]["tokens"] == tokens - results + len(right)
