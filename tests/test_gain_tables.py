"""The tables of distill_gain.py: what is recovered, and no item counted twice."""

from argparse import Namespace

import numpy as np
import pytest

from benchmarks.distill_ablation import SHIPPED, arms, table
from benchmarks.distill_gain import NEAR, fine_tuning_steps, recipe_of
from benchmarks.families import ENGLISH
from benchmarks.gain_tables import family_changes, recovered, report, simple_change, summary
from benchmarks.held_out import OUTSIDE_SIMPLE
from fastpath.config_distill import KINDS
from fastpath.errors import UserError
from fastpath.plan import read_plan


def answers(suite, correct, nats):
    return {"suite": suite, "correct": correct, "nats": nats, "tokens": [2.0] * len(correct)}


def fold(*, distilled, seed=0, each=1):
    rng = np.random.default_rng(seed)
    right, easy = (rng.random(40) < 0.7).astype(float).tolist(), rng.random(40)
    models = {
        name: {"piqa": answers("simple", right, [0.0] * 40), "gsm8k": answers("complex", right, easy + more)}
        for name, more in (("base", 0.0), ("cut", 2.0), ("distilled", distilled), ("fine_tuned", 2.0))
    }
    names = {family: [str(i // each) for i in range(40)] for family in ("piqa", "gsm8k")}
    return {**models, "templates": names, "labels": {}, "trained": {"distilled": [], "fine_tuned": []}}


@pytest.mark.parametrize("distilled, share", [(0.0, 1.0), (2.0, 0.0), (0.5, 0.75)])
def test_share_of_the_lost_nats_that_came_back(distilled, share):
    folds = {"a": fold(distilled=distilled)}
    assert recovered(folds, "distilled") == pytest.approx([share] * 3, abs=1e-3)
    assert report({6: folds})["complex_nats_recovered"] == pytest.approx(share, abs=1e-3)
    del folds["a"]["fine_tuned"]  # a side that was not asked for
    assert report({6: folds})["complex_nats_recovered"] == pytest.approx(share, abs=1e-3)


def test_a_family_of_labels_is_told_label_by_label(capsys):
    models = fold(distilled=1.0)
    models["distilled"]["piqa"]["correct"] = [1.0, 0.0] * 20
    models["labels"] = {"piqa": ["shipping", "law"] * 20}
    facts = report({6: {"a": models}})["drops"]["6"]["distilled"]["labels"]
    assert facts == {"a piqa": {"law": 0.0, "shipping": 1.0}}
    told = capsys.readouterr().out.split("right by label, base/cut/distilled/fine_tuned:\n")[1].split("\n")
    assert [(line.split()[2], line.split()[5]) for line in told[:2]] == [
        ("law", "0.000"),
        ("shipping", "1.000"),
    ]


def test_an_item_that_both_folds_are_asked_counts_once():
    one, two = {"a": fold(distilled=1.0)}, {"a": fold(distilled=1.0), "b": fold(distilled=1.0)}
    assert simple_change(one, "distilled") == simple_change(two, "distilled")
    assert simple_change(two, "distilled")["items"] == 40
    assert recovered(one, "distilled") == recovered(two, "distilled")


def test_a_family_of_both_folds_counts_once_in_the_mean_too():
    one, two = fold(distilled=1.0), fold(distilled=1.0)
    for models in (one, two):
        models["distilled"]["piqa"]["correct"] = [0.0] * 40
    for name in ("base", "cut", "distilled", "fine_tuned"):
        one[name]["one_hop"] = answers("simple", [1.0] * 40, [0.0] * 40)
    one["templates"]["one_hop"] = one["templates"]["piqa"]
    of = {name: summary({"a": one, "b": two}, name) for name in ("base", "distilled")}
    change = of["distilled"]["simple_accuracy"] - of["base"]["simple_accuracy"]
    assert of["distilled"]["simple_accuracy"] == 0.5
    assert 100 * change == pytest.approx(of["distilled"]["simple_over_base"]["points"][0], abs=0.01)


def test_items_of_one_template_tell_less():
    widths, shares = {}, {}
    for each in (1, 10):
        of = fold(distilled=1.0, each=each)
        lost = np.arange(40) < 10  # all of one template
        of["distilled"]["piqa"]["correct"] = np.where(lost, 0.0, of["base"]["piqa"]["correct"]).tolist()
        of["distilled"]["gsm8k"]["nats"] = np.where(lost, 3.0, 1.0).tolist()
        change = simple_change({"a": of}, "distilled")
        value, low, high = change["points"]
        widths[each] = high - low
        assert low <= value < 0 and value <= high and change["templates"] == 40 // each
        assert family_changes({"a": of}, "distilled") == {"piqa": change}
        shares[each] = np.ptp(recovered({"a": of}, "distilled"))
    assert widths[10] > 1.5 * widths[1]
    assert shares[10] > 1.5 * shares[1]


def test_fine_tuning_gets_the_teachers_share_of_the_operations():
    assert fine_tuning_steps(100, depth=30, kept=30) == 134
    assert fine_tuning_steps(90, depth=30, kept=20) == 135


def options(out, **changes):
    return Namespace(**{"out": out, "steps": 5, "search": False, "changes": [], **changes})


@pytest.mark.parametrize("fold", ENGLISH.folds)
@pytest.mark.parametrize("drop", [6, 9])
def test_a_recipe_cuts_by_the_kept_plan_and_learns_nothing_like_what_is_asked(tmp_path, fold, drop):
    recipe = recipe_of(options(tmp_path), drop, fold)
    plan = read_plan(tmp_path / f"plan-{fold}-{drop}.json")
    assert len(plan.keep) == 30 - drop and recipe.prune.drop is None
    learnt = {*recipe.distill.tasks, *recipe.prune.simple_tasks}
    assert not learnt & {*ENGLISH.asked(fold), *OUTSIDE_SIMPLE}
    near = {kind for name in (*ENGLISH.asked(fold), *OUTSIDE_SIMPLE) for kind in NEAR.get(name, ())}
    assert near and not near & set(recipe.distill.practice_kinds)
    assert (
        recipe.distill.practice and recipe_of(options(tmp_path, search=True), drop, fold).prune.drop == drop
    )


def test_what_is_near_is_a_kind_and_a_family():
    assert {kind for kinds in NEAR.values() for kind in kinds} <= set(KINDS)
    assert NEAR.keys() <= {*ENGLISH.simple, *OUTSIDE_SIMPLE}


def test_a_size_without_a_plan_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"--drops 4: .*distill_gain_plans.json has 6, 9; or --search"):
        recipe_of(options(tmp_path), 4, "a")


@pytest.mark.parametrize("fold", ENGLISH.folds)
def test_each_arm_of_the_ablation_is_another_recipe_that_practises_nothing_near(tmp_path, fold):
    shipped = recipe_of(options(tmp_path), 6, fold)
    near = {kind for name in (*ENGLISH.asked(fold), *OUTSIDE_SIMPLE) for kind in NEAR.get(name, ())}
    for arm, changes in arms(fold).items():
        with_size = [*changes, "prune.drop=6"] if "prune.plan=null" in changes else list(changes)
        recipe = recipe_of(options(tmp_path, changes=with_size), 6, fold)
        assert (recipe == shipped) == (arm == SHIPPED)
        assert not near & set(recipe.distill.practice_kinds)


def test_an_arm_is_laid_beside_the_base_and_beside_what_is_shipped(capsys):
    worse = fold(distilled=1.0)
    worse["distilled"]["piqa"]["correct"] = [0.0] * 40
    rows = table({SHIPPED: fold(distilled=0.0), "lora": worse})
    assert rows[SHIPPED]["simple_over_base"]["points"][0] == 0.0
    assert rows["lora"]["simple_over_shipped"][0] == rows["lora"]["simple_over_base"]["points"][0] < 0
    assert rows["lora"]["complex_nats_recovered"][0] == pytest.approx(0.5, abs=1e-3)
    assert "| lora | 0.000 |" in capsys.readouterr().out
