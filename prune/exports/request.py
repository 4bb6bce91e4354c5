"""What the user asked of an export, beside the model and the target."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """Options of `python -m prune.export`."""

    python: str = sys.executable
    """Interpreter of the environment that holds the target's own packages."""
    max_shard_size: str = ""
    """Of hf: largest file of weights, as transformers writes it ("5GB"); "": as the run has them."""
    push: str = ""
    """Of hf: OWNER/NAME on the hub; "": nowhere."""
    changes: tuple[str, ...] = ()
    """Of draft: key=value of the section distill that it is trained by; none: as the run's model was."""
