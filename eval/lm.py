"""The model that lm-eval asks: its own HF class, with likelihoods computed without repeating work.

Three savings over lm_eval's `hf`, same numbers. A context is run once, whatever the number of choices after
it: they branch off in one row of tokens (rows.py), each seeing the context and itself (tree attention, as in
SpecInfer, Miao et al. 2024). The prefix that all requests share (few-shot examples) is run once, and its KV
cache stands before every row. The head is applied only where a continuation token is predicted.
"""

# B rows of a batch, T tokens, N scored positions, V vocabulary

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from eval.rows import Batch, Request, Row, batches, collate, merge, shared_prefix
from fastpath.blocks import TOLERANCE
from fastpath.nll import logits_at, token_nats

Answer = tuple[float, bool]
"""(log-likelihood in nats, whether greedy decoding would write it)."""

MIN_PREFIX = 8  # tokens: a shorter one costs more calls than it saves
MAX_MASKED = 1024  # tokens of a row whose mask is written out: 4 MiB a row in float32


@register_model("fastpath")
class FastLM(HFLM):
    """lm-eval's HF model, with contexts and prefixes run once and a head only at continuation tokens.

    Takes what `hf` takes. `advance` is told the number of requests done after each batch.
    """

    num_models = 1

    def __init__(
        self,
        pretrained: Any,
        tokenizer: Any = None,
        *,
        advance: Callable[[float], Any] = lambda _: None,
        **settings: Any,
    ) -> None:
        super().__init__(pretrained=pretrained, tokenizer=tokenizer, **settings)
        self.advance = advance

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        """As lm-eval's, silent: progress is shown by whoever built this model."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> list[str]:
        """As lm-eval's, silent."""
        return super().generate_until(requests, disable_tqdm=True)

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **settings: Any) -> Tensor:
        tokens = super()._model_generate(context, max_length, stop, **settings)
        self.advance(len(context))
        return tokens

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[Answer]:
        """(log-likelihood in nats, whether greedy decoding would write it) of each continuation."""
        if self.backend != "causal":
            return super()._loglikelihood_tokens(list(requests), disable_tqdm, override_bs)
        size = override_bs or self.batch_size
        size = self._detect_batch_size() if size == "auto" else size
        answers = self._answers(requests, batch_size=int(size))
        for (strings, _, _), answer in zip(requests, answers, strict=True):
            if strings is not None:  # a window of a rolling likelihood has no name
                self.cache_hook.add_partial("loglikelihood", strings, answer)
        return answers

    def _answers(self, requests: Sequence[Request], *, batch_size: int) -> list[Answer]:
        return self._score(requests, batch_size, *self._abilities, self.advance)[0]

    @torch.no_grad()
    def _score(
        self,
        requests: Sequence[Request],
        batch_size: int,
        caching: bool,
        branching: bool,
        advance: Callable[[float], Any],
    ) -> list[list[Answer]]:
        """The answer to every request: a list for each model that `_forward` runs, which here is one."""
        if not requests:
            return [[] for _ in range(self.num_models)]
        rows = merge(requests, max_length=self.max_length, branching=branching)
        prefix = shared_prefix(rows) if caching and len(rows) > 1 else []
        prefix = prefix if len(prefix) >= MIN_PREFIX else []
        shared = self._grown(self._empty(), prefix) if prefix else None
        answers: list[list[Any]] = [[None] * len(requests) for _ in range(self.num_models)]
        for chunk in batches(rows, batch_size=batch_size, alone=MAX_MASKED if caching else self.max_length):
            length, caches = len(prefix), shared
            alone = len(chunk) == 1 and chunk[0].branches and len(chunk[0].tokens) > MAX_MASKED
            if alone and caching and chunk[0].trunk > length:  # else the prefix is all of the trunk
                length, trunk = chunk[0].trunk, chunk[0].tokens[length : chunk[0].trunk]
                caches = self._grown(shared or self._empty(), trunk)
            batch = collate(chunk, prefix=length, device=self.device)
            repeated = [_repeated(cache, len(chunk)) for cache in caches] if caches else None
            for logits_NV, mine in zip(self._run(batch, length, repeated), answers, strict=True):
                _read(logits_NV, batch, chunk, length, mine)
            advance(sum(len(row.reads) for row in chunk))
        return answers

    def _run(self, batch: Batch, length: int, caches: Sequence[Any] | None) -> Iterator[Tensor]:
        inputs: dict[str, Any] = {"input_ids": batch.ids_BT}
        if batch.branches:
            inputs["attention_mask"] = batch.mask(length, self.model.dtype)
            inputs["position_ids"] = batch.depths_BT
        return self._forward(batch.at_BT, caches, inputs)

    def _forward(self, at_BT: Tensor, caches: Sequence[Any] | None, inputs: Any) -> Iterator[Tensor]:
        """(N, V) logits at the marked positions, of each model in turn; its cache grows by the tokens run."""
        yield self._logits(at_BT, caches and caches[0], inputs)

    def _logits(self, at_BT: Tensor, cache: Any, inputs: Any) -> Tensor:
        precision = self.mixed_precision_dtype
        with torch.autocast(self.device.type, dtype=precision, enabled=precision is not None):
            return logits_at(self.model, at_BT, past_key_values=cache, use_cache=cache is not None, **inputs)

    def _empty(self) -> list[Any]:
        return [DynamicCache()]

    def _grown(self, caches: Sequence[Any], tokens: list[int]) -> list[Any]:
        """The caches after some more tokens; the given ones stay as they are."""
        caches = [_repeated(cache, 1) for cache in caches]
        ids_BT = torch.tensor([tokens], device=self.device)
        nowhere_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for _ in self._forward(nowhere_BT, caches, {"input_ids": ids_BT}):
            pass
        return caches

    @cached_property
    def _abilities(self) -> tuple[bool, bool]:
        """(whether a KV cache can stand before many rows, whether rows can branch): tried, not looked up."""
        if _windows(self.model.config):
            return False, False
        caching = self._caches_plainly()
        for branching in (True, False):
            if self._agrees(caching, branching):
                return caching, branching
        return False, False

    def _caches_plainly(self) -> bool:
        """Sliding windows and recurrent states cannot be repeated as plainly as full attention."""
        ids_BT = torch.ones((1, 2), dtype=torch.long, device=self.device)
        with torch.no_grad():
            cache = getattr(self.model(input_ids=ids_BT, use_cache=True), "past_key_values", None)
        return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)

    def _agrees(self, caching: bool, branching: bool) -> bool:
        """Whether a few requests are answered as they are without caches and branches."""
        vocabulary = self.model.config.get_text_config(decoder=True).vocab_size
        context = [(7 * i + 3) % vocabulary for i in range(MIN_PREFIX + 4)]
        requests: list[Request] = [
            (None, context, [5, 2, 6]),
            (None, context, [4, 1]),
            (None, [*context, 1, 9], [5, 3, 1]),
        ]
        try:
            got = self._score(requests, len(requests), caching, branching, lambda _: None)
        except torch.OutOfMemoryError:
            raise  # a RuntimeError too, and no sign of what the model can do
        except (
            TypeError,
            ValueError,
            RuntimeError,
            IndexError,
            AttributeError,
        ):  # takes no such mask, position or cache
            return False
        want = self._score(requests, len(requests), False, False, lambda _: None)
        nats = torch.tensor([[[n for n, _ in one] for one in answers] for answers in (got, want)])
        limit = TOLERANCE[self.model.dtype] * nats[1].abs().max()
        return bool((nats[0] - nats[1]).abs().max() <= limit)


