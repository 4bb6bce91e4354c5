import copy
import re

import pytest
import torch
from families import DEPTH, FAMILIES, FULL, KEEP, REFUSED, SLIDING, tiny_config, tiny_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, Gemma3Config, T5Config

from fastpath.blocks import check_surgery, find_blocks, keep_blocks, recording, replaying, skipping, tap
from fastpath.errors import SurgeryError
from fastpath.nll import logits_at

DROP = [i for i in range(DEPTH) if i not in KEEP]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """(tiny model, the same cut to KEEP), built once for all properties of a family."""
    model = tiny_model(request.param)
    return model, keep_blocks(model, KEEP)


@pytest.fixture
def llama():
    return tiny_model("llama")


def tokens(seed=1):
    return torch.randint(3, 96, (2, 24), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model, seed=1):
    return model(input_ids=tokens(seed), use_cache=False).logits


def off(got, want):
    """Largest difference, as a share of the largest logit."""
    return ((got - want).abs().max() / want.abs().max()).item()


# Families: what must be equal.


@torch.no_grad()
def test_streams_are_the_same_where_the_head_sees_no_position(family):
    """A one-pass criterion runs the blocks alone: of short prompts the head would be a tenth of the work."""
    model, want, got = family[0], [], []
    with tap(model, lambda *streams: want.append(streams[2])):
        model(input_ids=tokens(), use_cache=False)
    nowhere = torch.zeros(tokens().shape, dtype=torch.bool)
    with tap(model, lambda *streams: got.append(streams[2])):
        assert len(logits_at(model, nowhere, input_ids=tokens(), use_cache=False)) == 0
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_cut_equals_skipped(family):
    model, cut = family
    assert check_surgery(model, cut, KEEP) < 1e-6
    with skipping(model, DROP):
        assert off(logits(cut), logits(model)) < 1e-6
    assert off(logits(cut), logits(model)) > 0.1  # the dropped blocks mattered: equality says something


def test_saved_equals_reloaded(family, tmp_path):
    cut = family[1]
    cut.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(reloaded) is type(cut)
    assert off(logits(reloaded), logits(cut)) < 1e-6


def test_cached_generation_equals_uncached(family):
    ids, steps = tokens(), {}
    options = {
        "do_sample": False,
        "max_new_tokens": 4,
        "eos_token_id": None,
        "attention_mask": torch.ones_like(ids),
    }
    report = {"return_dict_in_generate": True, "output_logits": True}
    for cached in (True, False):
        steps[cached] = family[1].generate(ids, use_cache=cached, **options, **report)
    assert steps[True].sequences.equal(steps[False].sequences)
    assert off(torch.stack(steps[True].logits), torch.stack(steps[False].logits)) < 1e-2


def test_replayed_equals_skipped(family):
    model = family[0]
    with recording(model) as streams:
        whole = logits(model)
    with replaying(model, streams, start=DROP[0], drop=DROP):
        replayed = logits(model)
    with skipping(model, DROP):
        assert off(replayed, logits(model)) < 1e-6
    assert off(logits(model), whole) == 0  # nothing of it stays behind


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_cannot_be_cut_is_refused(model_type):
    model = tiny_model(model_type)
    with pytest.raises(SurgeryError, match=re.escape(REFUSED[model_type][1])) as refusal:
        check_surgery(model, keep_blocks(model, KEEP), KEEP)
    assert "\n" not in str(refusal.value)


# Wrong cuts: what the self-check must see.


@pytest.mark.parametrize("model_type", ["gemma3_text", "gpt_oss", "olmo3", "qwen2", "smollm3"])
def test_blocks_deleted_in_place_are_caught(model_type):
    model, patched = tiny_model(model_type), tiny_model(model_type)
    for i in reversed(DROP):
        del find_blocks(patched)[1][i]
        patched.config.num_hidden_layers -= 1
    with pytest.raises(SurgeryError, match="a logit is off by"):
        check_surgery(model, patched, KEEP)


@pytest.mark.parametrize("model_type", ["gemma3_text", "cohere2", "granite_swa", "qwen2", "smollm3"])
def test_lists_truncated_instead_of_indexed_are_caught(model_type):
    window = 100  # longer than the probes: where only the window differs, the numbers cannot show it
    model = tiny_model(model_type, sliding_window=window)
    right = keep_blocks(model, KEEP)
    config = copy.deepcopy(right.config)
    for key in ("layer_types", "no_rope_layers", "layer_rope_theta"):
        if getattr(config, key, None):
            setattr(config, key, getattr(model.config, key)[: len(KEEP)])
    wrong = AutoModelForCausalLM.from_config(config).eval()
    wrong.load_state_dict(right.state_dict())
    with pytest.raises(SurgeryError):
        check_surgery(model, wrong, KEEP)


