"""A kept teacher is the live one: same gradients, captured once for every order; faults are named."""

from random import Random

import pytest
import torch
from tiny import byte_tokenizer, tiny_llama

from distill import capture as capture_module
from distill.capture import Teacher, capture, predict
from distill.codecs import ExpectedCodec, TopKCodec, settings_of
from distill.data import Data, Numbered
from distill.examples import Example
from distill.head import find_head
from distill.losses import Objective
from distill.pair import Pair
from distill.store import Store
from distill.students import with_adapters
from fastpath.blocks import keep_blocks
from fastpath.config_distill import DistillConfig
from fastpath.errors import RunError, UserError
from fastpath.items.catalog import generate

V = 259  # of the tokenizer; the model's head has one row more
KEEP = (0, 1, 4, 5)
PLAN = {"keep": KEEP, "drop": (2, 3), "matched": (), "vocabulary": V, "dtype": torch.float32}


@pytest.fixture(autouse=True, name="cache")
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPATH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def teacher():
    model = tiny_llama()
    return Teacher(model, find_head(model), V)


def examples(number=24, *, longest=60, seed=0):
    random = Random(seed)
    made = []
    for _ in range(number):
        size = random.randint(2, longest)
        counts = [False] + [random.random() < 0.5 for _ in range(size - 2)] + [True]
        made.append(Example(tuple(random.randrange(256) for _ in range(size)), tuple(counts), "text"))
    return made


def store_of(codec, *, weights="0" * 64):
    return Store.of({
        "teacher_weights_sha256": weights, "dtype": "float32", "attention": "sdpa", "vocabulary": V,
        "codec": settings_of(codec),
    })  # fmt: skip


def rows_of(config, *, seed=0, packed=True, store=None):
    items = generate("one_hop", split="distillation", seed=0, num_items=12)
    items += generate("worked", split="distillation", seed=0, num_items=12)
    return Numbered(Data(items, {}), config, byte_tokenizer(), seed=seed, packed=packed, store=store)


def samples_of(rows):
    return list({e.key: e for i in range(len(rows)) for e in rows[i][1]}.values())


def nats_and_gradients(pair, batch):
    pair.zero_grad()
    batch = {name: value for name, value in batch.items() if name != "rows"}
    loss, kd, ce, _ = pair(**batch)
    (loss / batch["labels"].ne(-100).sum()).backward()
    return (loss, kd, ce), {n: p.grad.clone() for n, p in pair.named_parameters() if p.grad is not None}


def relative(got, want):
    return ((got - want).norm() / want.norm()).item()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("name", ["top-k", "expected"])
def test_gradients_are_those_of_the_live_teacher(teacher, name, temperature, packed):
    """k = V, or the expected embedding, against the model itself, in batches that were never captured."""
    codec = TopKCodec(V) if name == "top-k" else ExpectedCodec(temperature)
    config = DistillConfig(max_tokens=512, steps=2, batch_rows=4, micro_rows=4, last_blocks=2)
    store = store_of(codec)
    rows = rows_of(config, packed=packed, store=store)
    capture(store, teacher, samples_of(rows), batch_tokens=700)
    objective = Objective(kd_weight=0.7, temperature=temperature)
    student = with_adapters(keep_blocks(teacher.model, KEEP), config, range(2, 4))
    torch.manual_seed(0)
    for parameter in student.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    live = Pair(student, tiny_llama(), start=2, objective=objective, **PLAN)
    kept = Pair(student, None, start=2, objective=objective, **PLAN, codec=store.codec)
    for first in (0, 4):
        batch = rows.batch([rows[first + i] for i in range(4)])
        want = nats_and_gradients(live, {k: v for k, v in batch.items() if k != "kept"})
        got = nats_and_gradients(kept, batch)
        for a, b in zip(got[0], want[0], strict=True):
            assert a.item() == pytest.approx(b.item(), rel=1e-6)
        assert got[1].keys() == want[1].keys() != set()
        for key, gradient in want[1].items():
            assert relative(got[1][key], gradient) <= 1e-5
        whole = [torch.cat([g[key].flatten() for key in want[1]]) for g in (got[1], want[1])]
        assert relative(*whole) <= 1e-6


