"""Where prompts that should share a beginning part."""

import json
import sys

import pytest

from serve import lint

SYSTEM = "You are a careful clerk. " * 8


def run(monkeypatch, tmp_path, rows, capsys):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["lint", str(path)])
    code = lint.main()
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code < 2 else err


def test_the_first_byte_that_differs_is_named(monkeypatch, tmp_path, capsys):
    rows = [{"prompt": f"{SYSTEM}Item {n}"} for n in ("a", "a too", "b")]
    code, facts = run(monkeypatch, tmp_path, rows, capsys)
    assert code == 0
    assert facts["shared_bytes"] == len(SYSTEM) + 5
    assert (facts["first"]["prompt"], facts["other"]["prompt"]) == (1, 3)
    assert facts["other"]["bytes"].endswith("Item >>>b")


def test_a_date_at_the_top_is_found(monkeypatch, tmp_path, capsys):
    rows = [{"messages": [{"role": "system", "content": f"Day {n}. {SYSTEM}"}]} for n in range(3)]
    code, facts = run(monkeypatch, tmp_path, rows, capsys)
    assert code == 1 and facts["other"]["bytes"].partition(">>>")[0].endswith("Day ")


def test_another_order_of_tools_is_another_beginning():
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    message = {"messages": [{"role": "user", "content": "x"}]}
    one, two = ({"tools": order, **message} for order in (tools, tools[::-1]))
    assert lint.lint([lint.prompt_bytes(one), lint.prompt_bytes(two)])["shared_bytes"] < 60


@pytest.mark.parametrize("length", [0, 1, 50])
def test_prompts_that_are_the_same_share_everything(length):
    assert lint.lint([b"x" * length] * 3)["shared_bytes"] == length


@pytest.mark.parametrize("rows", [[], [{"prompt": "x"}], ["{\n"] * 2, [{"text": 1}, {"text": 2}], [[1], [2]]])
def test_files_that_hold_no_prompts_are_refused(monkeypatch, tmp_path, capsys, rows):
    code, error = run(monkeypatch, tmp_path, rows, capsys)
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1
