"""The closed form of speculative decoding against a simulation; what is measured, against brute force."""

import random
import sys

import pytest
import torch
from families import tiny_model
from tiny import tiny_llama

from benchmarks import speculative
from benchmarks.speculative import acceptance_of, compared
from fastpath.blocks import keep_blocks
from fastpath.drafting import acceptance, assisted, continuations, greedy, step_seconds, verify_costs
from fastpath.errors import ExportError
from fastpath.speculative import choose_tokens, expected_tokens, predicted_speedup


def simulated(accept, *, tokens, cost_ratio, verify_cost, rounds=40_000):
    """(tokens a round, speed over a target whose token takes 1), drawn guess by guess."""
    draw, made = random.Random(0), 0
    for _ in range(rounds):
        made += 1
        for _ in range(tokens):
            if draw.random() >= accept:
                break
            made += 1
    return made / rounds, made / (rounds * (tokens * cost_ratio + verify_cost))


@pytest.mark.parametrize("accept", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("tokens", [1, 4])
def test_closed_form_is_what_a_simulation_gives(accept, tokens):
    costs = {"cost_ratio": 0.2, "verify_cost": 1.3}
    made, speedup = simulated(accept, tokens=tokens, **costs)
    assert expected_tokens(accept, tokens) == pytest.approx(made, rel=0.01)
    assert predicted_speedup(accept, tokens=tokens, **costs) == pytest.approx(speedup, rel=0.01)


def test_verify_cost_of_one_token_is_theorem_3_8():
    a, k, c = 0.7, 3, 0.1
    want = (1 - a ** (k + 1)) / ((1 - a) * (k * c + 1))
    assert predicted_speedup(a, tokens=k, cost_ratio=c, verify_cost=1.0) == pytest.approx(want)


def test_better_guesses_are_longer_and_a_draft_that_does_not_pay_is_off():
    free = {k: 1.0 for k in range(1, 9)}
    chosen = [choose_tokens(a, cost_ratio=0.1, verify_costs=free) for a in (0.5, 0.8, 0.95)]
    assert [of.tokens for of in chosen] == sorted(of.tokens for of in chosen) and chosen[0].tokens >= 1
    for accept, ratio, costs in ((0.1, 0.4, free), (0.9, 1.0, free), (0.9, 0.2, {k: 1.0 + k for k in free})):
        off = choose_tokens(accept, cost_ratio=ratio, verify_costs=costs)
        assert off.tokens == 0 and off.speedup < 1.05


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


def test_a_model_accepts_itself_and_a_smaller_one_as_often_as_counted(model):
    texts = continuations(model, [[5, 6, 7], [9, 8]], new_tokens=12)
    assert acceptance(model, texts) == 1.0
    drop = (1, 3)
    small = keep_blocks(model, (0, 2, 4, 5))
    right = total = 0
    for text in texts:
        for end in range(text.start, len(text.ids)):
            with torch.no_grad():
                guess = small(torch.tensor([text.ids[:end]])).logits[0, -1].argmax()
            right, total = right + int(guess == text.ids[end]), total + 1
    assert acceptance(small, texts) == acceptance(model, texts, drop=drop) == right / total < 1


def test_assisted_generation_says_what_the_target_says_alone(model):
    draft = tiny_llama(depth=2, seed=3)
    ids = torch.tensor([[5, 6, 7]])
    draft.generation_config.num_assistant_tokens = 3
    assert greedy(model, ids, new_tokens=16, assistant_model=draft) == greedy(model, ids, new_tokens=16)


def test_steps_are_timed_at_every_length_and_leave_the_cache_as_it_was(model):
    seconds = step_seconds(model, context=16, tokens=[1, 3])
    assert set(seconds) == {1, 3} and min(seconds.values()) > 0
    assert verify_costs(seconds) == {2: seconds[3] / seconds[1]}


def test_benchmark_measures_both_ways_and_the_output_is_the_same(model):
    facts = compared(model, tiny_llama(depth=2, seed=3), [[5, 6, 7], [9, 8], [4, 4]], new_tokens=8)
    assert facts["identical"] is True and facts["identical_prompts"] == 3
    assert {"identical", "acceptance", "speedup", "predicted_speedup"} <= facts.keys()
    assert 0 <= facts["acceptance"] <= 1 and facts["speedup"] > 0
    assert acceptance_of([(4, 4), (4, 1), (4, 0)]) == 5 / 7  # two rounds ended with a guess that fell


def test_a_model_that_drafts_for_itself_is_always_right(model):
    same = tiny_llama()
    assert compared(model, same, [[5, 6, 7], [9, 8]], new_tokens=8)["acceptance"] == 1.0


@pytest.mark.parametrize("family", ["llama", "gpt_oss", "qwen3_next", "qwen3_5_text", "lfm2"])
def test_steps_are_timed_where_the_cache_has_windows_or_linear_layers(family):
    model = tiny_model(family)
    assert min(step_seconds(model, context=16, tokens=[1, 3]).values()) > 0


def test_assisted_is_the_same_answer_beyond_a_sliding_window():
    model = tiny_model("gpt_oss")
    sides = assisted(model, keep_blocks(model, (0, 5)), [range(3, 23), range(30, 42)], new_tokens=8, tokens=2)
    assert sides.identical == sides.prompts == 2 and 0 < sides.tokens <= 8 and sides.speedup > 0


def test_benchmark_takes_the_draft_that_is_there_and_asks_the_export_where_changes_are_given(
    tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(speculative, "module", lambda *arguments: asked.append(arguments))
    facts = tmp_path / "export/draft/draft.json"
    facts.parent.mkdir(parents=True)
    facts.write_text('{"draft": "a/model"}')
    assert str(speculative.draft_of(tmp_path, [])) == "a/model" and not asked
    assert str(speculative.draft_of(tmp_path, ["distill.steps=3"])) == "a/model"
    assert asked == [("prune.export", "--run", str(tmp_path), "--to", "draft", "distill.steps=3")]


def test_a_command_of_the_benchmark_that_fails_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ExportError, match="python -m prune: failed"):
        speculative.module("prune", "--config", "none.yaml")