def test_head_is_trained_by_top_k(teacher):
    store = store_of(TopKCodec(V))
    config = DistillConfig(max_tokens=512, steps=1, batch_rows=4, micro_rows=4)
    rows = rows_of(config, store=store)
    capture(store, teacher, samples_of(rows), batch_tokens=700)
    student = tiny_llama(depth=4, seed=1)
    batch = rows.batch([rows[i] for i in range(4)])
    live = Pair(student, tiny_llama(), start=0, objective=Objective(), **PLAN)
    kept = Pair(student, None, start=0, objective=Objective(), **PLAN, codec=store.codec)
    want = nats_and_gradients(live, {k: v for k, v in batch.items() if k != "kept"})[1]
    got = nats_and_gradients(kept, batch)[1]
    name = "student.model.embed_tokens.weight"
    assert relative(got[name], want[name]) <= 1e-6


def test_fewer_ids_are_a_smaller_distance(teacher):
    """The other ids as one bucket: never more than the full divergence, and all of it at k = V."""
    config = DistillConfig(max_tokens=512, steps=1, batch_rows=4, micro_rows=4)
    student, found = tiny_llama(depth=4, seed=1), []
    for k in (1, 8, 64, V):
        store = store_of(TopKCodec(k))
        rows = rows_of(config, store=store)
        capture(store, teacher, samples_of(rows), batch_tokens=700)
        pair = Pair(student, None, start=0, objective=Objective(), **PLAN, codec=store.codec)
        found.append(nats_and_gradients(pair, rows.batch([rows[i] for i in range(4)]))[0][1].item())
    assert found == sorted(found)


def test_other_order_packing_and_seed_capture_nothing_again(teacher, monkeypatch):
    store = store_of(TopKCodec(8))
    config = DistillConfig(max_tokens=512, steps=12, batch_rows=8, micro_rows=4)
    capture(store, teacher, samples_of(rows_of(config)), batch_tokens=700)
    num_samples = len(store)
    assert num_samples == 24, "twelve items of each task, each once"
    for seed, packed in ((0, False), (1, True), (2, False)):
        again = Store(store.folder)
        rows = rows_of(config, seed=seed, packed=packed, store=again)
        assert [r[1] for r in map(rows.__getitem__, range(8))] != [
            r[1] for r in map(rows_of(config).__getitem__, range(8))
        ]
        with monkeypatch.context() as patch:
            patch.setattr(capture_module, "predict", None)
            capture(again, teacher, samples_of(rows), batch_tokens=700)
        batch = rows.batch([rows[i] for i in range(4)])
        assert len(batch["kept"]["ids"]) == batch["labels"].ne(-100).sum()
        at = batch["labels"][batch["labels"] != -100]
        in_order = torch.cat([torch.tensor([i for i, c in zip(e.ids, e.counts, strict=True) if c])
                              for j in range(4) for e in rows[j][1]])  # fmt: skip
        assert torch.equal(at, in_order), "the store's order of tokens is the batch's"


@pytest.mark.parametrize("codec", [TopKCodec(V), ExpectedCodec(1.0)])
def test_what_is_captured_does_not_depend_on_the_batch(teacher, codec):
    """Alone, among others, padded: the same to 1e-4 of their spread, which is float32 in another order."""
    made = examples()
    together = predict(teacher, codec, made)
    for example, kept in zip(made, together, strict=True):
        (logits_CV,) = teacher.logits([example])
        assert codec.difference(kept, logits_CV, teacher.head).max() <= 1e-4


