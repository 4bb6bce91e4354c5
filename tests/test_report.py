"""The report says what the run folder says: every section, and every table in Markdown too."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from rich.console import Console
from run_folders import change_results, copied, copy_run, with_contrast, write_run

from eval.curves import ceiling_plot, spread
from eval.depth_tables import depth_table, depth_words
from eval.error_profile import disagreement_table, profile_table
from eval.facts import read_facts
from eval.lineage_tables import lineage_table
from eval.pages import html, markdown
from eval.sections import run_page
from eval.show import print_table, show
from eval.tables import gap_table

# Matplotlib warns where labels leave no room for the picture.
pytestmark = pytest.mark.filterwarnings("error:constrained_layout")
ACCURACIES = {"base_accuracy": 0.512, "fast_accuracy": 0.312}
SECTIONS = (
    "What was removed, and why",
    "Gap: base beside fast",
    "Depth: ",
    "Speed against accuracy",
    "Speed",
    "Error profile: base beside fast",
    "One prompt",
    "Lineage",
    "Environment",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report"))


@pytest.fixture
def facts(run):
    return read_facts(run / "eval")


def test_report_is_one_self_contained_page_with_every_section(run):
    page = (run / "eval/report.html").read_text()
    for section in SECTIONS:
        assert re.search(rf"<h2[^>]*>{section}", page), section
    outside = page.replace("http://www.w3.org/", "").replace("http://purl.org/", "")
    for word in ("<script src", "<link", " src=", "@import", "url(http", "https://fonts"):
        assert word not in outside, word
    assert not re.search(r'(?<!xlink:)href="(?!#)', page), "links stay on the page"


def test_markdown_has_every_table_and_every_sentence_of_the_page(facts):
    page = run_page(facts)
    text = markdown(page)
    below = text.partition("\n## ")[2]
    for section in page.sections:
        assert f"## {section.title}" in text
        for words in section.words:
            assert below.count(words) == 1, "said once below the headlines"
        for table in section.tables:
            assert table.note in below
            for row in table.rows:
                assert row[-1].replace("|", "\\|").replace("\n", " ") in text
    assert text.count("| --- |") >= len([t for s in page.sections for t in s.tables])


def test_what_a_model_writes_cannot_break_the_page(facts):
    prompt, evil = "<{[(", "</td><script>alert(1)</script>"
    item = facts.items[0] | {"prompt": prompt}
    item["base"] = item["base"] | {"right": 1.0, "answer": evil}
    item["fast"] = item["fast"] | {"right": 0.0, "answer": "a|b"}
    answers = {"prompt": evil, "base": evil, "fast": evil}
    page = run_page(replace(facts, items=[item], results=facts.results | {"answers": answers}))
    text = html(page)
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "&lt;{[(" in text
    assert "a\\|b" in markdown(page)


@pytest.mark.parametrize("kind", ["gap", "error"])
def test_groups_hold_every_row_once_and_end_with_what_sums_them_up(facts, kind):
    variant = facts.variants["fast"]
    table = gap_table("fast", variant) if kind == "gap" else profile_table(facts.items, "fast")
    assert [row for group in table.groups() for row in group] == list(range(len(table.rows)))
    for group in table.groups():
        totals = [row in table.totals for row in group]
        assert totals == sorted(totals)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "tone"),
    [
        (-0.01, 0.01, "shown", "good"),
        (0.03, 0.2, "refuted", "bad"),
        (0.0, 0.02, "not shown", "open"),
    ],
)
def test_a_cell_s_tone_goes_with_its_words(facts, low, high, verdict, tone):
    variant = copied(facts.variants["fast"])
    (task,) = variant["simple"]["tasks"].values()
    task |= {"gap_low": low, "gap_high": high, "floor": False}
    table = gap_table("fast", variant)
    assert table.rows[0][-1] == verdict
    assert table.tones[0, 2] == table.tones[0, 9] == tone
    task["floor"] = True
    table = gap_table("fast", variant)
    assert table.rows[0][-1] == "at chance"
    assert 0 in table.dim


def test_written_answers_stand_beside_chosen_ones(facts):
    variant = copied(facts.variants["fast"])
    task = variant["complex"]["tasks"]["fastpath_arithmetic"]
    names = ("fastpath_arithmetic", "fastpath_worked", "gsm_written", "fastpath_arithmetic_written")
    variant["complex"]["tasks"] = dict.fromkeys(names, task)
    words = [row[1] for row in gap_table("fast", variant).rows if row[0] == "complex"]
    assert words == ["arithmetic", "arithmetic (written)", "worked", "gsm_written"]


def test_depth_contrast_is_told_in_words_table_and_tone(facts):
    depth = with_contrast(facts.results["depth"])
    words = depth_words(depth, "fast")
    assert "+9.0 [+2.0, +15.8] points and +0.41 [-0.20, +0.60] nats over 1 dial (95 %" in words
    assert "above zero is worse" in words
    table = depth_table(depth, "fast")
    assert table.rows[0][2] == table.rows[1][2] == "+9.0 [+2.0, +15.8]"
    assert table.rows[0][-1] == "shown in points"
    assert (table.tones[0, 2], table.tones[0, 3]) == ("bad", "open")
    assert table.totals == {1}


def test_dials_at_chance_and_runs_without_dials_are_said_plainly(facts):
    depth = facts.results["depth"]
    (dial,) = copied(depth["dials"]).items()
    floor = dial[1] | {"k_high": None, "contrast": {"fast": None}}
    depth = {"dials": {dial[0]: floor}, "contrast": {"fast": None}}
    assert "none to show" in depth_words(depth, "fast")
    assert depth_table(depth, "fast").dim == {0}
    none = {"dials": {}, "contrast": {}}
    titles = [s.title for s in run_page(replace(facts, results=facts.results | {"depth": none})).sections]
    assert not [title for title in titles if title.startswith("Depth")]


def row(task, base, fast, short_cut=None):
    sides = {
        model: {"right": float(answer == "right"), "answer": answer}
        for model, answer in (("base", base), ("fast", fast))
    }
    return {"task": task, "prompt": "p", "short_cut": short_cut, **sides}


def test_error_profile_counts_every_item_once():
    items = [
        row("t", "right", "right", "cut"),
        row("t", "right", "cut", "cut"),
        row("t", "cut", "cut", "cut"),
        row("t", "x", "cut", "cut"),
        row("u", "x", "right"),
        row("u", "(something else)", "(something else)"),
    ]
    t, u, whole = profile_table(items, "fast").rows
    assert t == ("t", "4", "1", "1", "0", "2", "1 of 2", "1 of 2", "3 of 3")
    assert u == ("u", "2", "0", "0", "1", "1", "", "", "")
    assert whole[:6] == ("all", "6", "1", "1", "1", "3")


def test_disagreements_come_from_every_task_and_both_sides():
    items = [row(f"t{n % 3}", *(("right", "x") if n % 2 else ("x", "right"))) for n in range(60)]
    table = disagreement_table([*items, row("same", "x", "y")], "fast")
    assert len(table.rows) == 10
    assert {(r[0], r[-1]) for r in table.rows} == {
        (f"t{n}", who) for n in range(3) for who in ("base", "fast")
    }
    assert table.title.startswith("10 of 60 items")


def test_lineage_says_what_is_kept_and_what_no_longer_fits(run, tmp_path):
    rows = dict(r[::2] for r in lineage_table(read_facts(run / "eval")).rows)
    assert rows["blocks"] == "4 of 6 kept"
    assert rows["items calibrated or trained on"] == "42", "16 scored, 10 of a dial, 16 of the frontier"
    assert "lineage" not in rows
    other = copy_run(run, tmp_path / "run")
    (other / "eval/weights.json").write_text('{"base": "b", "fast": "f"}')
    rows = dict(r[::2] for r in lineage_table(read_facts(other / "eval")).rows)
    assert "holds other weights now" in rows["lineage"]
    change_results(other, models={"base": "gone", "fast": "/gone/model"})
    rows = dict(r[::2] for r in lineage_table(read_facts(other / "eval")).rows)
    assert "or the folder is gone" in rows["lineage"]
    change_results(other, models={"base": "gone", "fast": "/gone/prune/model"})
    rows = dict(r[::2] for r in lineage_table(read_facts(other / "eval")).rows)
    assert rows["blocks"] == "4 of 6 kept", "a run that was moved has it beside"


def test_shares_of_the_ceiling_are_drawn_where_they_were_measured(facts):
    assert ceiling_plot({"points": []}) == ()
    shares = {"prefill_share_of_ceiling": 0.5, "decode_share_of_ceiling": 0.8}
    point = {"prompt_tokens": 1024, "batch_size": 8, "models": {"base": shares, "fast": shares}}
    decode, prefill = ceiling_plot({"points": [point]})
    assert "1,024 tokens x 8" in decode.svg
    assert "80%" in decode.svg
    assert "50%" in prefill.svg
    unknown = {"prefill_share_of_ceiling": None, "decode_share_of_ceiling": 0.8}
    assert len(ceiling_plot({"points": [point | {"models": {"base": unknown}}]})) == 1


@pytest.mark.parametrize("xs", [[1.0], [1.0, 1.5], [1.0, 1.01, 1.02], [1.98, 1.99, 2.0], [1.5] * 40])
def test_names_of_neighbours_are_pushed_apart_inside_the_picture(xs):
    places = spread(xs, low=1.0, high=2.0, gap=0.1)
    assert places[0] >= 1
    assert places[-1] <= 2 + 1e-9
    gaps = [b - a for a, b in pairwise(places)]
    assert all(gap == pytest.approx(min(0.1, 1 / (len(xs) - 1)), abs=1e-9) or gap > 0.1 for gap in gaps)
    if len(xs) < 3:
        assert places == xs


def test_no_number_is_cut_at_80_columns(facts, capsys):
    variant = copied(facts.variants["fast"])
    suite = variant["complex"]
    suite["tasks"]["fastpath_arithmetic_written"] = suite["tasks"]["fastpath_arithmetic"]
    wide = {"gap": 0.2, "gap_low": -0.188, "gap_high": 0.508}
    for task in suite["tasks"].values():
        task |= wide
    suite["means"] = {"generation": wide | {"num_tasks": 12, "num_items": 480} | ACCURACIES}
    print_table(Console(width=80), gap_table("fast", variant | {"knowledge": suite}))
    out = capsys.readouterr().out
    assert "…" not in out
    assert "knowledge: all" in out
    assert "+20.0 [-18.8, +50.8]  0.512  0.312" in out


def test_terminal_fits_80_columns_and_tells_the_depth(run, monkeypatch, capsys):
    monkeypatch.setattr("eval.show.console", lambda: Console(width=80))
    line = show(run / "eval")
    out = capsys.readouterr().out
    tables = out[: out.index("\nprompt ")]
    assert max(map(len, tables.splitlines())) <= 80
    assert "Depth contrast: base beside fast" in out
    assert "…" not in out, "a cell was cut"
    assert line["fast"]["decode_speed_ratio"] > 0
