"""Repairs without training: each is a function in REPAIRS from a cut to the weights that mend it.

Every repair changes weights that stay, so the export is the same stock model at the same speed. What a repair
is worth is judged in prune/judge.py, on items that it has not seen.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastpath.blocks import find_blocks
from fastpath.data import Batch
from fastpath.errors import SurgeryError
from fastpath.plan import Plan, spans_of
from fastpath.stepping import stream_after
from fastpath.writers import find_writers, scaled, transformed
from prune.fold import normal_equations, towards_identity

STRENGTHS = (1e-2, 1e-1, 1.0, 10.0)
"""Ridge strengths tried, in mean eigenvalues of the Gram matrix."""


@dataclass(frozen=True)
class Case:
    """A cut model to be mended, and what may be looked at for it."""

    base: Any
    cut: Any
    """The base without the dropped blocks, computing in the same dtype on the same device."""
    plan: Plan
    batches: Sequence[Batch]
    """What a repair is fitted on."""
    losses: Callable[[Any, int, Sequence[Mapping[str, Tensor]]], list[float]]
    """(model, block, changes of its weights from that block on) -> nats with each change, on items that are
    not in `batches`: what strengths are chosen by."""


@dataclass(frozen=True)
class Mended:
    """What a repair would change."""

    weights: dict[str, Tensor]
    """Name in the cut model's state dict -> its new value."""
    notes: tuple[str, ...]
    """What was done to each dropped span, or why nothing was."""


def linear(case: Case) -> Mended:
    """The map of what block p writes, folded into its last linear map, that stands in for the span after p.

    ReplaceMe (arXiv 2505.02819), section 3.1, with a ridge towards the identity. Span by span in rising
    order, each fitted on the streams of the model as mended so far, towards those of the base. The strength
    is chosen by `case.losses`; no map at all is one of the choices.
    """
    weights: dict[str, Tensor] = {}
    notes = []
    writers = find_writers(case.cut)
    path = find_blocks(case.cut)[0]
    for start, end in spans_of(case.plan.drop):
        at = case.plan.keep.index(start - 1) if start else -1
        if at < 0 or not writers[at].found:
            reason = f"block {start - 1} has no map to fold into" if start else "no block comes before it"
            notes.append(f"{span_words(start, end)}: left as it is, {reason}")
            continue
        writer = writers[at].found[0]
        with changed(case.cut, weights):
            sums = normal_equations(case.base, case.cut, case.batches, writer, at=at, last=end - 1)
            tried: dict[float, dict[str, Tensor]] = {math.inf: {}}
            for strength in STRENGTHS:
                map_DD = towards_identity(*sums, strength=strength)
                new = transformed(writer, map_DD)
                tried[strength] = {f"{path}.{at}.{key}": value for key, value in new.items()}
            losses = case.losses(case.cut, at, list(tried.values()))
        best = min(zip(losses, tried, strict=True), key=lambda pair: pair[0])[1]
        weights |= tried[best]
        fate = "no map helps" if best == math.inf else f"a map folded into block {start - 1}, ridge {best:g}"
        notes.append(f"{span_words(start, end)}: {fate}")
    return Mended(weights, tuple(notes))


def norm(case: Case) -> Mended:
    """Scale all that is written before a dropped span by what the span did to the stream's length.

    Prune&Comp (arXiv 2507.18212): alpha = mean |stream after the span| / mean |stream before it|, folded into
    the embeddings and every writer before the span; the blocks' own norms make them blind to the scale. The
    first token of each sequence is left out: it is often the attention sink, hundreds of times longer than
    the others, and would set alpha by itself.
    """
    spans = spans_of(case.plan.drop)
    alphas = [_length_ratio(case, start, end) for start, end in spans]
    embeddings = case.cut.get_input_embeddings()
    name = next(n for n, module in case.cut.named_modules() if module is embeddings)
    weights = {f"{name}.weight": embeddings.weight.data * math.prod(alphas)}
    path = find_blocks(case.cut)[0]
    for i, writers in enumerate(find_writers(case.cut)):
        later = [a for a, (start, _) in zip(alphas, spans, strict=True) if start > case.plan.keep[i]]
        for writer in writers.found:
            new = scaled(writer, math.prod(later))
            weights |= {f"{path}.{i}.{key}": value for key, value in new.items()}
    _check_scaled(case, weights, alphas)
    notes = (
        f"{span_words(a, b)}: written before it times {x:.3f}"
        for (a, b), x in zip(spans, alphas, strict=True)
    )
    return Mended(weights, tuple(notes))


