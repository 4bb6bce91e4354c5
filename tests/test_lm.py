"""FastLM gives lm-eval's own numbers; what it saves is work, not accuracy."""

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tiny import byte_tokenizer, tiny_llama
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, LlamaConfig, Qwen3Config

from eval.lm import FastLM, merge

FEW_SHOT = "Q: one and one\nA: two\n\nQ: two and two\nA: four\n\n"
PAIRS = [
    *(
        (f"{FEW_SHOT}Q: {q}\nA:", f" {a}")
        for q in ("three and one", "what is this")
        for a in ("four", "five", "s")
    ),
    ("The cat", " sat"),
    ("The cat sat", " on"),
    ("The cat sat on", " the mat."),
    ("x", "y"),
    ("trailing space ", "word"),
]
SHARED = [(c, a) for c, a in PAIRS if c.startswith(FEW_SHOT)]


def answers(lm, pairs):
    return lm.loglikelihood(
        [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)], disable_tqdm=True
    )


def fast(model, batch_size=4):
    return FastLM(model, byte_tokenizer(), batch_size=batch_size, advance=lambda _: None)


def slow(model):
    return HFLM(pretrained=model, tokenizer=byte_tokenizer(), batch_size=1)


@pytest.mark.parametrize("pairs", [PAIRS, SHARED, PAIRS[:1]], ids=["mixed", "shared prefix", "one"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_equals_lm_eval(pairs, batch_size):
    model = tiny_llama()
    for got, want in zip(answers(fast(model, batch_size), pairs), answers(slow(model), pairs), strict=True):
        assert got[0] == pytest.approx(want[0], abs=1e-4)
        assert got[1] == want[1]


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
    for got, want in zip(answers(fast(model), SHARED), answers(slow(model), SHARED), strict=True):
        assert got[0] == pytest.approx(want[0], abs=1e-4)


def test_greedy_continuation_is_recognised():
    model, tokenizer = tiny_llama(), byte_tokenizer()
    prompt = tokenizer("The cat", return_tensors="pt")
    text = tokenizer.decode(
        model.generate(**prompt, max_new_tokens=3, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    )
    ((_, greedy),) = answers(fast(model), [("The cat", text)])
    assert greedy == answers(slow(model), [("The cat", text)])[0][1]


def test_context_longer_than_the_model_is_cut_from_the_left_as_lm_eval_does():
    model = tiny_llama(max_position_embeddings=16)
    pairs = [("a long context that goes on and on", " end"), ("short", " x")]
    for got, want in zip(answers(fast(model), pairs), answers(slow(model), pairs), strict=True):
        assert got[0] == pytest.approx(want[0], abs=1e-4)


def test_beginnings_ride_along():
    def request(context, continuation):
        return ("", ""), list(context), list(continuation)

    requests = [
        request([1, 2], [3]),
        request([1, 2], [4]),
        request([1, 2, 3], [5, 6]),
        request([1], [2]),
        request([9], [9]),
    ]
    merged = merge(requests, max_length=100)
    assert [s.tokens for s in merged] == [(1, 2, 3, 5), (9,)]
    assert sorted(n for s in merged for n, _, _ in s.reads) == [0, 1, 2, 3, 4]


def test_few_shot_prefix_is_run_once():
    model = tiny_llama()
    seen = []
    handle = model.model.layers[0].register_forward_hook(
        lambda _, args, out: seen.append(out.shape[0] * out.shape[1])
    )
    answers(fast(model, 64), SHARED)
    handle.remove()
    prefix = len(FEW_SHOT) + len("Q: ")
    assert sum(seen) < 1.1 * (prefix + sum(len(c) + len(a) - prefix for c, a in SHARED))
