"""The agent suite in Inspect AI: the same outcomes, the same pass^k."""

import random

import pytest

from eval.agent.closed_forms import pass_at, pass_hat

pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed: pip install .[inspect]")

from inspect_ai import eval as run_inspect
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, pass_k
from inspect_ai.scorer import pass_at as their_pass_at

from eval.agent.choices import choice_steps
from eval.agent.inspect_task import agent, suite
from eval.agent.tools import parse_call

TASKS, TRIALS = 4, 3


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_our_pass_hat_k_is_their_pass_k_on_the_same_outcomes(k):
    draw = random.Random(k)
    for _ in range(20):
        outcomes = [draw.random() < 0.7 for _ in range(8)]
        scores = [Score(value=float(right)) for right in outcomes]
        assert pass_k(k)(scores).value == pytest.approx(pass_hat(8, sum(outcomes), k))
        assert their_pass_at(k)(scores).value == pytest.approx(pass_at(8, sum(outcomes), k))


def output_of(text):
    call = parse_call(text)
    made = ModelOutput.for_tool_call("mockllm/model", call.tool, dict(call.arguments))
    made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it counts with tiktoken
    return made


def test_the_suite_runs_in_inspect_and_is_judged_by_our_checker(tmp_path):
    """Every call is right but those of one task in its last trial, which hallucinates an argument."""
    tasks = list(suite(0, TASKS).values())
    spoilt, seen = tasks[1], []

    def answer(messages, tools, tool_choice, config):
        goal = next(m.text for m in reversed(messages) if m.role == "user")
        made = next(task for task in tasks if task.goal in goal)
        last = max(n for n, m in enumerate(messages) if m.role == "user")
        step = sum(m.role == "tool" for m in messages[last:])
        seen.append((made.id, step))
        choices = {choice.error: choice.text for choice in choice_steps(made)[step].choices}
        is_last = made is spoilt and seen.count((made.id, step)) == TRIALS
        assert {tool.name for tool in tools} == {*made.domain.tools, "ask_human"}
        return output_of(choices["hallucinated_argument" if is_last else ""])

    model = get_model("mockllm/model", custom_outputs=answer, memoize=False)
    (log,) = run_inspect(
        agent(tasks=TASKS, trials=TRIALS), model=model, log_dir=str(tmp_path), display="none", max_samples=1
    )
    assert log.status == "success", log.error
    assert len(seen) == TRIALS * sum(task.k for task in tasks)
    wrong = [sample for sample in log.samples if sample.scores["all_right"].value != "C"]
    assert [sample.id for sample in wrong] == [spoilt.id]
    assert "hallucinated_argument" in wrong[0].scores["all_right"].explanation
    found = {score.reducer: score.metrics["accuracy"].value for score in log.results.scores}
    for k in (2, 3):
        want = (TASKS - 1 + pass_hat(TRIALS, TRIALS - 1, k)) / TASKS
        assert found[f"pass_k_{k}"] == pytest.approx(want)
