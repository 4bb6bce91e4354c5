"""Examples of items, texts, chats and completions; and what is measured is not learnt."""

import json
from dataclasses import replace
from datetime import datetime

import pytest
from datasets import Dataset
from tiny import byte_tokenizer

from distill.data import Data
from distill.disjoint import check_items, check_rows, taken, training_items
from distill.examples import Example, item_examples, row_examples
from distill.own_data import read_rows
from fastpath.config import EvalConfig
from fastpath.errors import ConfigError, UserError
from fastpath.items.catalog import TASKS, generate
from fastpath.models import Lineage

TOKENIZER = byte_tokenizer()
CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}</s>{% endgeneration %}{% else %}{{ m['content'] }}</s>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2 "},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "<t>easy</t>4"},
]


def chat_tokenizer(template=CHATML):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def lines(tmp_path, *rows, name="mine.jsonl"):
    path = tmp_path / name
    path.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows)
    )
    return str(path)


def examples(tmp_path, *rows, tokenizer=TOKENIZER, max_tokens=512):
    path = lines(tmp_path, *rows)
    return row_examples(read_rows(path), tokenizer, max_tokens=max_tokens, name=path)


def learnt(example, tokenizer=TOKENIZER):
    """The text of the tokens that count."""
    return tokenizer.decode([i for i, counts in zip(example.ids, example.counts, strict=True) if counts])


# What counts.


def test_a_whole_answer_counts_of_worked_items_too():
    items = [generate(task, split="distillation", seed=0, num_items=1)[0] for task in ("worked", "routing")]
    for item, example in zip(items, item_examples(items, TOKENIZER, max_tokens=4096), strict=True):
        assert TOKENIZER.decode(example.ids) == f"{item.prompt} {item.answer}"
        assert learnt(example).strip() == item.answer
        assert example.kind == "item"


def test_a_completion_follows_its_prompt_and_ends_while_an_answer_follows_a_space(tmp_path):
    completion, answer = examples(
        tmp_path, {"prompt": "Say yes:", "completion": "yes"}, {"prompt": "Say yes: ", "answer": "yes"}
    )
    assert TOKENIZER.decode(completion.ids) == "Say yes:yes</s>" and learnt(completion) == "yes</s>"
    assert TOKENIZER.decode(answer.ids) == "Say yes: yes" and learnt(answer) == " yes"
    assert (completion.kind, answer.kind) == ("completion", "answer")


def test_pieces_of_a_text_are_all_of_it_and_their_first_tokens_do_not_count(tmp_path):
    text = "The quick brown fox — jumps."
    pieces = examples(tmp_path, {"text": text}, max_tokens=8)
    assert TOKENIZER.decode([i for piece in pieces for i in piece.ids]) == text
    for piece in pieces:
        assert len(piece.ids) <= 8 and piece.counts == (False,) + (True,) * (len(piece.ids) - 1)


def test_each_piece_of_a_text_begins_as_the_tokenizer_begins(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 256)]
    )
    pieces = examples(tmp_path, {"text": "abcdefghij"}, tokenizer=tokenizer, max_tokens=5)
    assert [tokenizer.decode(piece.ids) for piece in pieces] == ["<s>abcd", "<s>efgh", "<s>ij"]


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["prefixes", "generation"])
def test_the_assistants_turns_count_with_their_end_and_without_their_header(tmp_path, template):
    tokenizer = chat_tokenizer(template)
    (example,) = examples(tmp_path, {"messages": CHAT}, tokenizer=tokenizer)
    assert learnt(example, tokenizer) == "2 </s><t>easy</t>4</s>"
    assert tokenizer.decode(example.ids) == tokenizer.apply_chat_template(CHAT, tokenize=False)


def test_a_turn_that_the_template_writes_differently_later_does_not_count(tmp_path):
    shown = "{{ m['content'] if loop.last or m['role'] == 'user' else m['content'][:1] }}"
    forgets = CHATML.replace("{{ m['content'] }}", shown)
    tokenizer = chat_tokenizer(forgets)
    (example,) = examples(tmp_path, {"messages": CHAT}, tokenizer=tokenizer)
    assert learnt(example, tokenizer) == "<t>easy</t>4</s>"


def test_key_is_of_the_content_alone():
    one = Example((1, 2, 3), (False, True, True), "text")
    assert one.key == Example((1, 2, 3), (False, True, True), "item").key
    others = Example((1, 2, 3), (False, False, True), "text"), Example((1, 2, 4), (False, True, True), "text")
    assert len({one.key, *(other.key for other in others)}) == 3


# Bad input: one line that says where.


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 3: not valid JSON"),
        ("[]", "line 3: expected an object"),
        (
            {"instruction": "a", "output": "b"},
            "line 3: found the keys instruction, output; a row has {messages}",
        ),
        ({"prompt": "a", "anwser": "b"}, "line 3: found the keys anwser, prompt; a row has"),
        ({"text": 3}, "line 3: 'text' must be text, got 3"),
        ({"messages": "hi"}, "line 3: 'messages' must be a list of {role, content}"),
        ({"messages": [{"role": "user", "content": None}]}, "line 3: 'messages' must be a list"),
        ({"messages": [{"from": "human", "value": "hi"}]}, "line 3: 'messages' must be a list"),
    ],
)
def test_faulty_row_is_named_with_its_line(tmp_path, row, message):
    with pytest.raises(ConfigError, match=r"distill\.data: .*mine\.jsonl") as error:
        read_rows(lines(tmp_path, {"text": "right\u2028still right"}, "", row))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": " "}, "1 without a token to learn"),
        ({"prompt": "p", "completion": ""}, "1 without a token to learn"),
        ({"prompt": "p", "answer": " "}, "1 without a token to learn"),
        ({"prompt": "p", "answer": "much too long"}, "1 longer than max_tokens=8"),
        ({"messages": CHAT[:1]}, "1 without a token to learn"),
        ({"messages": []}, "1 without a token to learn"),
    ],
)
def test_dataset_without_usable_examples_is_refused_by_name(tmp_path, row, reason):
    with pytest.raises(UserError, match=rf"mine\.jsonl: no usable example: {reason}"):
        examples(tmp_path, row, tokenizer=chat_tokenizer(), max_tokens=8)


