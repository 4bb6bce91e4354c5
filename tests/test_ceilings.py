"""What binds hardware and models: counted work equals the count by hand, rates follow from the clock."""

import pytest
import torch
from families import tiny_model
from tiny import narrow_llama, tiny_llama
from transformers import GPT2Config, GPT2LMHeadModel

from eval.ceilings import Ceilings, Rates, Sizes, Work, needs_of, weight_bytes_read

CPU = torch.device("cpu")


def ticking(monkeypatch, *seconds: float) -> None:
    """Each time something is timed it takes the next of these seconds."""
    waits, now = iter(seconds), [0.0, False]

    def perf_counter() -> float:
        now[1] = not now[1]
        now[0] += 0.0 if now[1] else next(waits)
        return now[0]

    monkeypatch.setattr("eval.passes.time.perf_counter", perf_counter)


def test_a_copy_moves_every_byte_twice_and_the_median_leaves_the_warm_up_out(monkeypatch):
    monkeypatch.setattr("eval.ceilings.SIZES", {"cpu": Sizes(1000, 10, 2)})
    ticking(monkeypatch, 99.0, 99.0, 2.0, 4.0, 8.0, 1.0, 4.0, 2.0)  # copy, product; two of each at a time
    ceilings = Ceilings(CPU, torch.float32)
    for _ in range(3):
        ceilings.sample()
    assert ceilings.median() == Rates(2 * 1000 / (4.0 / 2), 2 * 10**3 / (2.0 / 2))


def test_the_longer_of_two_times_binds():
    rates = Rates(copy_bytes_per_second=10.0, matmul_flops_per_second=100.0)
    assert Work(flops=1000, bytes=50).seconds(rates) == 10.0  # as a long prefill
    assert Work(flops=100, bytes=50).seconds(rates) == 5.0  # as a step of one sequence


def test_work_is_counted_once_a_sequence_and_weights_once_a_pass():
    model = narrow_llama(depth=2)
    one, two = (needs_of(model, torch.ones(n, 8, dtype=torch.long), 4) for n in (1, 2))
    assert two.prefill.flops == 2 * one.prefill.flops and two.step.flops == 2 * one.step.flops
    assert one.kv_bytes_per_token == two.kv_bytes_per_token == 2 * 2 * 8 * 4  # blocks, K and V, width, bytes
    weights = weight_bytes_read(model)
    assert two.step.bytes - weights == 2 * (one.step.bytes - weights) == 2 * 256 / 2 * (8 + 4 / 2)


def test_a_step_costs_two_operations_a_weight_and_sees_the_whole_context():
    step = needs_of(narrow_llama(depth=2), torch.ones(1, 8, dtype=torch.long), 4).step
    block = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 32
    assert step.flops == 2 * (2 * block + 16 * 50) + 2 * (2 * 2 * 16 * 9)  # 9 = the prompt and itself


def test_a_tied_head_is_read_and_tables_that_are_looked_up_are_not():
    tied, untied = tiny_llama(depth=1), tiny_llama(depth=1, tie_word_embeddings=False)
    table = 260 * 32 * 4
    assert weight_bytes_read(tied) == sum(p.nbytes for p in tied.parameters())
    assert weight_bytes_read(untied) == sum(p.nbytes for p in untied.parameters()) - table
    assert weight_bytes_read(tied) == weight_bytes_read(untied)
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50, n_positions=64))
    assert weight_bytes_read(gpt2) == sum(p.nbytes for p in gpt2.parameters()) - 64 * 16 * 4  # its positions


def test_masked_halves_count_whatever_the_attention_is_written_in():
    """Eager attention computes what is masked too: there all pairs are work."""
    prompt = torch.ones(1, 8, dtype=torch.long)
    fused = needs_of(tiny_llama(depth=1), prompt, 4).prefill.flops
    eager = needs_of(tiny_llama(depth=1, attn_implementation="eager"), prompt, 4).prefill.flops
    assert eager - fused == 2 * 2 * 32 * (8 * 8 - 8 * 9 // 2)


def test_of_a_mixture_each_token_meets_only_its_experts():
    """By torch's own counter with the experts as plain products, and by ours with them grouped."""
    prompt = torch.ones(2, 16, dtype=torch.long)
    grouped, looped = tiny_model("mixtral"), tiny_model("mixtral")
    looped.set_experts_implementation("eager")
    assert needs_of(grouped, prompt, 4).prefill.flops == needs_of(looped, prompt, 4).prefill.flops


@pytest.mark.parametrize(("family", "tokens_kept"), [("llama", 16 * 6), ("qwen3_next", 16 * 1)])
def test_the_cache_counts_what_grows_with_the_tokens(family, tokens_kept):
    """All six blocks of a Llama keep keys and values, of Qwen3-Next one: the others are linear attention."""
    needs = needs_of(tiny_model(family), torch.ones(2, 16, dtype=torch.long), 4)
    assert needs.kv_bytes_per_token == tokens_kept / 16 * 2 * 2 * 12 * 4  # key, value; heads; width; bytes