def _read(logits_NV: Tensor, batch: Batch, rows: Sequence[Row], length: int, answers: list[Any]) -> None:
    """Fill in the answers to the requests of a batch."""
    place_BT = (batch.at_BT.flatten().cumsum(0) - 1).view_as(batch.at_BT).cpu()
    for number, row in enumerate(rows):
        places = torch.cat([place_BT[number, [i - length for i in at]] for _, at, _ in row.reads])
        targets = torch.tensor([token for _, _, continuation in row.reads for token in continuation])
        nats, greedy = token_nats(logits_NV[places.to(logits_NV.device)], targets.to(logits_NV.device))
        sizes = [len(at) for _, at, _ in row.reads]
        pieces = zip(row.reads, nats.cpu().split(sizes), greedy.cpu().split(sizes), strict=True)
        for (request, _, _), of_nats, of_greedy in pieces:
            answers[request] = (-of_nats.sum().item(), bool(of_greedy.all()))


def _repeated(cache: Any, rows: int) -> Any:
    """A cache of one row, for many: views until the model adds to it, which leaves the given one alone."""
    wide = copy.copy(cache)
    wide.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in wide.layers:
        if layer.get_seq_length():
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
    return wide


def _windows(config: PreTrainedConfig) -> bool:
    """Whether some block attends to a window: neighbours in a row are not neighbours in a sequence."""
    text = config.get_text_config(decoder=True)
    names = ("sliding_window", "window_size", "attention_window_size", "attention_chunk_size")
    return any(getattr(text, name, None) for name in names)