def test_what_is_left_out_beside_usable_examples_is_said(tmp_path, caplog):
    made = examples(tmp_path, {"text": "ab"}, {"text": ""}, {"prompt": "p", "answer": "x" * 99}, max_tokens=8)
    assert len(made) == 1
    assert "1 examples; left out are 1 without a token to learn, 1 longer than max_tokens=8" in caplog.text


def test_chats_need_a_template_that_takes_them(tmp_path):
    with pytest.raises(UserError, match="the tokenizer has no chat template"):
        examples(tmp_path, {"messages": CHAT})
    strict = "{{ raise_exception('Only user and assistant roles are supported!') }}"
    with pytest.raises(
        UserError, match=r"line 1: the tokenizer's chat template refuses it: Only user"
    ) as error:
        examples(tmp_path, {"messages": CHAT}, tokenizer=chat_tokenizer(strict))
    assert "\n" not in str(error.value)


# Datasets, as `datasets` reads them.


def test_dataset_folder_is_read_as_the_lines_are(tmp_path):
    rows = [{"messages": CHAT, "text": None}, {"messages": None, "text": "plain"}]
    rows = [row | {"id": i, "made": datetime(2026, 1, 1 + i)} for i, row in enumerate(rows)]
    (tmp_path / "set").mkdir()
    Dataset.from_list(rows).to_parquet(tmp_path / "set" / "train.parquet")
    read = read_rows(str(tmp_path / "set"))
    made = row_examples(read, chat_tokenizer(), max_tokens=512, name="set")
    wanted = [{"messages": CHAT}, {"text": "plain"}]
    assert made == examples(tmp_path, *wanted, tokenizer=chat_tokenizer())
    assert len(Data([], {"set": read}).sha256) == 64, "other columns are no part of it, JSON or not"
    assert read_rows(str(tmp_path / "set"), split="train[1:]")[0].data["text"] == "plain"


def test_unknown_dataset_or_split_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigError, match=r"^distill.data: team/none \(subset default, split train\)"
    ) as error:
        read_rows("team/none")
    assert "\n" not in str(error.value)
    (tmp_path / "set").mkdir()
    Dataset.from_list([{"text": "a"}]).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(ConfigError, match=r"split dev\): .*dev"):
        read_rows(str(tmp_path / "set"), split="dev")


# Disjoint.


def lineage(*ids):
    return Lineage("base", "local", "", "", 6, (0, 1), "", ids)


def test_training_items_are_neither_scored_nor_evaluated_nor_shown_as_examples():
    items = training_items(list(TASKS), items_per_task=12, seed=0)
    calibration = [i for task in TASKS for i in generate(task, split="calibration", seed=0, num_items=12)]
    places = taken(lineage(*(item.id for item in calibration)), EvalConfig(), seed=0)
    check_items(items, places)
    shots = {i.id for task in TASKS for i in generate(task, split="distillation", seed=0, num_items=12)}
    assert not shots & {item.id for item in items}


def test_an_item_that_is_used_elsewhere_is_named():
    item = training_items(["worked"], items_per_task=1, seed=0)[0]
    own = replace(item, answer="my own way", steps=((0, 10),))
    for training in (item, own):
        with pytest.raises(ConfigError, match=rf"item {training.id} of worked stands in the calibration"):
            check_items([training], taken(lineage(item.id), EvalConfig(), seed=0))
    evaluated = generate("worked", split="evaluation", seed=0, num_items=1)[0]
    with pytest.raises(ConfigError, match="is of the split 'evaluation'"):
        check_items([evaluated], {})
    posing = replace(evaluated, split="distillation", answer="my own way", steps=((0, 10),))
    with pytest.raises(ConfigError, match="stands in the evaluation items of worked"):
        check_items([posing], taken(None, EvalConfig(), seed=0))


def test_own_data_that_is_evaluated_on_is_named(tmp_path):
    asked = {"prompt": "I was charged twice. Team:", "answer": "billing", "suite": "simple"}
    evaluation = EvalConfig(data=(lines(tmp_path, asked, name="eval.jsonl"),))
    places = taken(None, evaluation, seed=0)
    for row in (
        {"text": "i was  charged TWICE. Team:\n"},
        {"prompt": "I was charged twice. Team:", "completion": "other"},
        {"messages": [{"role": "user", "content": asked["prompt"]}, {"role": "assistant", "content": "x"}]},
        {"text": generate("doc_type", split="evaluation", seed=0, num_items=1)[0].prompt},
    ):
        rows = read_rows(lines(tmp_path, {"text": "new"}, row))
        with pytest.raises(ConfigError, match=r"mine\.jsonl, line 2: stands in .* too; remove it"):
            check_rows(rows, places)
        check_rows(rows[:1], places)
