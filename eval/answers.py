"""One prompt, answered by each model: what a number does not show."""

from typing import Any

import torch

NEW_TOKENS = 48


@torch.no_grad()
def answer(model: Any, tokenizer: Any, prompt: str) -> str:
    """The model's greedy answer (at most 48 tokens), by its chat template where it has one."""
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        inputs = tokenizer(prompt, return_tensors="pt")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    tokens = model.generate(
        **inputs.to(model.device), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=pad
    )
    return tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
