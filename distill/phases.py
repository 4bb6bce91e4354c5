"""The phases of a distillation: what each is trained by, for how long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastpath.config_distill import DistillConfig

LOCAL, LOGITS, ON_POLICY = "local", "logits", "on-policy"
CANDIDATE = "candidate"
"""Name of the short training, where the recipe has one, that the plan was chosen by."""
NATS = {
    "kd_nats_per_token": "nats per token to the teacher",
    "ce_nats_per_token": "nats per token of the data",
}
"""What is minimised after the local phase: the distance where it is known, else the cross-entropy."""


def minimised(row: Mapping[str, Any]) -> str | None:
    """Which of NATS a row of the log has; None in the local phase."""
    return next((key for key in NATS if key in row), None)


@dataclass(frozen=True)
class Phase:
    """A training of its own, with its own schedule, from the best checkpoint of those before it."""

    name: str
    config: DistillConfig
    """The recipe's, with the steps, the rate and the loss of this phase."""

    @property
    def predicts(self) -> bool:
        """Whether predictions are compared; the local phase compares streams alone."""
        return self.name != LOCAL

    @property
    def writes(self) -> bool:
        """Whether the student writes what it is trained on."""
        return self.name == ON_POLICY

    def hidden_weight(self, step: int) -> float:
        """The weight of the hidden error at a step: beside predictions it falls to 0 over hidden_steps."""
        if not self.predicts:
            return 1.0
        return self.config.hidden_weight * max(0.0, 1 - step / self.config.hidden_steps)


def phases(config: DistillConfig) -> list[Phase]:
    """The phases that have steps, in their order."""
    written = config.on_policy
    changes: dict[str, dict[str, Any]] = {
        LOCAL: {"steps": config.local_steps, "learn": "all"},  # streams of prompts cost nothing more
        LOGITS: {},
        ON_POLICY: {
            "steps": written.steps, "learning_rate": written.learning_rate, "hidden_weight": 0.0,
            "loss": "mixed_kl", "loss_options": {"forward": written.forward_share}, "kd_weight": 1.0,
            "temperature": 1.0, "pack": "never", "learn": "answers",
        },
    }  # fmt: skip
    made = [Phase(name, config.model_copy(update=change)) for name, change in changes.items()]
    return [phase for phase in made if phase.config.steps]


@dataclass(frozen=True)
class Trained:
    """What a finished phase left, as in phases.json."""

    phase: str
    checkpoint: str
    """The best, or the last where no dev items are scored: seen from the folder of the stage."""
    steps: int
    learnt_tokens: int
    """Since the first step of the first phase."""
    complex_nats_per_token: float | None
    """Of the checkpoint, on the dev items; None without any."""


def best(done: Sequence[Trained]) -> Trained:
    """The phase whose checkpoint goes on: by the complex dev items, or the last without any."""
    scored = [phase for phase in done if phase.complex_nats_per_token is not None]
    return min(scored[::-1], key=lambda phase: phase.complex_nats_per_token or 0.0) if scored else done[-1]
