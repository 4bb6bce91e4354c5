"""Student and teacher in one forward: equal models cost nothing, and sharing work changes nothing."""

from dataclasses import replace

import pytest
import torch
from tiny import byte_tokenizer, tiny_llama, write_tiny
from transformers import AutoModelForCausalLM

from distill.job import Job, make_pair
from distill.losses import Objective
from distill.memory import CHUNKS, choose_mode, empty_model, estimate, on_policy_bytes
from distill.packing import IGNORED
from distill.pair import Pair
from distill.students import num_shareable, stock_model, trainable, without_adapters
from fastpath.blocks import find_blocks, keep_blocks
from fastpath.config_distill import MODES, DistillConfig, OnPolicyConfig
from fastpath.errors import ConfigError

KEEP, DEPTH = (0, 1, 4, 5), 6
IDS = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(0))
LABELS = torch.where(torch.arange(24) % 3 == 2, IDS, IGNORED)
CONFIG = DistillConfig(last_blocks=1, lora_rank=4, micro_rows=2, max_tokens=24)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("models"))


def write_folders(folder):
    """(base, cut)"""
    base = write_tiny(folder / "base")
    keep_blocks(tiny_llama(), KEEP).save_pretrained(folder / "cut")
    byte_tokenizer().save_pretrained(folder / "cut")
    return base, folder / "cut"


def pair_of(folders, mode="full", *, dtype=torch.float32, **changes):
    job = Job(
        teacher=folders[0], teacher_sha256="", student=folders[1], keep=KEEP, depth=DEPTH, mode=mode,
        checkpoint=None,
    )  # fmt: skip
    torch.manual_seed(0)
    pair = make_pair(
        job, CONFIG.model_copy(update=changes), vocabulary=259,
        dtype=dtype, device=torch.device("cpu"), trust=False,
    )  # fmt: skip
    return pair.train()


def stepped(pair, **keys):
    """(sums, gradients of what is trained)"""
    pair.zero_grad()
    sums = pair(IDS, LABELS, **keys)
    sums[0].backward()
    return sums, {name: p.grad for name, p in pair.named_parameters() if p.requires_grad}


def test_equal_models_cost_nothing():
    pair = Pair(
        tiny_llama(), tiny_llama(), start=0, keep=tuple(range(DEPTH)), drop=(), matched=((2, 2),),
        objective=Objective(), vocabulary=259, dtype=torch.float32,
    )  # fmt: skip
    (loss, kd, ce, hidden), gradients = stepped(pair, hidden_weight=1.0)
    assert loss.item() == kd.item() == hidden.item() == 0 < ce.item()
    assert all((gradient == 0).all() for gradient in gradients.values())


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_blocks_that_run_once_for_both_change_nothing(folders, mode):
    shared = pair_of(folders, mode)
    assert shared.start == 2, "as many as come before the first cut"
    (loss, *_), gradients = stepped(shared)
    shared.start = 0
    (alone, *_), want = stepped(shared)
    assert loss.item() == alone.item() > 0
    assert gradients.keys() == want.keys() and all(torch.equal(gradients[n], want[n]) for n in want)


def test_one_set_of_weights_computes_what_two_do(folders):
    """The same adapters on the teacher's own blocks and on the cut model's."""
    one, two = pair_of(folders, "shared-lora"), pair_of(folders, "lora")
    assert sum(p.numel() for p in one.parameters()) < 0.7 * sum(p.numel() for p in two.parameters())
    adapters = {name: p for name, p in two.named_parameters() if p.requires_grad}
    own = dict(one.named_parameters())
    pairs = {}
    for name, p in adapters.items():
        _, _, rest = name.partition("layers.")
        new, _, rest = rest.partition(".")
        twin = name.replace(f"layers.{new}.", f"layers.{KEEP[int(new)]}.")
        torch.nn.init.normal_(p, std=0.1)
        own[twin].data.copy_(p.data)
        pairs[name] = twin
    (loss, kd, ce, hidden), gradients = stepped(one, hidden_weight=0.5)
    (want, want_kd, want_ce, want_hidden), want_gradients = stepped(two, hidden_weight=0.5)
    assert (loss, kd, ce, hidden) == (want, want_kd, want_ce, want_hidden)
    assert hidden > 0
    assert len(gradients) == len(want_gradients)
    assert all(torch.equal(want_gradients[name], gradients[twin]) for name, twin in pairs.items())


