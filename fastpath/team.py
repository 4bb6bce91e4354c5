"""Several processes on one stage (`accelerate launch -m prune`, `-m eval`): who they are, how they talk.

The first process runs the stage and alone touches the run folder; the others, its helpers, are told what
comes next. If one of them dies, the launcher ends them all.
"""

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import distributed

FOREVER = timedelta(weeks=52)  # helpers wait while the first process downloads and converts


def num_processes() -> int:
    """How many processes a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_sharded() -> bool:
    """Whether a launcher asked for FSDP: then no process holds a model whole."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def is_helper() -> bool:
    """Whether this is another process than the first."""
    return num_processes() > 1 and os.environ.get("RANK", "0") != "0"


class Team:
    """Processes that work together; Team() is this one alone."""

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.accelerator = accelerator
        self.size = accelerator.num_processes if accelerator else 1
        self.rank = accelerator.process_index if accelerator else 0

    @classmethod
    def launched(cls, device: torch.device) -> "Team":
        """All processes of this run: one, unless a launcher started more; then it waits for them."""
        if num_processes() == 1:
            return cls()
        keys = InitProcessGroupKwargs(timeout=FOREVER)
        return cls(Accelerator(cpu=device.type == "cpu", kwargs_handlers=[keys]))

    def is_mine(self, number: int) -> bool:
        """Whether this process computes number `number` of anything that is dealt out."""
        return number % self.size == self.rank

    def tell(self, job: Any) -> None:
        """Of the first process: what the helpers shall do next; None sends them home."""
        if self.size > 1:
            broadcast_object_list([job])

    def hear(self) -> Any:
        """Of a helper: what the first process told."""
        return broadcast_object_list([None])[0]

    def gather(self, part: Any) -> list[Any]:
        """What every process has, in their order; all must call this, and the helpers get nothing."""
        parts = [part] * self.size if self.rank == 0 else None
        if self.size > 1:
            distributed.gather_object(part, parts)
        return parts or []
