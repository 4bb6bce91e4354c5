"""transformers' Trainer with our loss: sums over the tokens of the whole step, divided once.

Its accumulation, distribution, checkpoints, resume, early stopping, schedule and integrations are used as
they are.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback

from distill.checkpoints import mark_whole, unmark
from distill.data import Numbered
from distill.dev import Dev
from distill.on_policy import Writer
from distill.packing import IGNORED
from distill.pair import Pair
from distill.phases import NATS, Phase, minimised
from fastpath.errors import ModelError


class DistilTrainer(Trainer):
    """Trains the student of a Pair; checkpoints hold what is trained alone.

    `writer` writes the answers of every step's rows anew. `learnt_tokens`: in the phases before this one.
    `advance(steps, note)` moves a progress bar; `metrics(rows, anew=...)` takes the rows of metrics.jsonl.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of all micro-batches

    def __init__(
        self,
        pair: Pair,
        args: TrainingArguments,
        phase: Phase,
        rows: Numbered,
        dev: Dev,
        *,
        writer: Writer | None,
        learnt_tokens: int,
        advance: Callable[..., None],
        metrics: Callable[..., None],
    ) -> None:
        super().__init__(
            model=pair, args=args, train_dataset=rows, eval_dataset=dev.items, data_collator=rows.batch
        )
        self.model_accepts_loss_kwargs = True  # so that it counts num_items_in_batch, over all processes
        self.remove_callback(PrinterCallback)
        self.add_callback(Watch(self, advance, metrics))
        if dev.items:
            self.add_callback(Patience(phase.config.patience))
        self.learnt_tokens = learnt_tokens
        """Since the first step of the first phase, up to the last line of the log."""
        self._phase, self._dev, self._writer = phase, dev, writer
        self._micro: list[tuple[Tensor, Tensor]] = []
        self._start_counting()

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """(the micro-batches of a step, how many tokens all processes learn in it)."""
        batches, learnt = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._writer is None or not batches:
            return batches, learnt
        batches = self._writer(batches)
        return batches, self._get_num_items_in_batch(batches, device)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Nats of this micro-batch over the learnt tokens of the whole step.

        Times the number of processes: their gradients are averaged, not summed.
        """
        rows = inputs.pop("rows")
        weight = self._phase.hidden_weight(self.state.global_step)
        loss, kd, ce, hidden = model(**inputs, hidden_weight=weight, predicts=self._phase.predicts)
        learnt = inputs["labels"].ne(IGNORED).sum()
        read = inputs.get("attention_mask", torch.ones_like(inputs["labels"])).sum()
        self._micro.append((loss.detach(), rows))
        self._sums += torch.stack([kd, ce, hidden.double(), learnt, read])
        return loss / num_items_in_batch * (self.accelerator.num_processes // self.get_tp_size())

    def check_finite(self) -> None:
        """Raise ModelError naming the rows of the first micro-batch of this step whose loss is not a number.

        A checkpoint of the step before holds the weights that made it, and is not gone on from. One wait for
        the device a step, not one a micro-batch.
        """
        seen, self._micro = self._micro, []
        finite = torch.stack([loss for loss, _ in seen]).isfinite().tolist()
        if not all(finite):
            rows: Any = self.train_dataset
            named = [f"{row} ({rows.name(row)})" for row in seen[finite.index(False)][1].tolist()]
            unmark(Path(str(self.args.output_dir)), self.state.global_step)
            raise ModelError(
                f"step {self.state.global_step + 1}: the loss is not a number on rows {', '.join(named)}; "
                "the last good checkpoint is kept; in another `out`, try a lower distill.learning_rate or "
                "model.dtype=float32"
            )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log under our names, with what was learnt so far and how fast."""
        if "loss" not in logs:
            return  # the summary of a session: a killed run has several
        kd, ce, hidden, learnt, read = self.accelerator.gather(self._sums[None]).sum(0).tolist()
        self.learnt_tokens += int(learnt)
        distance = {"kd_nats_per_token": kd / learnt} if self._phase.config.kd_weight else {}
        row = {
            "loss": logs["loss"],
            **({**distance, "ce_nats_per_token": ce / learnt} if self._phase.predicts else {}),
            "gradient_norm": logs["grad_norm"],
            "learning_rate": logs["learning_rate"],
            "learnt_tokens": self.learnt_tokens,
            "tokens_per_second": round(read / (time.monotonic() - self._since), 1),
        }
        super().log(row | ({"hidden_error_per_token": hidden / learnt} if hidden else {}))
        self._start_counting()

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Nats per answer token and accuracy of both suites' dev items, dealt to the processes."""
        start = time.monotonic()
        batches = self._dev.shares(self.args.process_index, self.args.world_size)
        sums_2S = self._dev.nats(self.model, batches)  # type: ignore[arg-type]
        sums_2S = self.accelerator.reduce(sums_2S.to(self.args.device), "sum").cpu()
        facts = {f"{metric_key_prefix}_{key}": value for key, value in self._dev.facts(sums_2S).items()}
        super().log({**facts, "learnt_tokens": self.learnt_tokens})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, facts)
        self._since += time.monotonic() - start  # not a part of the speed of training
        return facts

    def _start_counting(self) -> None:
        self._sums = torch.zeros(5, dtype=torch.float64, device=self.args.device)
        self._since = time.monotonic()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        pair: Any = self.model
        state = pair.state_dict() if state_dict is None else state_dict  # empty where others write it
        trained = [name for name, p in pair.named_parameters() if p.requires_grad and name in state]
        super()._save(output_dir, {name: state[name].contiguous() for name in trained})