def test_teacher_under_the_adapters_stays_the_base(folders):
    pair = pair_of(folders, "shared-lora")
    optimizer = torch.optim.SGD([p for p in pair.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        stepped(pair)
        optimizer.step()
    with torch.no_grad(), without_adapters(pair.student) as teacher:
        assert torch.equal(teacher(IDS).logits, tiny_llama()(IDS).logits)
    with torch.no_grad(), pair.student_alone() as student:
        changed = student(IDS, use_cache=False).logits
        assert not torch.allclose(changed, keep_blocks(tiny_llama(), KEEP)(IDS).logits, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_a_teacher_without_a_share_of_the_loss_is_not_run(folders, mode, monkeypatch):
    taught, alone = (pair_of(folders, mode, kd_weight=weight) for weight in (1e-30, 0.0))
    for keys in ({"hidden_weight": 0.5}, {"hidden_weight": 0.5, "predicts": False}, {}):
        if not keys:
            monkeypatch.setattr(alone, "_teach", None)  # streams are matched, or it is not run
        (want, _, want_ce, want_hidden), want_gradients = stepped(taught, **keys)
        (loss, kd, ce, hidden), gradients = stepped(alone, **keys)
        assert (loss, kd, ce, hidden) == (want, 0, want_ce, want_hidden)
        assert all(torch.equal(gradients[name], want_gradients[name]) for name in want_gradients)
    assert loss == ce > 0


def test_a_prefix_of_its_own_has_no_dropout_either(tmp_path):
    base = write_tiny(tmp_path / "base", attention_dropout=0.5)
    keep_blocks(tiny_llama(attention_dropout=0.5), KEEP).save_pretrained(tmp_path / "cut")
    byte_tokenizer().save_pretrained(tmp_path / "cut")
    pairs = [pair_of((base, tmp_path / "cut"), kd_weight=weight) for weight in (1e-30, 0.0)]
    losses = []
    for pair in pairs:
        torch.manual_seed(0)
        losses.append(pair(IDS, LABELS)[0].item())
    assert losses[0] == losses[1]
    assert losses[0] != pairs[0].eval()(IDS, LABELS)[0].item(), "what is trained has dropout"


@pytest.mark.parametrize("mode", MODES)
def test_recomputed_activations_give_the_same_gradient(folders, mode):
    (loss, *_), gradients = stepped(pair_of(folders, mode), hidden_weight=0.5)
    (again, *_), recomputed = stepped(pair_of(folders, mode, recompute_activations=True), hidden_weight=0.5)
    assert loss.item() == again.item()
    assert all(torch.equal(gradients[name], recomputed[name]) for name in gradients)


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_computes_about_the_same_and_trains_in_float32(folders, mode):
    (loss, *_), gradients = stepped(pair_of(folders, mode))
    pair = pair_of(folders, mode, dtype=torch.bfloat16)
    with pair.computing():  # accelerate does this
        (rough, *_), rounded = stepped(pair)
    assert loss.item() == pytest.approx(rough.item(), rel=0.2) and loss.item() != rough.item()
    assert all(gradient.dtype == torch.float32 for gradient in rounded.values())
    assert stock_model(pair.student).get_input_embeddings().weight.dtype == torch.bfloat16
    ours, theirs = (torch.cat([g.flatten() for g in side.values()]) for side in (gradients, rounded))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.95


@pytest.mark.parametrize("mode", MODES)
def test_what_a_mode_trains_and_the_estimate_of_it(folders, mode):
    pair = pair_of(folders, mode)
    trained = {name for name, p in pair.named_parameters() if p.requires_grad}
    assert trained, "something is"
    assert not any(
        part in name for name in trained for part in ("teacher.", "layers.0.", "layers.1.", "embed")
    )
    assert all(p.dtype == torch.float32 for p in pair.parameters() if p.requires_grad)
    if mode == "head+last-k":
        blocks = {name.partition("layers.")[2].partition(".")[0] for name in trained if "layers." in name}
        assert blocks == {"3"} and any("norm" in name and "layers" not in name for name in trained)
    models = [empty_model(folder, dtype=torch.float32, trust=False) for folder in folders]
    told = estimate(mode, CONFIG, *models, KEEP, device=torch.device("cpu"))
    assert told.weights == sum(p.numel() * p.element_size() for p in pair.parameters())
    head = stock_model(pair.student).lm_head.weight
    summed = 2 * 4 * head.numel() if head.requires_grad else 0
    assert told.training == summed + 12 * sum(p.numel() for p in pair.parameters() if p.requires_grad)
    logits = 4 * IDS.numel() * 260
    assert 0.7 < (told.activations - CHUNKS * logits) / kept_bytes(pair) < 2


def kept_bytes(pair):
    """What autograd keeps between the forward and the backward pass, weights aside."""
    own = {p.untyped_storage()._cdata for p in pair.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage()._cdata not in own:
            kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        pair(IDS, LABELS)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_a_prefix_ends_at_the_first_block_that_differs(folders, tmp_path):
    """A repair may have changed the block in front of the cut."""
    repaired = keep_blocks(tiny_llama(), KEEP)
    repaired.model.layers[1].mlp.down_proj.weight.data += 1
    repaired.save_pretrained(tmp_path / "cut")
    assert pair_of((folders[0], tmp_path / "cut")).start == 1


def test_cut_at_the_end_still_trains_the_last_blocks():
    config = DistillConfig(last_blocks=2)
    assert num_shareable("full", config, (0, 1, 2, 3)) == 2
    assert num_shareable("full", config.model_copy(update={"freeze_prefix": False}), (0, 1, 2, 3)) == 0
    with pytest.raises(ConfigError, match="last_blocks: 2 of 1 blocks"):
        num_shareable("lora", config, (0,))


def test_tied_head_is_frozen_with_the_embeddings_and_a_free_one_is_trained(folders, tmp_path):
    assert not stock_model(pair_of(folders).student).lm_head.weight.requires_grad
    base = write_tiny(tmp_path / "base", tie_word_embeddings=False)
    keep_blocks(tiny_llama(tie_word_embeddings=False), KEEP).save_pretrained(tmp_path / "cut")
    byte_tokenizer().save_pretrained(tmp_path / "cut")
    for mode in ("full", "head+last-k"):
        student = pair_of((base, tmp_path / "cut"), mode).student
        assert student.lm_head.weight.requires_grad
        assert not student.model.embed_tokens.weight.requires_grad
        assert len(find_blocks(student)[1]) == len(KEEP)


def test_estimate_of_what_a_student_keeps_while_it_writes(folders):
    config = CONFIG.model_copy(update={"on_policy": OnPolicyConfig(steps=1), "batch_rows": 4})
    model = AutoModelForCausalLM.from_pretrained(folders[1])
    cache = model(torch.zeros(4, 24, dtype=torch.long), use_cache=True).past_key_values
    held = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    told = on_policy_bytes(model, config, blocks=len(KEEP))
    assert told == sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert on_policy_bytes(model, CONFIG, blocks=len(KEEP)) == 0, "without that phase"


def test_a_mode_that_does_not_fit_is_told_one_that_does(folders, monkeypatch):
    models = [empty_model(folder, dtype=torch.float32, trust=False) for folder in folders]
    cpu = torch.device("cpu")
    needs = {mode: estimate(mode, CONFIG, *models, KEEP, device=cpu).total for mode in MODES}
    least = min(needs, key=needs.__getitem__)
    monkeypatch.setattr("distill.memory.free_bytes", lambda device: needs[least])
    how = {"one_set": True, "dtype": torch.float32, "device": cpu, "trust": False}
    assert choose_mode(CONFIG, *folders, KEEP, **how) == least, "auto"
    config = CONFIG.model_copy(update={"mode": max(needs, key=needs.__getitem__)})
    with pytest.raises(ConfigError, match=f"{config.mode} would take more than .*; {least} fits"):
        choose_mode(config, *folders, KEEP, **how)
    monkeypatch.setattr("distill.memory.free_bytes", lambda device: 1)
    for loss, told in (("forward_kl", True), ("jsd", False)):
        with pytest.raises(ConfigError, match="none fits") as caught:
            choose_mode(config.model_copy(update={"loss": loss}), *folders, KEEP, **how)
        assert ("teacher=top-k" in str(caught.value)) is told, "only where it would be taken"


def test_under_fsdp_a_process_holds_its_share_and_one_whole_block(folders, monkeypatch):
    models = [empty_model(folder, dtype=torch.float32, trust=False) for folder in folders]
    how = {"keep": KEEP, "device": torch.device("cpu")}
    alone = estimate("full", CONFIG, *models, **how)
    monkeypatch.setenv("WORLD_SIZE", "4")
    ddp = estimate("full", CONFIG, *models, **how)
    sizes = 4 * sum(p.numel() for p in trainable(models[1], "full", CONFIG, start=2))
    assert ddp == replace(alone, training=alone.training + sizes), "DDP holds all of it, and its buckets"
    monkeypatch.setattr("distill.memory.is_sharded", lambda: True)
    shared = estimate("full", CONFIG, *models, **how)
    block = sum(p.numel() * p.element_size() for p in models[0].model.layers[0].parameters())
    assert shared.weights == alone.weights // 4 + block
    assert (shared.training, shared.activations) == (alone.training // 4, alone.activations)
