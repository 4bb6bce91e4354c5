"""The original's own answers: seeded, verified, kept by content, resumed where they stopped."""

import torch
from tiny import byte_tokenizer, tiny_llama
from transformers import LogitsProcessorList

from distill import self_data
from distill.examples import item_examples
from distill.self_data import Sampler, SeededSampling, own_answers, right_answers
from fastpath.items.catalog import generate
from fastpath.own_answers import write_answers

WORKED = generate("worked", split="distillation", seed=0, num_items=3)
CHOICE = generate("arithmetic", split="distillation", seed=0, num_items=1)[0]
SAMPLER = Sampler(max_new_tokens=12)


def gold(item):
    start, end = item.steps[-1]
    return item.answer[start:end]


def answers(items, folder, *, model=None, **changes):
    keys = {"samples": 2, "sampler": SAMPLER, "weights": "w", "seed": 0, "batch_size": 4, **changes}
    return own_answers(lambda: model, byte_tokenizer(), items, folder=folder, **keys)


class Writer:
    """In the place of the model: says what it is told, and remembers what it was asked."""

    def __init__(self, monkeypatch, say):
        self.batches = []

        def sampled(model, tokenizer, prompts, *, streams, sampler):
            self.batches.append(len(prompts))
            return [
                {"prompt": p, "answer": say(p, s), "finished": True}
                for p, s in zip(prompts, streams, strict=True)
            ]

        monkeypatch.setattr(self_data, "sampled", sampled)


def test_every_distinct_right_answer_is_learnt_whole_else_the_reference(tmp_path, monkeypatch):
    said = {WORKED[0].prompt: f"so {gold(WORKED[0])}", WORKED[2].prompt: "so 0"}
    Writer(monkeypatch, lambda prompt, stream: said.get(prompt, f"{stream}: {gold(WORKED[1])}"))
    made = answers([WORKED[0], CHOICE, *WORKED[1:]], tmp_path)
    assert [item.prompt for item in made] == [
        item.prompt for item in (WORKED[0], CHOICE, WORKED[1], WORKED[1], WORKED[2])
    ]
    assert made[0].answer == said[WORKED[0].prompt], "said twice, learnt once"
    assert made[1] is CHOICE and made[4] is WORKED[2]
    assert made[2].answer != made[3].answer and made[2].source == WORKED[1].source
    for item, example in zip(made, item_examples(made, byte_tokenizer(), max_tokens=4096), strict=True):
        assert sum(example.counts) == len(f" {item.answer}") - (1 if item.steps else 0)


def test_only_finished_answers_that_end_in_the_gold_result_are_right():
    right, wrong = f"it is {gold(WORKED[0])}", f"{gold(WORKED[0])} or 0"
    written = [
        {"answer": right, "finished": False},
        {"answer": wrong, "finished": True},
        {"answer": right, "finished": True},
        {"answer": right, "finished": True},
    ]
    assert right_answers(WORKED[0], written[:2]) == []
    assert right_answers(WORKED[0], written) == [right]


def test_one_content_is_written_once_and_a_killed_run_goes_on(tmp_path, monkeypatch):
    writer = Writer(monkeypatch, lambda prompt, stream: "1")
    answers(WORKED, tmp_path)
    assert writer.batches == [4, 2]
    answers(WORKED[::-1], tmp_path)
    assert writer.batches == [4, 2], "order does not matter"
    lost, *others = sorted((tmp_path / "self_data").iterdir())
    lost.unlink()
    kept = [path.stat().st_mtime_ns for path in others]
    answers(WORKED, tmp_path)
    assert lost.exists() and len(writer.batches) == 3
    assert writer.batches[2] in (4, 2), "written together with the same neighbours, pads and all"
    assert [path.stat().st_mtime_ns for path in others] == kept
    answers(WORKED, tmp_path, samples=3)
    assert writer.batches[3:] == [4, 1], "more samples are added to those there are"
    for change in ({"weights": "other"}, {"seed": 1}, {"sampler": Sampler(max_new_tokens=13)}):
        answers(WORKED, tmp_path, **change)
        assert sum(writer.batches[-2:]) == 6
    assert answers([CHOICE], tmp_path) == [CHOICE] and len(writer.batches) == 11


def test_a_real_model_s_samples_depend_on_seed_and_number_but_on_no_neighbour(tmp_path):
    model = tiny_llama()

    def texts(folder, **changes):
        answers(WORKED, tmp_path / folder, model=model, **changes)
        return {path.name: path.read_text() for path in (tmp_path / folder / "self_data").iterdir()}

    torch.manual_seed(0)
    together = texts("a")
    torch.manual_seed(1)
    assert texts("b", batch_size=1) == together
    assert len(set(together.values())) == 6
    assert not set(texts("c", seed=1).values()) & set(together.values())


def test_draws_follow_the_scores():
    torch.manual_seed(0)
    scores = torch.tensor([2.0, -torch.inf, 0.0, 1.0, -torch.inf]).expand(4000, 5)
    drawn = SeededSampling([f"stream {row}" for row in range(4000)])(None, scores).argmax(-1)
    shares = torch.bincount(drawn, minlength=5) / 4000
    want = scores[0].softmax(-1)
    assert (shares - want).abs().max() < 4 * (0.25 / 4000) ** 0.5
    assert shares[1] == shares[4] == 0


def test_prompts_of_a_batch_are_answered_as_each_alone():
    model, tokenizer = tiny_llama(), byte_tokenizer()
    prompts = [item.prompt for item in WORKED]
    together = write_answers(model, tokenizer, prompts, max_new_tokens=8)
    assert together == [write_answers(model, tokenizer, [p], max_new_tokens=8)[0] for p in prompts]


def test_an_answer_is_finished_by_its_end_or_by_the_next_question():
    tokenizer, model = byte_tokenizer(), tiny_llama()

    class Script:
        """Scores that make the model write given tokens."""

        def __init__(self, rows):
            self.rows, self.step = rows, -1

        def __call__(self, ids, scores):
            self.step += 1
            forced = torch.full_like(scores, -torch.inf)
            for row, tokens in enumerate(self.rows):
                forced[row, tokens[min(self.step, len(tokens) - 1)]] = 0.0
            return forced

    script = [tokenizer.encode("7</s>"), tokenizer.encode("8\nQuestion: more"), tokenizer.encode("9 and on")]
    said = write_answers(
        model,
        tokenizer,
        ["a", "bb", "c"],
        max_new_tokens=30,
        processors=LogitsProcessorList([Script(script)]),
    )
    assert [(s["answer"][:1], s["finished"]) for s in said] == [("7", True), ("8", True), ("9", False)]
    assert said[0]["answer"] == "7" and said[1]["answer"] == "8"
