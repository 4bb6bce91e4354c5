"""Data in BFCL's format: read, judged by our classes, offered as choices."""

import json
from pathlib import Path

import pytest

from eval.agent.bfcl import judge_call, outside_choices, outside_prompt, parse_outside, read_bfcl
from eval.agent.checker import ERRORS
from eval.agent.tools import Call
from fastpath.errors import ConfigError

SHARED = Path("/work/shared/suites/bfcl")
ROW = {
    "id": "x",
    "question": [[{"role": "user", "content": "Area of a triangle of base 10 and height 5?"}]],
    "function": [
        {
            "name": "geo.area",
            "parameters": {
                "type": "dict",
                "properties": {
                    "base": {"type": "integer"}, "height": {"type": "float"}, "unit": {"type": "string"},
                    "exact": {"type": "boolean"}, "tags": {"type": "array"},
                },
                "required": ["base", "height"],
            },
        },
        {"name": "geo.circle", "parameters": {"type": "dict", "properties": {"r": {"type": "float"}}}},
    ],
    "ground_truth": [{"geo.area": {"base": [10], "height": [5, 5.0], "unit": ["Square Units", ""]}}],
}  # fmt: skip


def written(tmp_path, *rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("geo.area", {"base": 10, "height": 5}), ""),
        (("geo.area", {"base": 10, "height": 5.0, "unit": "square-units"}), ""),
        (("geo.circle", {"r": 1}), "wrong_tool"),
        (("area", {"base": 10, "height": 5}), "wrong_tool"),
        (("geo.area", {"base": 10, "height": 5, "depth": 1}), "hallucinated_argument"),
        (("geo.area", {"base": 10}), "malformed_call"),
        (("geo.area", {"base": "10", "height": 5}), "malformed_call"),
        (("geo.area", {"base": True, "height": 5}), "malformed_call"),
        (("geo.area", {"base": 11, "height": 5}), "misread_constraint"),
        (("geo.area", {"base": 10, "height": 5, "unit": "miles"}), "misread_constraint"),
        (None, "malformed_call"),
    ],
)
def test_calls_are_judged_by_the_accepted_values(tmp_path, call, error):
    (item,) = read_bfcl(written(tmp_path, ROW), limit=9)
    assert judge_call(item, Call(*call) if call else None) == error


def test_items_that_ask_for_no_call_or_several_are_left_out(tmp_path):
    two = ROW | {"ground_truth": ROW["ground_truth"] * 2}
    assert len(read_bfcl(written(tmp_path, ROW | {"ground_truth": None}, two, ROW, ROW), limit=9)) == 2
    assert len(read_bfcl(written(tmp_path, ROW, ROW, ROW), limit=2)) == 2


def test_choices_hold_one_right_call_and_one_of_each_class(tmp_path):
    (item,) = read_bfcl(written(tmp_path, ROW), limit=1)
    choices = dict(outside_choices(item))
    classes = ["", "hallucinated_argument", "malformed_call", "misread_constraint", "wrong_tool"]
    assert sorted(choices.values()) == classes
    assert set(choices.values()) <= {"", *ERRORS}
    assert all(judge_call(item, parse_outside(text)) == error for text, error in choices.items())
    assert "Area of a triangle" in outside_prompt(item) and "geo.circle" in outside_prompt(item)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id": 1}', '{"question": 3, "ground_truth": [{"a": {}}]}'])
def test_files_of_another_format_are_one_line(tmp_path, text):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"eval\.agent\.bfcl: .*bad\.jsonl"):
        read_bfcl(str(path), limit=3)
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        read_bfcl(str(tmp_path / "none.jsonl"), limit=3)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no copy of BFCL in {SHARED}")
@pytest.mark.parametrize("name", ["simple_python", "multiple", "live_simple"])
def test_most_items_of_bfcl_can_be_read(name):
    items = read_bfcl(str(SHARED / f"{name}.jsonl"), limit=1000)
    lines = (SHARED / f"{name}.jsonl").read_text().count("\n")
    assert len(items) > 0.8 * lines
    for item in items:
        errors = [error for _, error in outside_choices(item)]
        assert errors.count("") == 1 and len(errors) > 1
        assert len(set(errors)) == len(errors)
