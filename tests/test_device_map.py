"""A model spread over devices, here host and disk: it computes, scores and exports what one device would."""

import numpy as np
import pytest
import torch
from families import tiny_model
from tiny import byte_tokenizer, run_stage, tiny_llama, write_recipe, write_tiny

from fastpath.ablations import Ablations
from fastpath.blocks import check_surgery, find_blocks, keep_blocks
from fastpath.data import item_batches
from fastpath.errors import ModelError, SurgeryError
from fastpath.items.catalog import generate
from fastpath.models import Lineage, load_model
from fastpath.nll import answer_nll
from fastpath.runs import read_json
from prune.criteria import CRITERIA
from prune.sink import find_sink

ITEMS = [
    item for task in ("doc_type", "arithmetic")
    for item in generate(task, split="calibration", seed=0, num_items=3)
]  # fmt: skip
ON_DISK = (1, 2, 5)


@pytest.fixture(scope="module", params=["llama", "bloom"])
def pair(request, tmp_path_factory):
    """(plain, spread) of one model: some blocks and what follows them are read from disk when they run."""
    folder = tmp_path_factory.mktemp(request.param)
    made = tiny_llama() if request.param == "llama" else tiny_model("bloom", vocab_size=260)
    made.save_pretrained(folder)
    plain = load_model(folder, dtype=torch.float32)
    path, blocks = find_blocks(plain)
    spread = {f"{path}.{i}": "disk" if i in ON_DISK else "cpu" for i in range(len(blocks))}
    names = dict([*plain.named_parameters(), *plain.named_buffers()])
    rest = {name.rsplit(".", 1)[0] for name in names if not name.startswith(f"{path}.")}
    head = next(name for name, m in plain.named_modules() if m is plain.get_output_embeddings())
    return plain, load_model(
        folder,
        dtype=torch.float32,
        device_map=spread | dict.fromkeys([*rest, head], "cpu"),
    )


@pytest.fixture(scope="module")
def batches():
    return item_batches(ITEMS, byte_tokenizer(), batch_tokens=700)


def test_blocks_on_disk_are_not_in_memory(pair):
    blocks = find_blocks(pair[1])[1]
    where = {i: {p.device.type for p in block.parameters()} for i, block in enumerate(blocks)}
    assert all((where[i] == {"meta"}) == (i in ON_DISK) for i in where)


def test_inputs_need_a_device(tmp_path):
    with pytest.raises(ModelError, match="not even the embeddings fit"):
        load_model(write_tiny(tmp_path / "model"), dtype=torch.float32, device_map={"": "disk"})


@pytest.mark.parametrize("name", [name for name in CRITERIA if name not in ("taylor", "depth")])
def test_every_criterion_scores_as_on_one_device(pair, batches, tmp_path, name):
    half = np.arange(len(ITEMS)) % 2 == 0
    parts = []
    for side, model in zip(("plain", "spread"), pair, strict=True):
        function = CRITERIA[name].ready(model, batches, half, tmp_path / side)
        parts.append([function(model, batch.to(model.device)) for batch in batches])
    assert parts[0] == parts[1]


def test_searches_cost_drop_sets_as_on_one_device(pair, batches):
    sets = [{0}, {1}, {5}, {1, 2}, {0, 3, 4}, {2, 5}, set(range(1, 6))]
    for num_bytes in (0, 30_000, 10**8):
        plain, spread = (Ablations(model, batches, device_bytes=num_bytes).gains(sets) for model in pair)
        assert np.array_equal(plain, spread)
    assert answer_nll(pair[1], batches[0]).nats.equal(answer_nll(pair[0], batches[0]).nats)
    assert find_sink(pair[0], batches) == find_sink(pair[1], batches)


def test_a_cut_is_checked_against_it_and_it_is_not_cut_itself(pair):
    keep = [0, 2, 3, 5]
    assert check_surgery(pair[1], keep_blocks(pair[0], keep), keep) == 0
    with pytest.raises(SurgeryError, match="weights lie on cpu, meta; load them on one device"):
        keep_blocks(pair[1], keep)


@pytest.fixture
def small_memory(monkeypatch):
    """A machine whose memory holds three blocks or so, as far as transformers knows."""
    name = "transformers.integrations.accelerate.get_max_memory"
    monkeypatch.setattr(name, lambda max_memory=None: {"cpu": 80_000})


@pytest.mark.parametrize("choice", [{"criterion": "ablation"}, {"criterion": "cosine", "chooser": "greedy"}])
def test_prune_writes_the_same_with_a_device_map(tmp_path, small_memory, choice):
    model = write_tiny(tmp_path / "model")
    spread = load_model(model, dtype=torch.float32, device_map="auto")
    assert {p.device.type for p in spread.parameters()} == {"cpu", "meta"}
    for name in ("none", "auto"):
        recipe = write_recipe(tmp_path / "r.yaml", model=model, out=tmp_path / name, prune=choice)
        assert run_stage("prune", recipe, f"model.device_map={name}") == 0
    for file in ("scores.json", "frontier.json", "plan.json"):
        assert read_json(tmp_path / "none/prune" / file) == read_json(tmp_path / "auto/prune" / file)
    lineages = [Lineage.read(tmp_path / name / "prune/model") for name in ("none", "auto")]
    assert lineages[0] == lineages[1], "and the same weights"


@pytest.mark.parametrize(
    ("stage", "override", "message"),
    [
        ("prune", "prune.criterion=taylor", "prune.criterion: 'taylor' needs the whole model on one device"),
        ("prune", "prune.repair=linear", "prune.repair: 'linear' needs the whole model on one device"),
        (
            "prune",
            "prune.measure_speed=true",
            "prune.measure_speed: True needs the whole model on one device",
        ),
        ("prune", "model.device=cpu", "device_map: 'auto' chooses the devices; leave device at auto"),
        ("eval", "seed=0", "model.device_map: eval holds each model on one device"),
    ],
)
def test_what_cannot_be_spread_is_refused(tmp_path, capsys, stage, override, message):
    model = write_tiny(tmp_path / "model")
    recipe = write_recipe(tmp_path / "r.yaml", model=model, out=tmp_path / "run")
    assert run_stage(stage, recipe, "model.device_map=auto", override) == 2
    assert message in capsys.readouterr().err
