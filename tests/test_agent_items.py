"""Agent tasks: real state, steps that depend on one another, and a name for every error."""

import copy
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from eval.agent.checker import ERRORS, classify, classify_text, executes, final_table, is_done, is_reversible
from eval.agent.choices import WRONG, choice_steps
from eval.agent.tasks import DOMAINS, FRAMES, MAX_STEPS, RULES, generate_tasks
from eval.agent.tools import ASK_HUMAN, Call, parse_call
from fastpath.errors import UserError
from fastpath.items.item import SPLITS

NUM = 96
PAIRS = [(a, b) for i, a in enumerate(SPLITS) for b in SPLITS[i + 1 :]]


@cache
def tasks(split="evaluation", seed=5, num_tasks=NUM):
    return generate_tasks(split=split, seed=seed, num_tasks=num_tasks)


@cache
def steps(split="evaluation"):
    return [step for task in tasks(split) for step in choice_steps(task)]


@pytest.mark.parametrize("split", SPLITS)
def test_right_calls_do_the_task_and_nothing_less_does(split):
    for task in tasks(split):
        calls = list(task.gold)
        assert is_done(task, final_table(task, calls))
        for missing in range(task.k):
            assert not is_done(task, final_table(task, calls[:missing] + calls[missing + 1 :]))


@pytest.mark.parametrize("split", SPLITS)
def test_each_step_needs_the_one_before(split):
    for task in tasks(split):
        for step, call in enumerate(task.gold[1:], start=1):
            assert task.domain.fault(task.tables[step - 1], call) == "precondition"
            assert not task.domain.fault(task.tables[step], call)


