"""The tables of distill_gain.py: what is recovered, and no item counted twice."""

from argparse import Namespace

import numpy as np
import pytest
from tiny import write_tiny

from benchmarks.distill_ablation import SHIPPED, SHORT, arms, table
from benchmarks.distill_gain import NEAR, answers_of, fine_tuning_steps, recipe_of
from benchmarks.families import ENGLISH
from benchmarks.gain_tables import family_changes, recovered, report, simple_change, summary, without_lookups
from benchmarks.held_out import OUTSIDE_SIMPLE, own_items
from benchmarks.label_bias import by_label, chosen, label_tables, labelled, without_preference
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
    return {**models, "templates": names, "trained": {"distilled": [], "fine_tuned": []}}


@pytest.mark.parametrize("distilled, share", [(0.0, 1.0), (2.0, 0.0), (0.5, 0.75)])
def test_share_of_the_lost_nats_that_came_back(distilled, share):
    folds = {"a": fold(distilled=distilled)}
    assert recovered(folds, "distilled") == pytest.approx([share] * 3, abs=1e-3)
    assert report({6: folds})["complex_nats_recovered"] == pytest.approx(share, abs=1e-3)
    del folds["a"]["fine_tuned"]  # a side that was not asked for
    assert report({6: folds})["complex_nats_recovered"] == pytest.approx(share, abs=1e-3)


LABELS = ["shipping", "law", "hiring"]


def labelled_fold(*, liking, each=1):
    """A fold whose family piqa has three labels; `liking`: what a model adds to the first one's scores."""
    models = fold(distilled=1.0, each=each)
    answers = [LABELS[i % 3] for i in range(39)] + ["law"]
    noise = np.random.default_rng(1).normal(size=(3, 40))
    scores = np.array([[float(of == label) for of in answers] for label in LABELS]) * 3 + noise
    more = np.array([[1.0], [0.0], [0.0]])
    likings = {"base": 0.0, "cut": liking, "distilled": liking, "fine_tuned": 0.0}
    for name, much in likings.items():
        table = (scores + much * more).tolist()
        models[name]["piqa"]["labels"] = dict(zip(LABELS, table, strict=True))
    models["labels"] = {"piqa": answers}
    return models


def test_a_label_that_a_model_likes_is_told_and_taken_out(capsys):
    facts = label_tables({6: {"a": labelled_fold(liking=9.0)}})["6"]
    of = facts["labels"]["a piqa"]
    assert of["distilled"]["shipping"][0] == 1.0 and of["distilled"]["law"][0] < 0.1
    assert of["base"]["shipping"][1] < 0.5 < 0.9 < of["distilled"]["shipping"][1]
    right = facts["accuracy"]["a piqa"]
    assert right["base"] > 0.9 and right["cut"] == right["distilled"] > 0.8  # 0.33 with the liking
    points = facts["over_base"]["distilled"]["piqa"]["points"]
    assert points[0] == pytest.approx(100 * (right["distilled"] - right["base"]))
    assert "a piqa: shipping" in capsys.readouterr().out


def test_what_raises_all_labels_of_a_prompt_changes_nothing():
    scores = labelled_fold(liking=9.0)["cut"]["piqa"]["labels"]
    raised = {label: (np.array(of) - np.arange(40.0)).tolist() for label, of in scores.items()}
    for shift in (True, False):
        assert chosen(scores, shift=shift) == chosen(raised, shift=shift)


def test_calibration_is_the_division_by_the_mean_probability():
    scores = {"yes": np.log([0.8, 0.6]).tolist(), "no": np.log([0.2, 0.4]).tolist()}
    assert chosen(scores, shift=False) == ["yes", "yes"]
    assert chosen(scores, shift=True) == ["yes", "no"]  # means 0.7 and 0.3


def test_a_label_that_is_never_right_is_told_too():
    told = by_label({"yes": [0.0, -9.0], "no": [-9.0, 0.0]}, ["yes", "yes"])
    assert told["yes"] == [0.5, 0.5]
    assert told["no"] == [None, 0.5]


def test_the_mean_without_look_ups():
    of = fold(distilled=1.0)
    for name in ("base", "cut", "distilled", "fine_tuned"):
        of[name]["one_hop"] = answers("simple", [float(name == "distilled")] * 40, [0.0] * 40)
    of["templates"]["one_hop"] = of["templates"]["piqa"]
    assert simple_change({"a": of}, "distilled")["points"][0] == 50.0
    assert without_lookups({"a": of}, "distilled")["points"][0] == 0.0


def test_only_the_families_of_labels_are_answered_anew():
    models = labelled_fold(liking=9.0)
    made = without_preference({"a": models})["a"]
    assert made["cut"]["gsm8k"] == models["cut"]["gsm8k"]
    assert list(made["cut"]["piqa"]["correct"]) != models["cut"]["piqa"]["correct"]


def test_scores_of_labels_choose_what_the_answers_chose(tmp_path):
    items = own_items("doc_type", 6)
    families = {"doc_type": ("simple", items), "one_hop": ("simple", own_items("one_hop", 6))}
    assert labelled(families) == {"doc_type": items}
    found = answers_of(write_tiny(tmp_path / "model"), families)
    right = np.equal(chosen(found["doc_type"]["labels"], shift=False), [item.answer for item in items])
    assert right.tolist() == [bool(of) for of in found["doc_type"]["correct"]]
    assert "labels" not in found["one_hop"]


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
    shipped = recipe_of(options(tmp_path, changes=list(SHORT)), 6, fold)
    near = {kind for name in (*ENGLISH.asked(fold), *OUTSIDE_SIMPLE) for kind in NEAR.get(name, ())}
    for arm, changes in arms(fold).items():
        with_size = [*SHORT, *changes, *["prune.drop=6"] * ("prune.plan=null" in changes)]
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
