"""A kept teacher is asked again: rounding is let through, another model is not."""

import pytest
import torch
from test_teacher_store import V, examples, filled, own_cache, teacher  # noqa: F401 (fixtures)
from tiny import tiny_llama

from distill.capture import ONE_TOKEN, Teacher, check_again
from distill.codecs import ExpectedCodec, TopKCodec
from distill.examples import Example
from distill.head import find_head
from distill.store import Store
from fastpath.blocks import TOLERANCE
from fastpath.errors import RunError


@pytest.mark.parametrize("codec", [TopKCodec(8), ExpectedCodec(1.0)])
def test_altered_weights_are_seen_when_the_teacher_is_asked_again(teacher, codec):  # noqa: F811
    made = examples()
    store = filled(teacher, made, codec)
    assert check_again(store, teacher, made, seed=0) <= 2e-5
    model = tiny_llama()
    with torch.no_grad():
        model.model.layers[3].mlp.down_proj.weight *= 1.05
    with pytest.raises(RunError, match=f"{store.folder}: off by .* sample .* other weights"):
        check_again(store, Teacher(model, find_head(model), V), made, seed=0)


@pytest.mark.parametrize("codec", [TopKCodec(8), ExpectedCodec(1.0)])
def test_another_model_is_seen_in_bfloat16_too(codec):
    """Whose rounding allows far more, and hides small changes."""
    made = examples()
    model, other = tiny_llama().to(torch.bfloat16), tiny_llama(seed=1).to(torch.bfloat16)
    store = filled(Teacher(model, find_head(model), V), made, codec)
    check_again(store, Teacher(model, find_head(model), V), made, seed=0)
    with torch.no_grad():
        other.lm_head.weight.copy_(model.lm_head.weight)
    with pytest.raises(RunError, match="other weights"):
        check_again(store, Teacher(other, find_head(other), V), made, seed=0)


@pytest.mark.parametrize(("times", "refused"), [(3, False), (1.1 * ONE_TOKEN, True)])
def test_a_sample_of_one_token_is_judged_as_one_token(teacher, monkeypatch, times, refused):  # noqa: F811
    """An item with choices learns no more: rounding puts a token in eight further off than their mean."""
    made = [Example((*range(i, i + 5), 9), (False,) * 5 + (True,), "item") for i in range(8)]
    store = filled(teacher, made)
    (logits_CV,) = teacher.logits([made[0]])
    shift = times * TOLERANCE[torch.float32] * logits_CV.std()
    kept = Store.__getitem__

    def shifted(self, key):
        one = dict(kept(self, key))
        return one | {"logprobs": one["logprobs"] + shift} if key == made[0].key else one

    monkeypatch.setattr(Store, "__getitem__", shifted)
    if refused:
        with pytest.raises(RunError, match=f"sample {made[0].key[:16]} by"):
            check_again(store, teacher, made, seed=0)
    else:
        assert check_again(store, teacher, made, seed=0) <= TOLERANCE[torch.float32]