def test_lengths_domains_and_brief_goals_are_dealt_evenly():
    made = tasks()
    assert Counter(task.k for task in made) == dict.fromkeys(range(1, MAX_STEPS + 1), NUM // MAX_STEPS)
    assert Counter(task.domain_name for task in made) == dict.fromkeys(DOMAINS, NUM // len(DOMAINS))
    calls = [is_reversible(task, call) for task in made for call in task.gold]
    assert 0.15 < calls.count(False) / len(calls) < 0.35
    assert 0.2 < sum(task.brief for task in made) / NUM < 0.5


def test_the_same_seed_gives_the_same_choices_in_another_process():
    code = (
        "from eval.agent.tasks import generate_tasks; from eval.agent.choices import choice_steps\n"
        "for t in generate_tasks(split='evaluation', seed=5, num_tasks=8):\n"
        "    print([[c.text for c in s.choices] for s in choice_steps(t)])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [[[c.text for c in s.choices] for s in choice_steps(task)] for task in tasks(num_tasks=8)]
    assert run.stdout.splitlines() == [str(task) for task in here]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_splits_share_no_task_and_no_part_of_a_template(one, other):
    def seen(split):
        made = [*tasks(split), *tasks(split, seed=6)]
        return {t.id for t in made}, {t.goal for t in made}, {p for t in made for p in t.template.split("/")}

    assert all(not mine & theirs for mine, theirs in zip(seen(one), seen(other), strict=True))
    assert not set(FRAMES[one]) & set(FRAMES[other]) and not set(RULES[one]) & set(RULES[other])


def test_tasks_are_distinct_and_a_value_that_is_asked_for_stands_in_the_goal():
    made = tasks()
    assert len({task.id for task in made}) == NUM
    for task in made:
        assert "{" not in task.goal
        for call in task.gold:
            for name in task.domain.tools[call.tool].values:
                value = call.arguments[name]
                assert (str(value).lower() if isinstance(value, bool) else str(value)) in task.goal


def test_every_error_has_a_maker_and_every_choice_is_of_its_own_class():
    assert set(WRONG) == set(ERRORS)
    for step in steps():
        errors = [choice.error for choice in step.choices]
        assert errors.count("") == 1 and len(set(errors)) == len(errors)
        assert step.choices[step.gold].text == step.task.gold[step.step].text
        last = step.step == step.task.k - 1
        assert set(errors) == {"", *ERRORS} - ({"skipped_precondition"} if last else set())
        for choice in step.choices:
            assert choice.error == classify_text(step.task, step.step, choice.text)
            assert choice.executes == executes(step.task, step.step, parse_call(choice.text))


def test_what_cannot_be_executed_is_an_error_that_everybody_sees():
    counts = Counter((choice.error, choice.executes) for step in steps() for choice in step.choices)
    for seen in ("hallucinated_argument", "skipped_precondition", "malformed_call", "gave_up"):
        assert not counts[seen, True], seen
    assert not counts["", False]
    assert counts["wrong_tool", True] and counts["misread_constraint", True]


def test_the_right_choice_stands_everywhere_and_is_no_longer_than_the_others():
    made = [step for step in steps() if len(step.choices) == 7]
    assert set(Counter(step.gold for step in made)) == set(range(7))
    gold = sum(len(step.choices[step.gold].text) for step in made) / len(made)
    others = [len(c.text) for s in made for c in s.choices if c.error not in ("", "gave_up")]
    assert abs(gold - sum(others) / len(others)) < 4


def test_a_prompt_goes_on_from_the_one_before_it():
    for task in tasks()[:16]:
        prompts = [step.prompt for step in choice_steps(task)]
        for before, after, call in zip(prompts, prompts[1:], task.gold, strict=False):
            assert after.startswith(f"{before} {call.text}\n")


def order_task():
    """An order task of several steps, at its start."""
    return next(t for t in tasks() if t.domain_name == "orders" and t.k >= 5 and t.done)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("drop_table {}", "wrong_tool"),
        ("I think we should hold_order now", "malformed_call"),
        ("Sorry, this is beyond me.", "gave_up"),
        ("", "gave_up"),
        (f'{ASK_HUMAN} {{"reason": "no idea"}}', "gave_up"),
        ('add_note {"order_id": "7"}', "malformed_call"),
        ('add_note {"order_id": true}', "malformed_call"),
        ("add_note {}", "malformed_call"),
        ("add_note [1]", "malformed_call"),
        ('add_note {"order_id": 1}', "hallucinated_argument"),
        ('add_note {"order_id": 4321, "force": true}', "hallucinated_argument"),
    ],
)
def test_written_calls_are_classified(text, error):
    assert classify_text(order_task(), 0, text) == error


def test_a_call_that_is_known_and_allowed_but_not_asked_for_is_the_wrong_tool():
    task = order_task()
    assert classify(task, 0, Call("cancel_order", {"order_id": task.key})) == "wrong_tool"
    assert classify(task, 1, task.gold[0]) == "wrong_tool"  # again
    assert not executes(task, 1, task.gold[0])
    assert classify(task, 0, task.gold[1]) == "skipped_precondition"
    beyond = [t for t in tasks() if t.domain.steps[-1].name not in {c.tool for c in t.gold}]
    for other in beyond[:8]:
        last = other.domain.steps[-1]
        call = Call(last.name, {last.takes[0]: other.key, last.takes[1]: other_value(other, last)})
        assert classify(other, 0, call) == "wrong_tool"  # it is no part of the task


def other_value(task, tool):
    argument = task.domain.arguments[tool.takes[1]]
    return False if argument.type == "boolean" else argument.pools["evaluation"][0]


def test_a_rejected_call_changes_nothing():
    for step in steps()[:100]:
        for choice in step.choices:
            table = copy.deepcopy(step.task.tables[step.step])
            if (call := parse_call(choice.text)) and call.tool in step.task.domain.tools:
                fault = step.task.domain.execute(table, call).fault
                assert not fault or table == step.task.tables[step.step]


def test_bad_requests_are_one_line():
    with pytest.raises(UserError, match="unknown split 'test'"):
        generate_tasks(split="test", seed=0, num_tasks=1)
