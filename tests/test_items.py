"""What holds for the items of every task, and what the simple tasks promise."""

import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import combinations

import pytest

from fastpath.items import dates, documents, facts, fields, pools, routing
from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import SPLITS, Item, digest

SIMPLE = [name for name, task in TASKS.items() if task.suite == "simple"]
LABELS = {"doc_type": documents.LABELS, "routing": routing.LABELS}
LEAST_TEMPLATES = {"evaluation": 40, "calibration": 16, "distillation": 8}
PAIRS = list(combinations(SPLITS, 2))


@cache
def items(task, split, seed=5, num_items=240, k=None):
    return tuple(generate(task, split=split, seed=seed, num_items=num_items, k=k))


def test_the_suites_hold_the_tasks_they_promise():
    assert SIMPLE[:5] == ["doc_type", "date_pick", "routing", "field_lookup", "one_hop"]
    assert SIMPLE[5:] == ["tiny_label", "tiny_field", "tiny_lookup"]
    assert [name for name, task in TASKS.items() if task.suite == "complex"] == [
        "worked",
        "arithmetic",
        "chain",
    ]
    assert [name for name, task in TASKS.items() if task.suite == "depth"] == [
        "counter",
        "swaps",
        "boolean",
        "brackets",
        "hops",
        "tiny_links",
        "tiny_sums",
    ]


@pytest.mark.parametrize("task", TASKS)
def test_asking_for_more_items_keeps_the_first_ones(task):
    assert items(task, "evaluation", num_items=30) == items(task, "evaluation")[:30]


def test_hash_seed_and_process_change_nothing():
    code = (
        "from fastpath.items.catalog import TASKS, generate\n"
        "for task in TASKS:\n"
        "    for item in generate(task, split='calibration', seed=3, num_items=12):\n"
        "        print(item.id, item.template)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1")
    }
    here = [
        f"{i.id} {i.template}" for t in TASKS for i in generate(t, split="calibration", seed=3, num_items=12)
    ]
    assert outputs == {"\n".join(here) + "\n"}


@pytest.mark.parametrize("task", TASKS)
def test_seeds_draw_different_items(task):
    assert [i.id for i in items(task, "evaluation", 5, 30)] != [
        i.id for i in items(task, "evaluation", 6, 30)
    ]


@pytest.mark.parametrize("task", TASKS)
def test_items_are_distinct_and_well_formed(task):
    for split in SPLITS:
        made = items(task, split)
        assert len({item.id for item in made}) == len(made) == 240
        for item in made:
            assert (item.task, item.split, item.suite) == (task, split, TASKS[task].suite)
            assert item.k in TASKS[task].ks and not re.search(r"[{}]\w*}", item.prompt)
            assert item.prompt == item.prompt.rstrip()
            if item.choices:
                assert item.choices[item.gold] == item.answer and len(set(item.choices)) == len(item.choices)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_splits_share_no_item_prompt_or_part_of_a_template(task, one, other):
    def seen(split):
        made = items(task, split) + items(task, split, seed=6)
        parts = {part for item in made for part in item.template.split("/")}
        return {item.id for item in made}, {item.prompt for item in made}, parts

    assert all(not mine & theirs for mine, theirs in zip(seen(one), seen(other), strict=True))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_pools_of_names_firms_places_and_words_are_disjoint(one, other):
    named = (pools.SURNAMES, pools.FIRMS, pools.CITIES, pools.PRODUCTS, facts.TRADES)
    for pool in (*named, fields.FIELDS):
        assert not set(pool[one]) & set(pool[other])
    assert not set(pools.WOMEN[one] + pools.MEN[one]) & set(pools.WOMEN[other] + pools.MEN[other])
    values = [{value for pool in fields.FIELDS[split].values() for value in pool} for split in (one, other)]
    assert not values[0] & values[1]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_no_item_names_a_person_or_firm_of_another_split(task, split):
    foreign = {
        name
        for other in SPLITS
        if other != split
        for name in (*pools.WOMEN[other], *pools.MEN[other], *pools.SURNAMES[other], *pools.FIRMS[other])
    }
    known = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(foreign))) + r")\b")
    for item in items(task, split):
        assert not known.search(f"{item.prompt} {item.answer} {' '.join(item.choices)}"), item.prompt


@pytest.mark.parametrize("task", TASKS)
def test_every_split_has_enough_templates(task):
    for split, least in LEAST_TEMPLATES.items():
        assert len({item.template for item in items(task, split, num_items=400)}) >= least