def test_another_plan_is_caught(llama):
    with pytest.raises(SurgeryError, match="a logit is off by"):
        check_surgery(llama, keep_blocks(llama, [0, 1, 2, 5]), KEEP)


def test_training_mode_is_refused(llama):
    cut = keep_blocks(llama, KEEP)
    with pytest.raises(SurgeryError, match="training mode"):
        check_surgery(llama.train(), cut, KEEP)


# The cut model: what it keeps of its parent.


def test_weights_are_shared_and_tied_ones_stay_tied():
    model = tiny_model("llama", tie_word_embeddings=True)
    cut = keep_blocks(model, KEEP)
    assert cut.lm_head.weight is cut.model.embed_tokens.weight
    assert cut.model.norm.weight.data_ptr() == model.model.norm.weight.data_ptr()
    for new, old in enumerate(KEEP):
        got, want = cut.model.layers[new].mlp.up_proj.weight, model.model.layers[old].mlp.up_proj.weight
        assert got.data_ptr() == want.data_ptr()


def test_generation_config_is_kept_as_a_copy(llama):
    llama.generation_config.top_k = 7
    cut = keep_blocks(llama, KEEP)
    llama.generation_config.top_k = 8
    assert cut.generation_config.top_k == 7


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "qwen3_moe", "lfm2"])
def test_bf16_stays_bf16_and_exact(model_type, tmp_path):
    tiny_model(model_type).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto").eval()
    cut = keep_blocks(model, KEEP)
    assert check_surgery(model, cut, KEEP) == 0
    cut.save_pretrained(tmp_path / "cut")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "cut", dtype="auto")
    assert {p.dtype for p in reloaded.parameters()} == {torch.bfloat16}
    assert off(logits(reloaded), logits(cut)) == 0


@pytest.mark.parametrize("keep", [[0], [5], [0, 5], list(range(DEPTH))])
def test_any_plan_can_be_cut(llama, keep):
    assert check_surgery(llama, keep_blocks(llama, keep), keep) < 1e-6


def test_periodic_blocks_can_be_cut_by_whole_periods():
    model = tiny_model(
        "qwen3_moe", mlp_only_layers=[], decoder_sparse_step=2
    )  # every second block has experts
    assert check_surgery(model, keep_blocks(model, [0, 1, 4, 5]), [0, 1, 4, 5]) < 1e-6
    with pytest.raises(SurgeryError, match="cannot be rebuilt"):
        keep_blocks(model, [0, 2, 3, 5])


def test_blocks_of_a_multimodal_model_are_those_of_its_language_model():
    text = tiny_config("gemma3_text").to_dict()
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 2,
    }
    config = Gemma3Config(text_config=text, vision_config=vision | {"image_size": 28, "patch_size": 14})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    cut = keep_blocks(model, KEEP)
    assert check_surgery(model, cut, KEEP) < 1e-6
    assert (cut.config.text_config.num_hidden_layers, cut.config.vision_config.num_hidden_layers) == (
        4,
        DEPTH,
    )


# What is refused before anything is cut.


def test_quantised_models_are_refused_with_what_to_do(llama):
    llama.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(SurgeryError, match="load the original checkpoint, prune it, quantise again"):
        keep_blocks(llama, KEEP)


def test_blocks_that_share_keys_and_values_are_refused():
    model = tiny_model("gemma4_text", num_kv_shared_layers=2, layer_types=[SLIDING, FULL] * 3)
    with pytest.raises(SurgeryError, match="num_kv_shared_layers"):
        keep_blocks(model, KEEP)


def test_weights_that_are_not_all_here_are_refused(llama):
    llama.model.layers[3].to("meta")
    with pytest.raises(SurgeryError, match="weights lie on cpu, meta; load them on one device"):
        keep_blocks(llama, KEEP)


def test_only_decoder_only_transformers_models_have_blocks():
    with pytest.raises(SurgeryError, match="not a transformers model"):
        find_blocks(nn.Linear(2, 2))
    t5 = T5Config(vocab_size=96, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    with pytest.raises(SurgeryError, match="an encoder-decoder"):
        find_blocks(AutoModelForSeq2SeqLM.from_config(t5))
