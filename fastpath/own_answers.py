"""What a model itself writes after a prompt, and whether that ends in an item's gold result."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from fastpath.items.item import Item
from fastpath.quiet import quiet

NEXT = "Question:"
"""What a model that goes on after its answer begins with; nothing from there on is the answer."""


@torch.no_grad()
def write_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    processors: Sequence[LogitsProcessor] = (),
    raw: bool = False,
) -> list[dict[str, Any]]:
    """{prompt, answer, finished} of each prompt, all written in one batch: the likeliest token at each step.

    `processors` change the scores before that choice. Finished is what came to its end or the next question.
    raw: a prompt is all there is before the answer (no begin token is added), and no question ends it.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    rows = [tokenizer(prompt, add_special_tokens=not raw)["input_ids"] for prompt in prompts]
    inputs = left_padded(rows, pad or 0, model.device)
    end = model.generation_config.eos_token_id
    with quiet():
        made = model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=max_new_tokens,
                do_sample=False,
                repetition_penalty=1.0,
                no_repeat_ngram_size=0,
                stop_strings=None if raw else [f"\n{NEXT}"],
                eos_token_id=end,
                pad_token_id=pad,
            ),
            logits_processor=LogitsProcessorList(processors),
            tokenizer=tokenizer,
        )
    ends = set(end) if isinstance(end, list) else {end}
    said = []
    for prompt, ids in zip(prompts, made[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
        text = tokenizer.decode(ids, skip_special_tokens=True)
        finished = (not raw and f"\n{NEXT}" in text) or not ends.isdisjoint(ids)
        answer = text.split(NEXT)[0]
        said.append({"prompt": prompt, "answer": text if raw else answer.strip(), "finished": finished})
    return said


def ends_in_gold(item: Item, answer: str) -> bool:
    """Whether the last number of an answer is the result of the item's last step."""
    start, end = item.steps[-1]
    numbers = re.findall(r"-?\d+(?:\.\d+)?", answer.replace(",", ""))
    return bool(numbers) and float(numbers[-1]) == float(item.answer[start:end])


def left_padded(sequences: Sequence[list[int]], pad: int, device: Any) -> dict[str, torch.Tensor]:
    """int64 (B, T) input_ids and attention_mask, pads in front: what generate() goes on from."""
    width = max(map(len, sequences))
    free = [width - len(ids) for ids in sequences]
    rows = {
        "input_ids": [[pad] * n + ids for n, ids in zip(free, sequences, strict=True)],
        "attention_mask": [[0] * n + [1] * (width - n) for n in free],
    }
    return {name: torch.tensor(values, device=device) for name, values in rows.items()}