def _length_ratio(case: Case, start: int, end: int) -> float:
    """Mean length of the base's stream after blocks start..end-1 over that before them.

    Over real tokens but the first of each sequence.
    """
    sums = [0.0, 0.0]
    for batch in case.batches:
        here = batch.to(case.base.device)
        real_BT = here.attention.clone()
        real_BT[:, 0] = False  # right-padded, so this is the first real token
        for side, block in enumerate((start - 1, end - 1)):
            x_ND = stream_after(case.base, block, here.inputs)[real_BT]
            sums[side] += x_ND.double().norm(dim=-1).sum().item()
    return sums[1] / sums[0]


def _check_scaled(case: Case, weights: Mapping[str, Tensor], alphas: Sequence[float]) -> None:
    """SurgeryError unless the first block's output is scaled: learned positions, for one, would not be."""
    first = case.batches[0].to(case.cut.device)
    wanted_BTD = stream_after(case.cut, 0, first.inputs) * math.prod(
        a for a, (start, _) in zip(alphas, spans_of(case.plan.drop), strict=True) if start > case.plan.keep[0]
    )
    with changed(case.cut, weights):
        got_BTD = stream_after(case.cut, 0, first.inputs)
    if (got_BTD - wanted_BTD).norm() > 0.02 * wanted_BTD.norm():
        raise SurgeryError(
            f"{type(case.cut).__name__}: its stream is not only embeddings and linear maps, so it cannot be "
            f"scaled; {_works({'norm', *_refusals(case.base)})}"
        )


def merge(case: Case) -> Mended:
    """Add to the block before a dropped span what its blocks' weights differ by from that block's.

    LaCo (arXiv 2402.11187), equation 1: theta_p + sum over the span of (theta_k - theta_p). A baseline.
    """
    path, blocks = find_blocks(case.base)
    weights: dict[str, Tensor] = {}
    notes = []
    for start, end in spans_of(case.plan.drop):
        if not start:
            notes.append(f"{span_words(start, end)}: left as it is, no block comes before it")
            continue
        kept, *gone = (blocks[i].state_dict() for i in range(start - 1, end))
        if any(
            {k: v.shape for k, v in other.items()} != {k: v.shape for k, v in kept.items()} for other in gone
        ):
            notes.append(f"{span_words(start, end)}: left as it is, its blocks are of other kinds")
            continue
        at = case.plan.keep.index(start - 1)
        for key, value in kept.items():
            theta = value.double()
            total = theta + sum(other[key].double() - theta for other in gone)
            weights[f"{path}.{at}.{key}"] = total.to(value.dtype)
        notes.append(f"{span_words(start, end)}: merged into block {start - 1}")
    return Mended(weights, tuple(notes))


REPAIRS: dict[str, Callable[[Case], Mended]] = {
    "none": lambda case: Mended({}, ()),
    "linear": linear,
    "norm": norm,
    "merge": merge,
}


def check_repair(method: str, model: Any) -> None:
    """Raise SurgeryError, before anything is scored, if this repair can never be made to this model."""
    if method not in ("linear", "norm"):
        return
    refused = _refusals(model)
    if method in refused:
        raise SurgeryError(f"{type(model).__name__}: {refused[method]}; {_works(refused)}")


def _refusals(model: Any) -> dict[str, str]:
    """Repair -> why it can never be made to this model."""
    writers = find_writers(model)
    refused = {}
    if not any(of_block.found for of_block in writers):
        refused["linear"] = (
            "no linear map of its blocks writes straight to the stream (a norm follows, or experts are "
            "mixed), so a linear repair cannot be folded"
        )
    if model.get_output_embeddings().weight is model.get_input_embeddings().weight:
        refused["norm"] = "its embeddings are tied: scaling them scales the logits too"
    elif not all(of_block.complete for of_block in writers):
        refused["norm"] = "its blocks write to the stream through norms or experts, which cannot be scaled"
    return refused


def _works(refused: Collection[str]) -> str:
    """What may stand in the recipe instead."""
    rest = [method for method in REPAIRS if method not in (*refused, "none")]
    return f"prune.repair: {', '.join(rest)} or none works"


@contextmanager
def changed(model: Any, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the context the model has these weights; afterwards its own again."""
    state = model.state_dict()
    own = {key: state[key] for key in weights}
    put(model, weights)
    try:
        yield
    finally:
        put(model, own)


def put(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Give a model new weights in its own dtype; nothing is written into the old tensors."""
    state = model.state_dict()
    new = {key: value.to(state[key]) for key, value in weights.items()}
    left = model.load_state_dict(new, strict=False, assign=True)
    assert not left.unexpected_keys, left.unexpected_keys


def span_words(start: int, end: int) -> str:
    """A half-open span as people read it."""
    return f"block {start}" if end == start + 1 else f"blocks {start} to {end - 1}"
