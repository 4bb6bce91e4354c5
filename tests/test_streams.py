"""tap, skipping, recording, replaying: what they show of the residual stream, and what they leave behind."""

import pytest
import torch
from families import DEPTH, tiny_model

from fastpath.blocks import find_blocks, recording, replaying, skipping, tap
from fastpath.errors import SurgeryError

IDS = torch.randint(3, 96, (2, 24), generator=torch.Generator().manual_seed(1))


# One family whose blocks return a tensor, one whose blocks return a tuple.
@pytest.fixture(params=["llama", "bloom"])
def model(request):
    return tiny_model(request.param)


@torch.no_grad()
def logits(model, ids=IDS):
    return model(input_ids=ids, use_cache=False).logits


def run_counts(model, forward):
    """How often each block's own code ran during `forward()`: runs of a module inside it are counted."""
    counts = [0] * DEPTH

    def count(i):
        def hook(*_):
            counts[i] += 1

        return hook

    inner = [next(block.children()) for block in find_blocks(model)[1]]
    handles = [module.register_forward_hook(count(i)) for i, module in enumerate(inner)]
    forward()
    for handle in handles:
        handle.remove()
    return counts


def test_tap_sees_the_stream_between_all_blocks(model):
    seen = {}
    with tap(model, lambda i, before_BTD, after_BTD: seen.update({i: (before_BTD, after_BTD)})):
        want = logits(model)
    assert sorted(seen) == list(range(DEPTH))
    for i in range(DEPTH - 1):
        assert seen[i][1].equal(seen[i + 1][0])
    assert seen[0][0].shape == (*IDS.shape, model.config.hidden_size)
    base = model.base_model
    norm = base.norm if hasattr(base, "norm") else base.ln_f
    with torch.no_grad():  # what the last block returns is not yet normed
        assert torch.allclose(model.get_output_embeddings()(norm(seen[DEPTH - 1][1])), want, atol=1e-5)


def test_contexts_leave_nothing_behind(model):
    want, blocks = logits(model), find_blocks(model)[1]
    with recording(model) as streams:
        logits(model)
    for context in (
        skipping(model, [2]),
        tap(model, lambda *_: None),
        replaying(model, streams, start=3, drop=[4]),
    ):
        with pytest.raises(KeyboardInterrupt), context:
            raise KeyboardInterrupt
    assert logits(model).equal(want)
    assert not any(block._forward_hooks or "forward" in vars(block) for block in blocks)


def test_skipping_nothing_changes_nothing(model):
    want = logits(model)
    with skipping(model, []):
        assert logits(model).equal(want)


@pytest.mark.parametrize(("start", "drop"), [(0, [0]), (1, [1]), (3, [3, 5]), (5, [5]), (4, [])])
def test_replaying_equals_skipping_and_runs_no_other_block(model, start, drop):
    with recording(model) as streams:
        logits(model)
    with skipping(model, drop):
        want = logits(model)
    got = []
    with replaying(model, streams, start=start, drop=drop):
        counts = run_counts(model, lambda: got.append(logits(model)))
    assert got[0].equal(want)
    assert counts == [int(i >= start and i not in drop) for i in range(DEPTH)]


def test_streams_recorded_of_a_smaller_model_replay_it(model):
    with skipping(model, [1]), recording(model) as streams:
        logits(model)
    with skipping(model, [1, 4]):
        want = logits(model)
    with replaying(model, streams, start=4, drop=[4]):  # 1 is dropped already, in the streams
        assert logits(model).equal(want)


def test_padded_batches_replay(model):
    mask = torch.ones_like(IDS)
    mask[0, :9] = 0
    inputs = {"input_ids": IDS, "attention_mask": mask, "use_cache": False}
    with torch.no_grad(), recording(model) as streams:
        model(**inputs)
    with torch.no_grad(), skipping(model, [3]):
        want = model(**inputs).logits
    with torch.no_grad(), replaying(model, streams, start=3, drop=[3]):
        assert model(**inputs).logits.equal(want)


def test_replaying_other_inputs_is_refused(model):
    with recording(model) as streams:
        logits(model)
    with (
        replaying(model, streams, start=2),
        pytest.raises(ValueError, match="other inputs than the recorded"),
    ):
        logits(model, IDS.flip(0))


def test_replaying_nothing_is_refused(model):
    with recording(model) as streams:
        pass
    with pytest.raises(ValueError, match="run a forward in recording"), replaying(model, streams, start=2):
        pass


def test_a_forward_set_by_others_comes_back(model):
    block = find_blocks(model)[1][0]
    original = block.forward
    block.forward = others = lambda *args, **kwargs: original(*args, **kwargs)  # as accelerate does
    with recording(model) as streams:
        logits(model)
    with replaying(model, streams, start=2, drop=[2]):
        assert block.forward is not others
    assert block.forward is others


@pytest.mark.parametrize("index", [-1, DEPTH])
def test_a_block_that_is_not_there_is_refused(model, index):
    with (
        pytest.raises(SurgeryError, match=f"no block {index}; its blocks are 0 to 5"),
        skipping(model, [index]),
    ):
        pass
