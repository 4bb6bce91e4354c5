"""What a draft model is worth, measured: how often it guesses right, what it and the checking of it cost."""

# B batch, T tokens, V vocabulary

import statistics
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from fastpath.blocks import skipping
from fastpath.speculative import MOST_TOKENS

REPEATS = 7


@dataclass(frozen=True)
class Assisted:
    """Transformers' assisted generation beside plain greedy decoding, prompt by prompt in turn."""

    prompts: int
    guesses: int
    """Of every round."""
    identical: int
    """Prompts with the same answer, token by token."""
    tokens: int
    """That plain decoding wrote in the time measured."""
    plain_seconds: float
    assisted_seconds: float

    @property
    def speedup(self) -> float:
        """Of the assisted answers over the plain ones."""
        return self.plain_seconds / self.assisted_seconds


@dataclass(frozen=True)
class Continued:
    """A prompt and how a model goes on."""

    ids: tuple[int, ...]
    """Prompt and continuation."""
    start: int
    """Where the continuation begins."""


def chat_ids(tokenizer: Any, prompt: str) -> list[int]:
    """The prompt as the user's turn of a chat, where the tokenizer has a template for one."""
    if getattr(tokenizer, "chat_template", None) is None:
        return list(tokenizer(prompt)["input_ids"])
    turns = [{"role": "user", "content": prompt}]
    return list(
        tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    )


@torch.no_grad()
def continuations(model: Any, prompts: Iterable[Sequence[int]], *, new_tokens: int) -> list[Continued]:
    """The model's greedy continuation of each prompt, up to `new_tokens` or its end of text."""
    made = []
    for prompt in prompts:
        ids_1T = torch.tensor([list(prompt)], device=model.device)
        whole = greedy(model, ids_1T, new_tokens=new_tokens)
        made.append(Continued(tuple(whole), len(prompt)))
    return made


@torch.no_grad()
def greedy(model: Any, ids_1T: torch.Tensor, *, new_tokens: int, **keys: Any) -> list[int]:
    """Ids of a prompt and its greedy continuation; `keys` go to generate()."""
    options = {
        "do_sample": False,
        "max_new_tokens": new_tokens,
        "temperature": None,
        "top_p": None,
        "top_k": None,
    }
    if model.generation_config.pad_token_id is None:
        options["pad_token_id"] = 0  # one sequence: nothing is padded
    mask_1T = torch.ones_like(ids_1T)
    return list(model.generate(input_ids=ids_1T, attention_mask=mask_1T, **options, **keys)[0].tolist())


@torch.no_grad()
def acceptance(draft: Any, texts: Sequence[Continued], *, drop: Collection[int] = ()) -> float:
    """Share of the tokens of greedy continuations that `draft` without the blocks `drop` would guess.

    That is the acceptance of greedy speculative decoding: the target keeps a guess that is its own choice.
    """
    right = total = 0
    missing: AbstractContextManager = skipping(draft, drop) if drop else nullcontext()
    with missing:
        for text in texts:
            ids_1T = torch.tensor([text.ids], device=draft.device)
            logits_TV = draft(ids_1T, use_cache=False).logits[0, text.start - 1 : -1]
            right += int((logits_TV.argmax(-1) == ids_1T[0, text.start :]).sum())
            total += len(text.ids) - text.start
    return right / total


@torch.no_grad()
def step_seconds(model: Any, *, context: int, tokens: Sequence[int]) -> dict[int, float]:
    """Median seconds of a pass over so many new tokens at once, after `context` tokens that are cached."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids_1T = torch.arange(3, 3 + context + max(tokens), device=model.device)[None] % vocabulary
    cache = DynamicCache(config=model.config)
    cache.activate_past_recording()  # else full windows and linear layers refuse to be cropped
    model(ids_1T[:, :context], past_key_values=cache)
    seconds: dict[int, list[float]] = {num: [] for num in tokens}
    for repeat in range(REPEATS + 1):
        for num in tokens:
            _wait(model)
            begun = time.perf_counter()
            model(ids_1T[:, context : context + num], past_key_values=cache)
            _wait(model)
            if repeat:  # the first is the warm-up
                seconds[num].append(time.perf_counter() - begun)
            cache.crop(-num)
    return {num: statistics.median(of) for num, of in seconds.items()}


def verify_costs(seconds: dict[int, float]) -> dict[int, float]:
    """{k: time of a pass over k + 1 tokens, over that of one} of the target's `step_seconds`."""
    return {num - 1: seconds[num] / seconds[1] for num in seconds if num > 1}


def checked_lengths() -> list[int]:
    """Tokens of the passes that are timed: one, and what the guesses that are considered need."""
    return list(range(1, MOST_TOKENS + 2))


def set_guesses(draft: Any, tokens: int) -> None:
    """Have the draft guess so many tokens in every round; 0 leaves it to transformers."""
    config = draft.generation_config
    config.num_assistant_tokens = tokens or None
    config.num_assistant_tokens_schedule = "constant" if tokens else None
    config.assistant_confidence_threshold = 0.0 if tokens else None


def assisted(
    model: Any, draft: Any, prompts: Sequence[Sequence[int]], *, new_tokens: int, tokens: int
) -> Assisted:
    """Answer every prompt plainly and with `tokens` guesses a round; the first one (warm-up) is not timed.

    Times need two prompts at least.
    """
    set_guesses(draft, tokens)
    seconds, identical, written = [0.0, 0.0], 0, 0
    for number, ids in enumerate(prompts):
        ids_1T = torch.tensor([list(ids)], device=model.device)
        plain, took = _timed(model, ids_1T, new_tokens)
        with_draft, took_with_draft = _timed(model, ids_1T, new_tokens, assistant_model=draft)
        identical += plain == with_draft
        if number:
            seconds = [seconds[0] + took, seconds[1] + took_with_draft]
            written += len(plain) - len(ids)
    return Assisted(len(prompts), tokens, identical, written, *seconds)


def _timed(model: Any, ids_1T: torch.Tensor, new_tokens: int, **keys: Any) -> tuple[list[int], float]:
    """(ids, seconds) of one greedy answer; its ids are on the host by then, so the device has finished."""
    begun = time.perf_counter()
    said = greedy(model, ids_1T, new_tokens=new_tokens, **keys)
    return said, time.perf_counter() - begun


def _wait(model: Any) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