def test_killed_capture_goes_on_to_the_same_bits(teacher, monkeypatch, cache):
    made = examples()
    calm = store_of(TopKCodec(8))
    capture(calm, teacher, made, batch_tokens=120)
    want = {e.key: calm[e.key] for e in made}
    monkeypatch.setenv("FASTPATH_CACHE", str(cache / "other"))
    monkeypatch.setattr(capture_module, "SHARD_BYTES", 1)
    real, calls = predict, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) in (3, 7):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(capture_module, "predict", dies)
    sizes = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            capture(store_of(TopKCodec(8)), teacher, made, batch_tokens=120)
        sizes.append(len(store_of(TopKCodec(8))))
    assert 0 < sizes[0] < sizes[1] < len(made)
    (store_of(TopKCodec(8)).folder / ".00099.safetensors.unfinished").write_bytes(b"half")
    store = store_of(TopKCodec(8))
    capture(store, teacher, made, batch_tokens=120)
    for key, kept in want.items():
        assert all(torch.equal(store[key][name], tensor) for name, tensor in kept.items())
    store.check()


def filled(teacher, made, codec=TopKCodec(8)):  # noqa: B008 (frozen)
    store = store_of(codec)
    capture(store, teacher, made, batch_tokens=700)
    return store


def test_other_weights_or_codec_have_a_store_of_their_own(teacher):
    made = examples()
    store = filled(teacher, made)
    for other in (
        store_of(TopKCodec(8), weights="1" * 64),
        store_of(TopKCodec(9)),
        store_of(ExpectedCodec(1)),
    ):
        assert len(other) == 0
        assert other.folder != store.folder
    assert len(store_of(TopKCodec(8))) == len(made)


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def test_corrupted_shard_is_named_and_captured_again_once_deleted(teacher):
    made = examples()
    store = filled(teacher, made)
    (path,) = store.folder.glob("*.safetensors")
    whole = path.read_bytes()
    flip(path, len(whole) - 5)
    with pytest.raises(RunError, match=r"00000.safetensors: its content was changed"):
        Store(store.folder).check()
    flip(path, len(whole) - 5)
    Store(store.folder).check()
    path.write_bytes(whole[:-7])
    with pytest.raises(RunError, match=r"00000.safetensors: corrupt or incomplete .* delete it"):
        Store(store.folder)
    path.write_bytes(whole)
    flip(path, whole.index(made[0].key.encode()))
    with pytest.raises(RunError, match=r"00000\.safetensors"):
        Store(store.folder).check()
    path.unlink()
    capture(Store(store.folder), teacher, made, batch_tokens=700)
    assert len(Store(store.folder)) == len(made)


def test_shard_of_another_store_is_refused(teacher):
    made = examples()
    store, other = filled(teacher, made), store_of(TopKCodec(8), weights="1" * 64)
    (path,) = store.folder.glob("*.safetensors")
    (other.folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(RunError, match=f"{other.folder}.*was captured of another teacher"):
        Store(other.folder)
    settings = store.folder / "store.json"
    settings.write_text(settings.read_text().replace("0" * 64, "2" * 64))
    with pytest.raises(RunError, match=r"store\.json: teacher_weights_sha256 is '222"):
        store_of(TopKCodec(8))


def test_more_ids_than_tokens_are_refused(teacher):
    with pytest.raises(UserError, match="teacher_top_k: 260 of 259 tokens; at most 259"):
        predict(teacher, TopKCodec(V + 1), examples(1))


def test_head_with_a_softcap_has_no_expected_embedding():
    model = tiny_llama()
    capped = Teacher(model, find_head(model).__class__(model.get_output_embeddings(), softcap=30.0), V)
    with pytest.raises(UserError, match="neither bias nor softcap; top-k works"):
        predict(capped, ExpectedCodec(1.0), examples(1))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss": "reverse_kl"}, "reverse_kl needs the original"),
        ({"hidden_weight": 0.5}, "hidden_weight needs the original"),
        ({"kd_weight": 0.0}, "kd_weight: 0 learns nothing of what is kept; live works"),
        ({"local_steps": 2}, "local_steps needs the original"),
        ({"on_policy": {"steps": 2}}, "on_policy.steps needs the original"),
        ({"mode": "shared-lora"}, "shared-lora holds the original"),
        ({"temperature": 1.7}, "temperature: 1.7 is not kept"),
    ],
)
def test_recipe_that_a_kept_teacher_cannot_serve_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        DistillConfig(teacher="top-k", **keys)
