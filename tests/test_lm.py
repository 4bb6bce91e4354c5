"""FastLM gives lm-eval's own numbers; what it saves is work, not accuracy."""

import pytest
import torch
from families import tiny_model
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from tiny import byte_tokenizer, tiny_llama, write_tiny
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, LlamaConfig, Qwen3Config

from eval import lm as lm_module
from eval.lm import FastLM
from eval.variants import VariantsLM
from fastpath.blocks import find_blocks, keep_blocks

FEW_SHOT = "Q: one and one\nA: two\n\nQ: two and two\nA: four\n\n"
PAIRS = [
    *(
        (f"{FEW_SHOT}Q: {q}\nA:", f" {a}")
        for q in ("three and one", "what is this")
        for a in ("four", "five", "s", "fo", "four of them")
    ),
    ("The cat", " sat"),
    ("The cat sat", " on"),
    ("The cat sat on", " the mat."),
    ("The cat sat on", " the sofa."),
    ("The cat sat on", " the sofa."),  # the same request twice
    ("x", "y"),
    ("trailing space ", "word"),
    ("", "from nothing"),
]
SHARED = [(c, a) for c, a in PAIRS if c.startswith(FEW_SHOT)]
NESTED = [("Step one, step two, done."[:n], "Step one, step two, done."[n:][:6]) for n in (4, 8, 9, 14, 18)]


def answers(lm, pairs):
    return lm.loglikelihood(
        [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)], disable_tqdm=True
    )


def fast(model, batch_size=4):
    return FastLM(model, byte_tokenizer(), batch_size=batch_size)


def slow(model):
    return HFLM(pretrained=model, tokenizer=byte_tokenizer(), batch_size=1)


def assert_same(got, want):
    for (nats, greedy), (want_nats, want_greedy) in zip(got, want, strict=True):
        assert nats == pytest.approx(want_nats, abs=1e-4)
        assert greedy == want_greedy


def tokens_run(lm, pairs):
    """How many tokens went through block 0 to answer."""
    assert lm._abilities == (True, True)  # tried out before, not counted
    seen = []
    handle = find_blocks(lm.model)[1][0].register_forward_hook(
        lambda _, args, out: seen.append(out.shape[0] * out.shape[1])
    )
    answers(lm, pairs)
    handle.remove()
    return sum(seen)


@pytest.mark.parametrize(
    "pairs", [PAIRS, SHARED, NESTED, PAIRS[:1]], ids=["mixed", "shared prefix", "nested", "one"]
)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_equals_lm_eval(pairs, batch_size):
    model = tiny_llama()
    assert_same(answers(fast(model, batch_size), pairs), answers(slow(model), pairs))


@pytest.mark.parametrize("pairs", [PAIRS, SHARED], ids=["mixed", "shared prefix"])
def test_a_long_context_is_run_before_its_branches(monkeypatch, pairs):
    monkeypatch.setattr(lm_module, "MAX_MASKED", 20)
    model = tiny_llama()
    assert_same(answers(fast(model, 64), pairs), answers(slow(model), pairs))


