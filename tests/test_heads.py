"""The head, and what a family does behind it, is found by measuring; the loss on it is the model's own."""

import pytest
import torch
from dense_losses import linear, priced, relative
from families import FAMILIES, tiny_model
from tiny import tiny_llama
from torch import nn

from distill.head import Head, find_head, head_inputs
from distill.losses import Objective
from fastpath.errors import ModelError
from fastpath.nll import predicting


def test_head_with_adapters_is_refused():
    with pytest.raises(ModelError, match="Sequential: the loss needs a plain linear head"):
        Head(nn.Sequential(linear(1))).weights()


@pytest.mark.parametrize("family", FAMILIES)
def test_head_and_what_comes_behind_it_are_found_in_every_family(family):
    model = tiny_model(family)
    if family == "granite":
        model.config.logits_scaling = 13.0
    head = find_head(model)
    ids_BT = torch.randint(3, 90, (2, 12), generator=torch.Generator().manual_seed(0))
    at_BT = predicting(torch.rand(2, 12, generator=torch.Generator().manual_seed(1)) > 0.5)
    with torch.no_grad():
        want_NV = model(ids_BT, use_cache=False).logits[at_BT]
        with head_inputs(model, at_BT) as seen:
            model(ids_BT, use_cache=False)
    (hidden_ND,) = seen
    with torch.no_grad():
        got_NV = head.logits(hidden_ND, head.weights())
    assert torch.allclose(got_NV, want_NV, rtol=1e-5, atol=1e-5)


def test_softcap_and_scale_are_measured_where_a_family_has_them():
    assert find_head(tiny_model("gemma2")).softcap == pytest.approx(30)
    assert find_head(tiny_model("cohere")).scale == pytest.approx(0.0625)
    assert find_head(tiny_model("falcon_h1", lm_head_multiplier=0.4)).scale == pytest.approx(0.4)
    plain = find_head(tiny_llama())
    assert (plain.scale, plain.softcap) == (1, None)


def test_a_family_that_does_anything_else_is_refused():
    class Odd(type(tiny_llama())):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits.abs()
            return out

    with pytest.raises(ModelError, match="no scale or softcap"):
        find_head(Odd(tiny_llama().config).eval())


def test_cross_entropy_is_that_of_the_model_with_labels():
    """No shift by one: the position before a counted token is the one that learns it."""
    model = tiny_llama()
    ids_BT = torch.randint(256, (3, 20), generator=torch.Generator().manual_seed(0))
    counts_BT = torch.rand(3, 20, generator=torch.Generator().manual_seed(1)) > 0.4
    counts_BT[:, 0] = False
    labels_BT = ids_BT.masked_fill(~counts_BT, -100)
    model(ids_BT, labels=labels_BT).loss.backward()
    want = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with head_inputs(model, predicting(counts_BT)) as seen:
        model(ids_BT)
    nats = priced(
        seen[0],
        ids_BT[counts_BT],
        head=find_head(model),
        vocabulary=260,
        objective=Objective(kd_weight=0.0),
        chunk_bytes=4096,
    )
    (nats.loss / counts_BT.sum()).backward()
    for name, p in model.named_parameters():
        assert relative(p.grad, want[name]) <= 1e-5