class Patience(EarlyStoppingCallback):
    """Early stopping whose count a resumed run takes up: transformers begins it anew."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **keys: Any) -> None:
        """What the checkpoint counted."""
        super().on_train_begin(args, state, control, **keys)
        self.early_stopping_patience_counter = counted(state)


def counted(state: TrainerState) -> int:
    """Evaluations without a better one up to this state."""
    kept: Any = state.stateful_callbacks
    return kept.get(Patience.__name__, {}).get("attributes", {}).get("early_stopping_patience_counter", 0)


def stopped_at(checkpoint: Path | None, patience: int) -> TrainerState | None:
    """The state of a checkpoint after which training stops early; None where it goes on."""
    if checkpoint is None:
        return None
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    return state if counted(state) >= patience else None


class Watch(TrainerCallback):
    """Stops at a loss that is not a number, marks whole checkpoints, moves the bar, writes the metrics."""

    def __init__(
        self, trainer: DistilTrainer, advance: Callable[..., None], metrics: Callable[..., None]
    ) -> None:
        self._trainer, self._advance, self._metrics = trainer, advance, metrics

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take up what the checkpoint knows; what was logged after it is done again. Score the cut model."""
        self._advance(state.global_step, kept=True)
        if not state.best_model_checkpoint or not Path(state.best_model_checkpoint).is_dir():
            state.best_model_checkpoint = state.best_metric = None  # a score of no checkpoint beats none
        if state.log_history:
            self._trainer.learnt_tokens = state.log_history[-1]["learnt_tokens"]
        if state.is_world_process_zero:
            self._metrics(state.log_history, anew=True)
        if state.global_step == 0 and args.eval_strategy != "no":
            self._trainer.evaluate()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the step changes any weight."""
        self._trainer.check_finite()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step on; the last one is logged, whatever its number."""
        self._advance(1)
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A line of metrics.jsonl, and beside the bar."""
        if state.is_world_process_zero:
            self._metrics([state.log_history[-1]], anew=False)
        if "tokens_per_second" in logs:
            speed = f"{logs['tokens_per_second']:,.0f} tokens/s"
            key = minimised(logs) or "loss"
            self._advance(0, f"{logs[key]:.4f} {NATS.get(key, 'squared error')}, {speed}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """All processes have written their part."""
        self._trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            mark_whole(Path(args.output_dir), state.global_step)