@pytest.mark.parametrize("task", SIMPLE)
def test_templates_and_gold_positions_are_balanced(task):
    made = items(task, "evaluation", num_items=252)
    assert {item.gold for item in made} == set(range(len(made[0].choices)))
    for counts in (Counter(item.template for item in made), Counter(item.gold for item in made)):
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_balanced_and_never_stand_in_the_text(task, split):
    made = items(task, split)
    assert Counter(item.answer for item in made) == dict.fromkeys(LABELS[task], 240 // 6)
    for item in made:
        assert not [label for label in LABELS[task] if label in item.prompt.lower()], item.prompt


@pytest.mark.parametrize("split", SPLITS)
def test_every_picked_date_stands_once_and_after_its_event(split):
    for item in items("date_pick", split):
        asked = item.prompt.rsplit("\n", 1)[-1]
        stated = item.prompt[: -len(asked)]
        found = re.findall(rf"\b({'|'.join(pools.MONTHS)}) \d", stated)
        assert sorted(found) == sorted(item.choices) and len(set(found)) == 4
        event = next(event for event in dates.EVENTS[split] if re.search(rf"\b{event}\b", asked))
        assert (
            re.search(rf"\b{event}\b[^\d]*?\b({'|'.join(pools.MONTHS)}) \d", stated).group(1) == item.answer
        )


@pytest.mark.parametrize("split", SPLITS)
def test_field_choices_are_the_value_one_absent_of_its_kind_and_two_of_other_fields(split):
    kind = {value: field for field, pool in fields.FIELDS[split].items() for value in pool}
    for item in items("field_lookup", split):
        same = [choice for choice in item.choices if kind[choice] == kind[item.answer]]
        stands = {choice: len(re.findall(rf"\b{choice}\b", item.prompt)) for choice in item.choices}
        assert len(same) == 2 and [stands[choice] for choice in same if choice != item.answer] == [0]
        assert all(
            stands[choice] == 1 for choice in item.choices if choice not in same or choice == item.answer
        )
        assert re.search(rf"\b{kind[item.answer]}\b", item.prompt.rsplit("\n", 2)[-1] + item.prompt[-60:])


@pytest.mark.parametrize("split", SPLITS)
def test_one_hop_answer_is_the_city_stated_of_the_asked_trade(split):
    for item in items("one_hop", split):
        trade = re.findall("|".join(facts.TRADES[split]), item.prompt)[-1]
        stated = dict(re.findall(rf"({'|'.join(facts.TRADES[split])})\b[^.\n]*? (\w+)\.", item.prompt))
        assert len(stated) == 3 and stated[trade] == item.answer
        assert len(set(item.choices) - set(stated.values())) == 1


def test_one_level_of_a_dial_is_a_suite_of_its_own():
    for task, spec in TASKS.items():
        for k in spec.ks:
            assert {(item.k, item.suite) for item in items(task, "evaluation", num_items=20, k=k)} == {
                (k, "depth")
            }


def test_a_mix_deals_every_depth_equally_often():
    for task, spec in TASKS.items():
        counts = Counter(item.k for item in items(task, "evaluation"))
        assert set(counts) == set(spec.ks) and max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"task": "doc_typ"}, "unknown task 'doc_typ'.*doc_type.*chain"),
        ({"split": "test"}, "unknown split 'test'.*calibration, evaluation, distillation"),
        ({"task": "worked", "k": 9}, "'worked' has no k=9: it has 2, 3, 4"),
        ({"k": 2}, "'doc_type' has no k=2"),
        ({"num_items": 0}, "at least 1, found 0"),
    ],
)
def test_bad_requests_name_what_is_wrong_and_what_is_known(change, named):
    request = {"task": "doc_type", "split": "evaluation", "seed": 0, "num_items": 4, **change}
    with pytest.raises(ValueError, match=named):
        generate(request.pop("task"), **request)


def test_an_exhausted_generator_says_how_many_items_there_are(monkeypatch):
    body = "Fry it {q} times."
    few = {"evaluation": {label: body for label in documents.LABELS}}
    monkeypatch.setattr(documents, "BODIES", few)
    with pytest.raises(ValueError, match=r"only \d+ distinct items could be made of the 200 asked"):
        generate("doc_type", split="evaluation", seed=0, num_items=200)


def test_id_is_a_hash_of_prompt_choices_and_answer_alone():
    item = Item(
        task="t",
        suite="simple",
        split="evaluation",
        prompt="p",
        choices=("a", "b"),
        answer="b",
        k=1,
        template="x",
    )
    assert item.id == digest("p", "a", "b", "b", length=16) == item.source and item.gold == 1
    assert digest("ab", "c") != digest("a", "bc")
