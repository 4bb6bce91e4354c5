"""The ways to one gradient of distillation that `distill_speed.py` compares: dense, and ours.

dense: what TRL-style trainers do (GKD at beta 0, arXiv 2306.13649): both models whole, the logits of both at
all positions, T^2 KL, masked mean. What is frozen on our side is frozen there too.
"""

# B rows, T tokens, N learnt tokens, D width, V vocabulary

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.capture import Teacher, predict
from distill.chunked import chunked_nats
from distill.codecs import Codec, ExpectedCodec, TopKCodec, settings_of
from distill.disjoint import training_items
from distill.examples import Example, item_examples, row_examples
from distill.head import Head, find_head, head_inputs, ready
from distill.job import Job, make_pair
from distill.losses import Objective
from distill.own_data import Row
from distill.packing import IGNORED, fill, packed_batch
from distill.pair import Pair
from distill.store import SETTINGS, Store
from distill.targets import Live
from fastpath.blocks import keep_blocks
from fastpath.config_distill import DistillConfig
from fastpath.models import load_model, load_tokenizer, save_model
from fastpath.nll import predicting
from fastpath.quiet import quiet
from fastpath.runs import write_json

CONFIG = DistillConfig(temperature=2.0)
OBJECTIVE = Objective(temperature=CONFIG.temperature)
TOP_K = 64
DENSE, DENSE_ADAPTERS = "dense, two models", "dense, two models, adapters"
PREFIX, EXPECTED, TOP = "shared prefix", "cached expected embeddings", f"cached top-{TOP_K}"

Inputs = dict[str, Tensor]
PackedRow = tuple[Example, ...]


@dataclass(frozen=True)
class Side:
    """One way to a gradient."""

    loss: Callable[[], Tensor]
    """T^2 KL in nats per learnt token."""
    trained: list[nn.Parameter]
    modules: tuple[nn.Module, ...]
    """All models that it needs."""
    over: str
    """The dense side that trains the same."""

    def step(self) -> None:
        """Forward and backward."""
        self.clear()
        self.loss().backward()

    def clear(self) -> None:
        """Forget the gradient."""
        for parameter in self.trained:
            parameter.grad = None

    @property
    def weights_bytes(self) -> int:
        """Of all models, once."""
        return sum({id(p): p.nbytes for m in self.modules for p in m.parameters()}.values())


