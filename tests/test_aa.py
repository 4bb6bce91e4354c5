"""The A/A test of the verdicts in small: the decision code of `python -m eval` on drawn outcomes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks import aa
from benchmarks.populations import SHARED, draw, made_up, planted, stated_power, suites_of
from eval import gap as decisions
from fastpath.errors import RunError


@pytest.fixture(scope="module")
def small():
    return made_up(num_tasks=2, num_templates=42, num_items=120)


def failed(checks) -> list[str]:
    return [check.what for check in checks if not check.passed]


def test_equal_models_are_called_different_no_more_often_than_stated(small):
    for kind in ("alike", "uneven"):
        checks = aa.checks({"simple": small, "complex": small}, gap=0, kind=kind, new=True, runs=60)
        assert len(checks) == 5 and not failed(checks)


def test_a_planted_gap_is_found_as_often_as_stated(small):
    checks = aa.checks({"simple": small}, gap=0.09, kind="uneven", new=True, runs=60)
    assert [check.what for check in checks] == ["claim shown", "interval above 0"]
    assert 0.5 < checks[1].stated < 0.95 and not failed(checks)


def test_at_the_margin_shown_and_refuted_are_rare(small):
    checks = aa.checks({"simple": small}, gap=aa.MARGIN, kind="apart", new=True, runs=60)
    assert [check.what for check in checks] == ["claim shown", "claim refuted"] and not failed(checks)


@pytest.mark.parametrize(("factor", "gap"), [(0.4, 0.0), (0.4, aa.MARGIN), (2.5, 0.09)])
def test_intervals_of_the_wrong_width_fail(small, monkeypatch, factor, gap):
    right = decisions.suite_gap

    def wrong(*args, **how):
        ends = right(*args, **how)
        low, high = (ends.value + factor * (end - ends.value) for end in (ends.low, ends.high))
        return replace(ends, low=low, high=high)

    monkeypatch.setattr(decisions, "suite_gap", wrong)
    assert failed(aa.checks({"simple": small}, gap=gap, kind="alike", new=True, runs=60))


def test_ignoring_templates_in_p_fails(monkeypatch):
    right = decisions.mcnemar
    monkeypatch.setattr(decisions, "mcnemar", lambda base, fast, _: right(base, fast))
    suite = made_up(num_tasks=2, num_templates=42, num_items=840)
    checks = aa.checks({"simple": suite}, gap=0, kind="uneven", new=True, runs=60)
    assert failed(checks) == ["simple: some Holm p < 0.05"]


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("gap", [0.0, 0.03])
def test_the_planted_gap_is_exact(kind, gap):
    suite = planted(made_up(), gap, kind)
    assert np.mean([task.mean(lambda t: t.base - t.fast) for task in suite.values()]) == pytest.approx(gap)
    for task in suite.values():
        assert all(((t.fast >= 0) & (t.fast <= 1)).all() for t in task.templates)
        of_templates = [float((t.base - t.fast).mean()) for t in task.templates]
        assert (np.ptp(of_templates) > 0.1) == (kind == "uneven")


def test_stated_power_is_that_of_the_drawn_gaps(small):
    """The spread of the gap over many draws gives the power that is stated before any draw."""
    suite, random = planted(small, 0.06, "uneven"), np.random.default_rng(0)
    gaps = []
    for _ in range(400):
        drawn = [draw(task, random, shared=SHARED["uneven"], new=True) for task in suite.values()]
        means = [[np.mean([row["right"] for row in side["rows"]]) for side in pair] for pair in drawn]
        gaps.append(np.mean([base - fast for base, fast in means]))
    power, discordance = stated_power(suite, "uneven")
    assert np.mean(gaps) == pytest.approx(0.06, abs=0.005) and 0.1 < discordance < 0.2
    assert stats.norm.cdf(0.06 / np.std(gaps) - 1.96) == pytest.approx(power, abs=0.06)


def test_probabilities_of_a_run_are_shares_or_the_accuracy_of_the_template(tmp_path):
    rows = [
        {"template": "a", "source": "1", "right": 1.0, "share": 0.7},
        {"template": "a", "source": "2", "right": 1.0},
        {"template": "b", "source": "2", "right": 0.0, "share": None},
    ]
    folder = tmp_path / "eval"
    (folder / "outcomes/base").mkdir(parents=True)
    (folder / "outcomes/base/one.json").write_text(json.dumps({"chance": 0.5, "rows": rows}))
    facts = {"variants": {"fast": {"simple": {"tasks": {"one": {"kind": "likelihood"}}}, "claim": {}}}}
    (folder / "results.json").write_text(json.dumps(facts))
    task = suites_of(tmp_path)["simple"]["one"]
    assert [list(t.base) for t in task.templates] == [
        pytest.approx([0.7, (2 + 2 / 3) / 3]),
        pytest.approx([1 / 3]),
    ]
    assert task.chance == 0.5 and not task.own_sources
    (folder / "outcomes/base/one.json").unlink()
    with pytest.raises(RunError, match="no finished eval"):
        suites_of(tmp_path)


def test_no_such_run_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["aa.py", "--run", str(tmp_path / "none")])
    assert aa.main() == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_command_passes(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["aa.py"])
    assert aa.main() == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["runs"] == 200 and facts["num_checks"] == 30 and facts["num_failed"] == 0
