"""The model that lm-eval asks: its own HF class, with likelihoods computed without repeating work.

Three savings over lm_eval's `hf`, same numbers: a request whose tokens are the beginning of another's rides
along with it (choices of one token; nested segments of a worked solution), the prefix that all requests share
(balanced examples) is run once, and the head is applied only where a continuation token is predicted.
"""

# B sequences of a batch, T tokens, N scored tokens, V vocabulary

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from fastpath.nll import logits_at, token_nats

Request = tuple[tuple[str, str], list[int], list[int]]
"""lm-eval's own: ((context, continuation), context tokens, continuation tokens)."""


@dataclass(frozen=True)
class Shared:
    """Tokens to run once, and the requests that read their likelihood from it."""

    tokens: tuple[int, ...]
    reads: tuple[tuple[int, int, tuple[int, ...]], ...]
    """(request number, position whose logits predict its first continuation token, continuation tokens)."""


class FastLM(HFLM):
    """lm-eval's HF model, with shared prefixes and a head applied only to continuation tokens."""

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_size: int, advance: Callable[[float], None]
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self._advance = advance

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        """As lm-eval's, silent: progress is shown by whoever built this model."""
        return super().loglikelihood(requests, disable_tqdm=True)

    @torch.no_grad()
    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether greedy decoding would write it) of each continuation."""
        sequences = merge(requests, max_length=self.max_length)
        prefix = self._shared_prefix(sequences)
        answers: list[tuple[float, bool] | None] = [None] * len(requests)
        for chunk in _chunks(sequences, int(override_bs or self.batch_size)):
            self._score(chunk, prefix, answers)
            self._advance(sum(len(s.reads) for s in chunk))
        for (strings, _, _), answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", strings, answer)
        return [answer for answer in answers if answer is not None]

    def _shared_prefix(self, sequences: Sequence[Shared]) -> tuple[int, Any]:
        """(length, KV cache) of the tokens that all sequences begin with; (0, None) where it is not plain."""
        first, last = min(s.tokens for s in sequences), max(s.tokens for s in sequences)
        same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        length = min(same, *(at for s in sequences for _, at, _ in s.reads))
        if length < 8 or len(sequences) < 2:
            return 0, None
        ids = torch.tensor([first[:length]], device=self.device)
        out = self.model(input_ids=ids, use_cache=True)
        cache = getattr(out, "past_key_values", None)
        # Sliding windows and recurrent states cannot be cut back and repeated as plainly as full attention.
        if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
            return 0, None
        return length, cache

    def _score(self, chunk: Sequence[Shared], prefix: tuple[int, Any], answers: list[Any]) -> None:
        length, shared = prefix
        width = max(len(s.tokens) for s in chunk) - length
        ids_BT = torch.zeros((len(chunk), width), dtype=torch.long)
        at_BT = torch.zeros((len(chunk), width), dtype=torch.bool)
        for row, sequence in enumerate(chunk):
            tail = sequence.tokens[length:]
            ids_BT[row, : len(tail)] = torch.tensor(tail)
            for _, at, continuation in sequence.reads:
                at_BT[row, at - length : at - length + len(continuation)] = True
        cache = None
        if shared is not None:
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(chunk))
        # Right-padded and causal: no real token sees a pad, so no mask is needed.
        logits_NV = logits_at(
            self.model,
            at_BT.to(self.device),
            input_ids=ids_BT.to(self.device),
            past_key_values=cache,
            use_cache=cache is not None,
        )
        row_of = (at_BT.flatten().cumsum(0) - 1).view_as(at_BT)
        for row, sequence in enumerate(chunk):
            for number, at, continuation in sequence.reads:
                rows = row_of[row, at - length : at - length + len(continuation)].to(self.device)
                nats, greedy = token_nats(logits_NV[rows], torch.tensor(continuation, device=self.device))
                answers[number] = (-nats.sum().item(), bool(greedy.all()))


def merge(requests: Sequence[Request], *, max_length: int) -> list[Shared]:
    """The fewest sequences that hold every request, longest first; the beginning of another rides along."""
    tokens = []
    for _, context, continuation in requests:
        whole = tuple((context + continuation)[-(max_length + 1) :])
        tokens.append((whole[:-1], len(whole) - len(continuation) - 1, tuple(continuation)))
    order = sorted(range(len(requests)), key=lambda n: tokens[n][0], reverse=True)
    groups: list[tuple[tuple[int, ...], list[int]]] = []
    for n in order:
        sequence = tokens[n][0]
        if groups and groups[-1][0][: len(sequence)] == sequence:
            groups[-1][1].append(n)
        else:
            groups.append((sequence, [n]))
    merged = [Shared(seq, tuple((n, tokens[n][1], tokens[n][2]) for n in members)) for seq, members in groups]
    return sorted(merged, key=lambda s: (-len(s.tokens), s.tokens))


def _chunks(sequences: list[Shared], batch_size: int) -> Iterator[list[Shared]]:
    for start in range(0, len(sequences), batch_size):
        yield sequences[start : start + batch_size]
