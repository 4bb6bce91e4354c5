"""Several runs side by side, and runs that cannot be reported."""

import pytest
from run_folders import change_results, copy_run, report_of, with_contrast, write_run

from eval.facts import read_facts

pytestmark = pytest.mark.filterwarnings("error:constrained_layout")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report"))


def test_several_runs_stand_side_by_side(run, tmp_path, monkeypatch, capsys):
    a, b = copy_run(run, tmp_path / "a"), copy_run(run, tmp_path / "b")
    change_results(a, depth=with_contrast(read_facts(run / "eval").results["depth"]))
    assert report_of(monkeypatch, a, b) == 0
    assert capsys.readouterr().out.strip().endswith(str(tmp_path / "a+b" / "report.html"))
    text = (tmp_path / "a+b/report.md").read_text()
    assert "|  | a: fast | b: fast |" in text
    assert "| dropped | 2 of 6: " in text
    assert "+9.0 [+2.0, +15.8]" in text
    for key in ("loses under 2 points", "decode speed over the base", "prefill speed over the base"):
        assert key in text
    page = (tmp_path / "a+b/report.html").read_text()
    assert ">a: fast<" in page
    assert ">b: fast<" in page
    assert "different bases" not in text
    assert report_of(monkeypatch, a, b, "--out", tmp_path / "there") == 0
    assert (tmp_path / "there/report.html").read_text() == page


def test_what_keeps_runs_from_being_compared_is_said(run, tmp_path, monkeypatch, capsys):
    deep = tmp_path / "/".join(["a-folder-that-lies-deep"] * 4)  # its name alone would fill the picture
    a, b = copy_run(run, deep / "x" / "run"), copy_run(run, deep / "y" / "run")
    (b / "eval/weights.json").write_text('{"base": "other", "fast": "f"}')
    items = (b / "eval/items.jsonl").read_text().splitlines()
    (b / "eval/items.jsonl").write_text("\n".join(items[:-1]) + "\n")
    assert report_of(monkeypatch, a, b) == 0
    out = capsys.readouterr().out
    assert "These runs have different bases" in out
    assert "scored on different items" in out
    assert f"{a}: fast" in out, "folders of one name are told apart by their paths"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such run"),
        (["a", "nowhere"], "nowhere: no such run"),
        (["a", "a"], "the same run is named twice"),
        (["a", "pruned"], "pruned: not evaluated yet; first run `python -m eval`"),
        (["a", "old"], "version 1, this code reads version 2"),
        (["a", "--out", "a/eval/env.json"], "--out: cannot make a/eval/env.json"),
    ],
)
def test_faulty_run_is_one_line(run, tmp_path, monkeypatch, capsys, arguments, message):
    copy_run(run, tmp_path / "a")
    change_results(copy_run(run, tmp_path / "old"), version=1)
    (tmp_path / "pruned").mkdir()
    monkeypatch.chdir(tmp_path)
    assert report_of(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
