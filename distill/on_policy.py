"""On-policy batches: the student goes on from the prompts, and what it wrote takes the place of the answers.

On-policy distillation (GKD, arXiv 2306.13649; MiniLLM, arXiv 2306.08543): a cut model's own mistakes are
where it has to learn what the original would do next. No gradient flows through the choice of the tokens:
both models' whole predictions are compared at each.
"""

# B rows, T tokens

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
)

from distill.examples import Example
from distill.packing import IGNORED, padded_batch
from distill.pair import Pair
from distill.self_data import SeededSampling
from fastpath.config_distill import OnPolicyConfig
from fastpath.own_answers import NEXT, left_padded
from fastpath.quiet import quiet

STOP = f"\n{NEXT}"


@dataclass(frozen=True)
class Writer:
    """The student of a pair as the author of batches."""

    pair: Pair
    tokenizer: Any
    config: OnPolicyConfig
    max_tokens: int
    """Of a row, the prompt among them."""
    seed: int

    @property
    def pad(self) -> int:
        """What fills rows."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    def __call__(self, batches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The same batches with the student's own tokens after each prompt, all written at once.

        What row n says depends on its number, the seed and the weights.
        """
        prompts = [prompt for batch in batches for prompt in prompts_of(batch)]
        numbers = [number for batch in batches for number in batch["rows"].tolist()]
        made = iter(self.examples(prompts, [f"{self.seed}/own/{number}" for number in numbers]))
        return [self._batch(batch, [next(made) for _ in batch["rows"]]) for batch in batches]

    @torch.no_grad()
    def examples(self, prompts: Sequence[list[int]], streams: Sequence[str]) -> list[Example]:
        """Each prompt with what the student wrote, up to its end or the next question, which is learnt."""
        training = self.pair.training
        self.pair.eval()
        model: Any
        with self.pair.student_alone() as model, quiet():
            ends = model.generation_config.eos_token_id
            made = model.generate(
                **left_padded(prompts, self.pad, model.device),
                generation_config=GenerationConfig(
                    max_new_tokens=self.config.new_tokens, do_sample=False, stop_strings=[STOP],
                    repetition_penalty=1.0, no_repeat_ngram_size=0,  # not the model's own defaults
                    eos_token_id=ends, pad_token_id=self.pad,
                ),
                logits_processor=self._sampling(model, streams),
                tokenizer=self.tokenizer,
            )  # fmt: skip
        self.pair.train(training)
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        written = made[:, max(map(len, prompts)) :].tolist()
        return [self._example(*row, ends) for row in zip(prompts, written, strict=True)]

    def _sampling(self, model: Any, streams: Sequence[str]) -> LogitsProcessorList:
        rows = model.config.get_text_config(decoder=True).vocab_size
        no_token = list(range(self.pair.vocabulary, rows))  # what pads the head
        return LogitsProcessorList([
            *([SuppressTokensLogitsProcessor(no_token, device=model.device)] if no_token else []),
            TemperatureLogitsWarper(self.config.temperature),
            SeededSampling(streams),
        ])  # fmt: skip

    def _example(self, prompt: list[int], written: list[int], ends: set[int]) -> Example:
        said = until_end(written, ends, self.tokenizer, prompt)[: self.max_tokens - len(prompt)]
        counts = (False,) * len(prompt) + (True,) * len(said)
        return Example((*prompt, *said), counts, "own")

    def _batch(self, batch: dict[str, Any], examples: Sequence[Example]) -> dict[str, Any]:
        made = padded_batch([(example,) for example in examples], pad=self.pad)
        device = batch["input_ids"].device
        return {**{name: tensor.to(device) for name, tensor in made.items()}, "rows": batch["rows"]}


def prompts_of(batch: dict[str, Any]) -> list[list[int]]:
    """The ids of each row in front of its first learnt token."""
    first_B = batch["labels"].ne(IGNORED).int().argmax(1).tolist()
    return [ids[:first].tolist() for ids, first in zip(batch["input_ids"], first_B, strict=True)]


def until_end(ids: list[int], ends: set[int], tokenizer: Any, prompt: list[int]) -> list[int]:
    """The ids up to an end token or the next question, with it; what follows there is padding.

    The next question may begin with the end of the prompt, as generation reads it.
    """
    before = prompt[-len(STOP) :]
    end = len(tokenizer.decode(before))

    def asks(num: int) -> bool:
        return STOP in tokenizer.decode(before + ids[:num])[max(0, end - len(STOP) + 1) :]

    stops = asks(len(ids))
    for n in range(1, len(ids)):
        if ids[n - 1] in ends or (stops and asks(n)):
            return ids[:n]
    return ids