def rows_of(tokenizer: Any, *, num_rows: int, max_tokens: int, learn: str) -> list[PackedRow]:
    """Full rows of the stage's own items, all of whose tokens are learnt, or the answers alone."""
    items = training_items(CONFIG.tasks, items_per_task=4 * num_rows * max_tokens // 512, seed=0)
    if learn == "answers":
        examples = item_examples(items, tokenizer, max_tokens=max_tokens)
    else:
        rows = [Row(item.id, "text", {"text": f"{item.prompt} {item.answer}"}) for item in items]
        examples = row_examples(rows, tokenizer, max_tokens=max_tokens, name="items")
    sizes = [len(example.ids) for example in examples]
    fullest = sorted(fill(sizes, max_tokens), key=lambda row: -sum(sizes[i] for i in row))
    return [tuple(examples[i] for i in row) for row in fullest[:num_rows]]


def num_learnt(batch: Inputs) -> int:
    """Tokens that count."""
    return int((batch["labels"] != IGNORED).sum())


def pairs_of(teacher: Path, drop: Sequence[int], vocabulary: int) -> tuple[Pair, Pair, Pair]:
    """The pairs that the stage trains in the modes full, lora and shared-lora, in float32 on the CPU."""
    original = load_model(teacher, dtype=torch.float32)
    depth = original.config.num_hidden_layers
    keep = tuple(i for i in range(depth) if i not in drop)
    with tempfile.TemporaryDirectory() as folder, quiet():
        student = Path(folder)
        save_model(keep_blocks(original, keep), load_tokenizer(teacher), student)
        full, adapters, one_set = (
            make_pair(
                Job(teacher, "", student, keep, depth, mode, None), CONFIG, dtype=torch.float32,
                device=torch.device("cpu"), trust=False, vocabulary=vocabulary,
            ).train()
            for mode in ("full", "lora", "shared-lora")
        )  # fmt: skip
    for theirs, ours in zip(trained_of(adapters), trained_of(one_set), strict=True):
        nn.init.normal_(theirs, std=0.02)  # at their start half of the gradients are 0
        ours.data.copy_(theirs.data)
    return full, adapters, one_set


def sides_of(
    teacher: Path, drop: Sequence[int], rows: list[PackedRow], vocabulary: int, folder: Path
) -> dict[str, Side]:
    """Every side of a whole step. The teacher is captured into FOLDER here: a side only reads it."""
    full, adapters, one_set = pairs_of(teacher, drop, vocabulary)
    assert full.start, "nothing is shared: the cut begins with block 0"
    batch = packed_batch(rows, pad=0)
    trained = trained_of(full)

    def dense_of(pair: Pair) -> Callable[[], Tensor]:
        return partial(dense, pair.student, pair.teacher, batch, vocabulary)

    def cached(codec: Codec) -> Side:
        store = captured(full, codec, rows, folder / type(codec).__name__)
        pair = Pair(
            full.student, None, start=full.start, keep=full.keep, drop=full.drop, matched=(),
            objective=OBJECTIVE, vocabulary=vocabulary, dtype=torch.float32, codec=codec,
        ).train()  # fmt: skip
        examples = [example for row in rows for example in row]

        def loss() -> Tensor:
            return pair(**batch, kept=store.batch(examples))[0] / num_learnt(batch)

        return Side(loss, trained, (pair,), DENSE)

    return {
        DENSE: Side(dense_of(full), trained, (full,), DENSE),
        "chunked loss": Side(partial(ours, full, batch, 0), trained, (full,), DENSE),
        PREFIX: Side(partial(ours, full, batch, full.start), trained, (full,), DENSE),
        EXPECTED: cached(ExpectedCodec(CONFIG.temperature)),
        TOP: cached(TopKCodec(TOP_K)),
        DENSE_ADAPTERS: Side(dense_of(adapters), trained_of(adapters), (adapters,), DENSE_ADAPTERS),
        "one set of weights": Side(
            partial(ours, one_set, batch, one_set.start), trained_of(one_set), (one_set,), DENSE_ADAPTERS
        ),
    }


def captured(pair: Pair, codec: Codec, rows: list[PackedRow], folder: Path) -> Store:
    """A store of what this codec keeps of the teacher's predictions on these rows."""
    folder.mkdir()
    write_json(folder / SETTINGS, {"codec": settings_of(codec)})
    store = Store(folder)
    asked = Teacher(pair.teacher, find_head(pair.teacher), pair.vocabulary)
    for row in rows:
        store.add({e.key: kept for e, kept in zip(row, predict(asked, codec, row), strict=True)})
    return store


@torch.no_grad()
def loss_sides(model: Any, batch: Inputs, num_tokens: int, vocabulary: int) -> dict[str, Side]:
    """The loss alone, from last hidden states to their gradient: a model against itself, disturbed."""
    head = find_head(model.requires_grad_(False))
    hidden_ND = hidden_of(model, batch)
    teacher_ND = hidden_ND.repeat(-(-num_tokens // len(hidden_ND)), 1)[:num_tokens]
    noise_ND = torch.randn(teacher_ND.shape, generator=torch.Generator().manual_seed(0))
    student_ND = nn.Parameter(teacher_ND + 0.1 * teacher_ND.std() * noise_ND)
    targets_N = torch.zeros(num_tokens, dtype=torch.long)

    def all_logits() -> Tensor:
        with torch.no_grad():
            teacher_NV = logits_of(head, teacher_ND, vocabulary)
        return dense_kl(logits_of(head, student_ND, vocabulary), teacher_NV, targets_N == 0)

    def chunks() -> Tensor:
        nats = chunked_nats(
            student_ND, targets_N, head=head, teacher=Live(teacher_ND, head), objective=OBJECTIVE,
            vocabulary=vocabulary,
        )  # fmt: skip
        return nats.loss / num_tokens

    losses = {DENSE: all_logits, "chunked loss": chunks}
    return {name: Side(loss, [student_ND], (model,), DENSE) for name, loss in losses.items()}


def dense(student: Any, teacher: Any, batch: Inputs, vocabulary: int) -> Tensor:
    """Both models whole, logits everywhere."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with torch.no_grad():
        teacher_BTV = teacher(**inputs, use_cache=False).logits
    student_BTV = student(**inputs, use_cache=False).logits
    predicted = slice(None), slice(-1), slice(vocabulary)
    return dense_kl(student_BTV[predicted], teacher_BTV[predicted], batch["labels"][:, 1:] != IGNORED)


def dense_kl(student_NV: Tensor, teacher_NV: Tensor, counts_N: Tensor) -> Tensor:
    """T^2 KL(teacher, student), mean over the tokens that count, from all logits at once."""
    T = OBJECTIVE.temperature
    log_q, log_p = ((logits / T).log_softmax(-1) for logits in (student_NV, teacher_NV))
    nats_N = nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    return T**2 * nats_N[counts_N].mean()


def ours(pair: Pair, batch: Inputs, start: int) -> Tensor:
    """The pair as the stage trains it; `start`: blocks that run once for both models."""
    pair.start = start
    return pair(**batch)[0] / num_learnt(batch)


def logits_of(head: Head, hidden_ND: Tensor, vocabulary: int) -> Tensor:
    """(N, V), all at once."""
    return head.logits(hidden_ND, ready(head.weights(), vocabulary))


def hidden_of(model: Any, batch: Inputs) -> Tensor:
    """(N, D): what the head reads where learnt tokens are predicted."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with head_inputs(model, predicting(batch["labels"] != IGNORED)) as seen:
        model(**inputs, use_cache=False)
    return seen[0]


def trained_of(pair: Pair) -> list[nn.Parameter]:
    """What gets a gradient, in the order of the blocks."""
    return [p for p in pair.parameters() if p.requires_grad]
