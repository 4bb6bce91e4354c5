"""How good the student is while it learns: items that are neither learnt nor evaluated."""

# S sequences: every item with each of its choices

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from distill.pair import Pair
from fastpath.config_distill import DistillConfig
from fastpath.data import Batch, item_batches
from fastpath.errors import ConfigError
from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import Item
from fastpath.nll import answer_nll

OTHER_SEED = 15_485_863
"""Added to the seed: the plan was chosen on the first items of the same split."""
SUITES = ("simple", "complex")


def dev_items(config: DistillConfig, *, seed: int) -> list[Item]:
    """Items of the split "calibration": other templates, names and numbers than training and evaluation."""
    if not config.dev_items_per_task:
        return []
    if all(task in TASKS and TASKS[task].suite == "simple" for task in config.dev_tasks):
        raise ConfigError("distill.dev_tasks: none is complex, and early stopping goes by the complex ones")
    num = config.dev_items_per_task
    return [
        item
        for task in config.dev_tasks
        for item in generate(task, split="calibration", seed=seed + OTHER_SEED, num_items=num)
    ]


class Dev:
    """The items as batches: each answer, and the wrong choices of those that have some."""

    def __init__(self, items: Sequence[Item], tokenizer: Any, *, batch_tokens: int) -> None:
        asked = [(i, answer) for i, item in enumerate(items) for answer in item.choices or (item.answer,)]
        texts = [replace(items[i], answer=answer, short_cut="") for i, answer in asked]
        self.items = list(items)
        self._item_S = torch.tensor([i for i, _ in asked])
        self._gold_S = torch.tensor([answer == items[i].answer for i, answer in asked])
        self._batches = item_batches(texts, tokenizer, batch_tokens=batch_tokens)

    def shares(self, rank: int, world: int) -> list[Batch]:
        """The batches of one of `world` processes."""
        return self._batches[rank::world]

    @torch.no_grad()
    def nats(self, pair: Pair, batches: Sequence[Batch]) -> Tensor:
        """float64 (2, S): nats and answer tokens of every sequence, 0 for those in none of these batches."""
        sums_2S = torch.zeros(2, len(self._item_S), dtype=torch.float64)
        pair.eval()
        with pair.student_alone() as model:
            for batch in batches:
                found = answer_nll(model, batch.to(model.device))
                sums_2S[:, list(batch.index)] = torch.stack([found.nats, found.tokens.double()])
        return sums_2S

    def answers(self, sums_2S: Tensor) -> tuple[list[float], list[float]]:
        """(nats, tokens) of the right answer to every item."""
        nats, tokens = sums_2S[:, self._gold_S].tolist()
        return nats, tokens

    def facts(self, sums_2S: Tensor) -> dict[str, float]:
        """{suite_nats_per_token, suite_accuracy}; accuracy where there are choices."""
        facts: dict[str, float] = {}
        for suite in SUITES:
            is_simple = [TASKS[item.task].suite == "simple" for item in self.items]
            mine = [i for i, simple in enumerate(is_simple) if simple == (suite == "simple")]
            if not mine:
                continue
            in_suite_S = torch.isin(self._item_S, torch.tensor(mine))
            nats, tokens = sums_2S[:, in_suite_S & self._gold_S].sum(1).tolist()
            facts[f"{suite}_nats_per_token"] = nats / tokens
            if chosen := [self._is_right(sums_2S[0], i) for i in mine if self.items[i].choices]:
                facts[f"{suite}_accuracy"] = sum(chosen) / len(chosen)
        return facts

    def _is_right(self, nats_S: Tensor, item: int) -> bool:
        mine_S = self._item_S == item
        return bool(self._gold_S[mine_S][nats_S[mine_S].argmin()])
