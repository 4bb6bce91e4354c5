"""Several processes on one evaluation (`accelerate launch -m eval`): each answers its share of every task.

The first process runs the stage and alone touches the run folder; the others (helper.py) are told which task
comes next. lm-eval deals items to processes by rank and gathers what they answered in the first.
"""

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

FOREVER = timedelta(weeks=52)  # helpers wait while the first process downloads and converts


def num_processes() -> int:
    """How many processes a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_helper() -> bool:
    """Whether this is another process than the first."""
    return num_processes() > 1 and os.environ.get("RANK", "0") != "0"


class Team:
    """The processes of this run: one, unless a launcher started more; then it waits until all are there."""

    def __init__(self, device: torch.device) -> None:
        self.size = num_processes()
        if self.size > 1:
            keys = InitProcessGroupKwargs(timeout=FOREVER)
            self._accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[keys])

    def tell(self, job: Any) -> None:
        """Of the first process: what the helpers shall do next; None sends them home."""
        if self.size > 1:
            broadcast_object_list([job])

    def hear(self) -> Any:
        """Of a helper: what the first process told."""
        return broadcast_object_list([None])[0]

    def share(self, lm: Any) -> Any:
        """The same lm-eval model, which from now on answers this process's share of the items."""
        if self.size > 1:
            # lm-eval sets these only where it loads the weights itself.
            lm.accelerator, lm._world_size = self._accelerator, self.size
            lm._rank = self._accelerator.process_index
        return lm
