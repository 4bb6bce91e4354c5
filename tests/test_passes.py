"""One timed pass: its tokens are those of plain greedy decoding, compiled with a static cache too."""

import pytest
import torch
from tiny import narrow_llama, write_tiny
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, PreTrainedModel

from eval import passes
from eval.ceilings import Sizes
from eval.passes import Clock, greedy_pass, static_step
from eval.speed import measure_speed
from eval.zoo import Zoo
from fastpath.config import SpeedConfig
from fastpath.errors import ConfigError
from fastpath.sources import locate

PROMPT = torch.randint(50, (2, 7), generator=torch.Generator().manual_seed(1))


def llama() -> PreTrainedModel:
    return narrow_llama(depth=2)


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=64)).eval()


def mamba() -> PreTrainedModel:
    return MambaForCausalLM(
        MambaConfig(num_hidden_layers=1, hidden_size=16, state_size=4, vocab_size=50)
    ).eval()


@pytest.fixture
def traced(monkeypatch):
    """torch.compile traces and guards as ever, but generates no code: that takes half a minute a model."""
    monkeypatch.setattr(passes, "COMPILE", {"backend": "eager", "fullgraph": True, "dynamic": False})
    yield
    torch.compiler.reset()


def greedy_tokens(model: PreTrainedModel, num: int) -> torch.Tensor:
    """Without a cache: the whole sequence once more for every token."""
    sequence = PROMPT
    with torch.no_grad():
        for _ in range(num):
            sequence = torch.cat([sequence, model(sequence).logits[:, -1:].argmax(-1)], dim=1)
    return sequence[:, PROMPT.shape[1] :]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_cached_tokens_equal_uncached_greedy_tokens(make):
    model = make()
    done = greedy_pass(model, PROMPT, 6)
    assert torch.equal(done.tokens_BN, greedy_tokens(model, 6))
    assert len(done.step_seconds) == 5 and min(done.ttft_seconds, *done.step_seconds) > 0


@pytest.mark.parametrize("make", [llama, gpt2])
def test_static_cache_gives_the_same_tokens_pass_after_pass(make, traced):
    model = make()
    static = static_step(model, 7 + 6)
    for _ in range(2):  # the second starts from an emptied cache
        assert torch.equal(greedy_pass(model, PROMPT, 6, static).tokens_BN, greedy_tokens(model, 6))


@pytest.mark.slow
def test_compiled_for_real_the_tokens_are_the_same():
    model = narrow_llama(depth=1)
    assert torch.equal(
        greedy_pass(model, PROMPT, 6, static_step(model, 13)).tokens_BN, greedy_tokens(model, 6)
    )


def test_measured_with_compile_the_peak_holds_the_static_cache(traced, monkeypatch):
    monkeypatch.setattr("eval.ceilings.SIZES", {"cpu": Sizes(2**16, 16, 1)})
    monkeypatch.setattr("eval.speed.reset_peak_bytes", lambda device: True)
    monkeypatch.setattr("eval.speed.peak_bytes", lambda device: 0)
    model = llama()
    facts = measure_speed({"base": model}, prompt_tokens=[7, 5], new_tokens=3, batch_size=[2], compile=True)
    assert facts["compile"] is True
    for point in facts["points"]:
        per_token = facts["models"]["base"]["kv_bytes_per_token"]
        cache = per_token * 2 * (point["prompt_tokens"] + 3)
        assert point["models"]["base"]["peak_bytes"] == model.get_memory_footprint() + cache


def test_a_model_without_kv_cache_is_refused_by_class():
    with pytest.raises(ValueError, match="MambaForCausalLM returns no KV cache"):
        greedy_pass(mamba(), PROMPT, 3)


def test_what_transformers_does_not_compile_is_refused_by_class():
    with pytest.raises(ValueError, match=r"transformers does not compile MambaForCausalLM"):
        static_step(mamba(), 10)


@pytest.fixture
def no_compiler(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(passes, "COMPILE", {"backend": broken})
    yield
    torch.compiler.reset()


REFUSAL = r"torch.compile fails for {} \(.*no C.. compiler.*set compile to false$"


def test_a_compiler_that_fails_is_one_line(no_compiler):
    model = llama()
    with pytest.raises(ValueError, match=REFUSAL.format("LlamaForCausalLM")) as caught:
        greedy_pass(model, PROMPT, 3, static_step(model, 10))
    assert "\n" not in str(caught.value)


def test_without_a_compiler_an_evaluation_is_refused_before_any_work(no_compiler, tmp_path):
    sources = {"base": locate(str(write_tiny(tmp_path / "model")))}
    zoo = Zoo(sources, dtype=torch.float32, device=torch.device("cpu"), trust=False)
    zoo.check_speed(SpeedConfig())
    with pytest.raises(ConfigError, match="^eval.speed.compile: " + REFUSAL.format("cpu")):
        zoo.check_speed(SpeedConfig(compile=True))


def test_the_clock_gives_the_time_between_marks(monkeypatch):
    now = iter([1.0, 3.0, 3.5])
    monkeypatch.setattr("eval.passes.time.perf_counter", lambda: next(now))
    clock = Clock(torch.device("cpu"))
    for _ in range(3):
        clock.mark()
    assert clock.seconds() == [2.0, 0.5]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_clock_times_the_device_not_the_call():
    device = torch.device("cuda")
    clock = Clock(device)
    clock.mark()
    torch.cuda._sleep(100_000_000)  # cycles of the device; the call returns at once
    clock.mark()
    assert clock.seconds()[0] > 0.02
    tokens = greedy_pass(llama().to(device), PROMPT.to(device), 6).tokens_BN
    assert torch.equal(tokens.cpu(), greedy_tokens(llama(), 6))