SIZES = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES),
        Qwen3Config(**SIZES),
        Gemma2Config(**SIZES, sliding_window=8, final_logit_softcapping=3.0),
        Gemma3TextConfig(**SIZES, sliding_window=8),
    ],
    ids=lambda c: c.model_type,
)
def test_equals_lm_eval_with_capped_logits_and_sliding_windows(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert_same(answers(fast(model), SHARED), answers(slow(model), SHARED))
    assert_same(answers(fast(model), NESTED), answers(slow(model), NESTED))


# Learned positions, ALiBi, windows in a buffer, experts, states that cannot branch.
@pytest.mark.parametrize(
    "family", ["gpt2", "opt", "bloom", "mpt", "gpt_neo", "falcon", "mixtral", "mamba", "bamba", "lfm2", "phi"]
)
def test_equals_lm_eval_in_families_that_may_not_branch(family):
    model = tiny_model(family, vocab_size=260, max_position_embeddings=256)
    assert_same(answers(fast(model), SHARED), answers(slow(model), SHARED))


def test_eager_attention_branches_too():
    model = tiny_llama()
    model.set_attn_implementation("eager")
    assert fast(model)._abilities == (True, True)
    assert_same(answers(fast(model), PAIRS), answers(slow(model), PAIRS))


def test_greedy_continuation_is_recognised():
    model, tokenizer = tiny_llama(), byte_tokenizer()
    prompt = tokenizer("The cat", return_tensors="pt")
    text = tokenizer.decode(
        model.generate(**prompt, max_new_tokens=3, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    )
    ((_, greedy), _) = answers(fast(model), [("The cat", text), ("The cat", " other")])
    assert greedy == answers(slow(model), [("The cat", text)])[0][1]


@pytest.mark.parametrize("length", [16, 40])
def test_context_longer_than_the_model_is_cut_from_the_left_as_lm_eval_does(length):
    model = tiny_llama(max_position_embeddings=length)
    context = "a long context that goes on and on"
    pairs = [(context, " end"), (context, " ends"), (context, " here"), ("short", " x")]
    assert_same(answers(fast(model), pairs), answers(slow(model), pairs))


def test_rolling_likelihoods_equal_lm_eval():
    model = tiny_llama(max_position_embeddings=16)
    requests = [Instance("loglikelihood_rolling", {}, ("a text of more than one window, and then some",), 0)]
    got, want = (lm.loglikelihood_rolling(requests, True) for lm in (fast(model), slow(model)))
    assert got == pytest.approx(want, abs=1e-4)


def test_what_cannot_branch_or_be_cached_is_found_out():
    able = {
        family: fast(tiny_model(family, vocab_size=260))._abilities
        for family in ("llama", "gpt2", "mixtral", "bloom", "gemma2", "mamba", "bamba")
    }
    assert able == {
        "llama": (True, True),
        "gpt2": (True, True),
        "mixtral": (False, False),  # a sliding window
        "bloom": (True, False),  # ALiBi: no positions to give
        "gemma2": (False, False),
        "mamba": (False, False),
        "bamba": (False, False),
    }


@pytest.mark.parametrize("batch_size", [1, 64])
def test_contexts_and_the_few_shot_prefix_are_run_once(batch_size):
    prefix = len(FEW_SHOT) + len("Q: ")
    contexts = sum(len(c) - prefix for c in {c for c, _ in SHARED})
    endings = sum(len(a) for _, a in SHARED)
    padding = 12 * 2  # of the shorter of two rows
    assert tokens_run(fast(tiny_llama(), batch_size), SHARED) <= prefix + contexts + endings + padding


def test_each_context_is_run_once_where_nothing_is_shared_by_all():
    pairs = [(f"{n}: {'context ' * 5}", f"{a} is the answer") for n in range(3) for a in "abcd"]
    contexts = sum(len(c) for c in {c for c, _ in pairs})
    assert tokens_run(fast(tiny_llama(), 4), pairs) <= contexts + sum(len(a) + 1 for _, a in pairs)


def test_progress_adds_up_to_the_requests():
    told = []
    lm = FastLM(tiny_llama(), byte_tokenizer(), batch_size=3, advance=told.append)
    answers(lm, PAIRS)
    assert sum(told) == len(PAIRS)


def test_a_long_context_that_the_shared_prefix_holds_but_for_its_last_token(monkeypatch):
    monkeypatch.setattr(lm_module, "MAX_MASKED", 60)
    pairs = [("x" * 70 + last, f"{a} and more") for last in "12" for a in "ab"]
    model = tiny_llama()
    assert_same(answers(fast(model), pairs), answers(slow(model), pairs))


STEPS = [
    ("Tools.\n>" + "".join(f" call {i}\nok {i}\n>" for i in range(step)), f" {choice}")
    for step in range(4)
    for choice in (f"call {step}", "zap", "a call", f"call {step + 1}")
]


def test_the_steps_of_a_dialogue_are_answered_as_lm_eval_does_and_run_once():
    model = tiny_llama()
    assert_same(answers(fast(model), STEPS), answers(slow(model), STEPS))
    endings = sum(len(a) for _, a in STEPS)
    assert tokens_run(fast(model), STEPS) <= len(STEPS[-1][0]) + endings


CUTS = {"late": (4,), "base": (), "two": (2, 5), "first": (0, 3), "rest": (1, 2, 3, 4, 5)}


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma2", "mamba"])
@pytest.mark.parametrize("pairs", [PAIRS, SHARED], ids=["mixed", "shared prefix"])
def test_variants_equal_separate_runs(monkeypatch, family, pairs):
    monkeypatch.setattr(lm_module, "MAX_MASKED", 60)
    model = tiny_model(family, vocab_size=260, max_position_embeddings=256)
    together = VariantsLM(model, byte_tokenizer(), cuts=CUTS, batch_size=4)
    for label, drop in CUTS.items():
        cut = keep_blocks(model, [i for i in range(6) if i not in drop])
        assert_same(answers(together.of(label), pairs), answers(slow(cut), pairs))


def test_variants_run_the_blocks_before_the_first_dropped_one_once():
    model = tiny_llama()
    lm = VariantsLM(model, byte_tokenizer(), cuts=CUTS, batch_size=64)
    assert lm._abilities == (True, True)
    counts = [0] * 6

    def count(i):
        def hook(*_):
            counts[i] += 1

        return hook

    handles = [b.mlp.register_forward_hook(count(i)) for i, b in enumerate(find_blocks(model)[1])]
    for label in CUTS:
        answers(lm.of(label), SHARED)
    for handle in handles:
        handle.remove()
    passes = 2  # the prefix, and the rows
    # of the base; "late" runs 5; "two" runs 3, 4; "first" runs 1, 2, 4, 5; "rest" runs none
    assert counts == [passes * n for n in (1, 2, 2, 2, 3, 3)]


def test_a_label_that_is_not_there_is_refused():
    lm = VariantsLM(tiny_llama(), byte_tokenizer(), cuts=CUTS, batch_size=1)
    with pytest.raises(ValueError, match="no cut 'lat': there are late, base"):
        lm.of("lat")


def test_a_cut_does_not_generate_as_the_base():
    lm = VariantsLM(tiny_llama(), byte_tokenizer(), cuts={"fast": (3,)}, batch_size=1)
    with pytest.raises(NotImplementedError, match="fast: cut the model"):
        lm.generate_until([])


def test_the_registered_name_makes_the_same_model_from_a_folder(tmp_path):
    lm = get_model("fastpath").create_from_arg_string(
        f"pretrained={write_tiny(tmp_path)},dtype=float32", {"batch_size": "2", "device": "cpu"}
    )
    assert type(lm) is FastLM
    assert_same(answers(lm, PAIRS), answers(slow(tiny_llama()), PAIRS))
