"""Sharing work changes nothing in families whose blocks, routers and logits differ from Llama's."""

import copy

import pytest
import torch
from families import DEPTH, KEEP, tiny_model

from distill.hidden import next_input_pairs
from distill.losses import Objective
from distill.packing import IGNORED
from distill.pair import Pair
from distill.students import set_trainable, trainable, with_adapters
from fastpath.blocks import keep_blocks
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError

CONFIG, START = DistillConfig(lora_rank=2), 1
IDS = torch.randint(3, 90, (2, 20), generator=torch.Generator().manual_seed(0))
LABELS = torch.where(torch.arange(20) % 3 == 2, IDS, IGNORED)


def pair_of(student, teacher, numbers):
    matched = [(numbers[i], j) for i, j in next_input_pairs(KEEP, DEPTH) if i >= START]
    return Pair(
        student, teacher, start=START, keep=tuple(KEEP), drop=tuple({*range(DEPTH)} - {*KEEP}),
        matched=tuple(matched), objective=Objective(), vocabulary=96, dtype=torch.float32,
    ).train()  # fmt: skip


@pytest.mark.parametrize("family", ["cohere", "gemma2", "llama4_text", "mixtral", "qwen3_next"])
def test_one_prefix_and_one_set_of_weights_give_what_two_models_give(family):
    base = tiny_model(family)
    student = copy.deepcopy(keep_blocks(base, KEEP))
    set_trainable(student, trainable(student, "full", CONFIG, start=START))
    two = pair_of(student, copy.deepcopy(base), range(len(KEEP)))
    sums = two(IDS, LABELS, hidden_weight=0.5)
    assert sums[0] > 0
    two.start = 0
    one = pair_of(with_adapters(base, CONFIG, KEEP[START:]), None, KEEP)
    for others in (two(IDS, LABELS, hidden_weight=0.5), one(IDS, LABELS, hidden_weight=0.5)):
        assert [other.item() for other in others] == pytest.approx([x.item() for x in sums], rel=1e-5)


@pytest.mark.parametrize("family", ["mamba", "gpt2"])
def test_family_without_adapters_is_refused_and_hears_what_works(family):
    with pytest.raises(ConfigError, match="full works"):
        with_adapters(tiny_model(family), CONFIG, KEEP)
