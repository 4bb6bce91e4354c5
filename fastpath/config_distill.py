"""The recipe's section of the stage `distill`: teach the cut model what the original computes."""

from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from fastpath.section import Section

MODES = ("full", "head+last-k", "shared-lora", "lora")
"""What is trained, the most first; `auto` takes the first that fits the memory."""


TASKS = ("doc_type", "date_pick", "routing", "field_lookup", "one_hop", "worked", "arithmetic", "chain")


KINDS = (
    "category", "odd_one_out", "member", "possession", "location", "time", "number", "cell", "note",
    "speaker", "position", "contains", "relation", "purpose", "sentiment", "topic", "speech", "larger",
)  # fmt: skip
"""Of the short tasks of distill/practice.py."""


OWN_SOURCES = ("items", "own_texts", "own_questions", "practice")
"""Names of what is learnt that is no `data`."""


TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0)
"""At which a top-k store of predictions can be read: each needs a sum over the vocabulary."""


class DataConfig(Section):
    """Training data of your own: rows with {text}, {messages}, {prompt, completion} or {prompt, answer}."""

    source: str
    """A local .jsonl file, or a folder or hub id that `datasets` reads."""
    split: str = "train"
    """Of a dataset; "train[:1000]" takes the first thousand rows."""
    subset: str | None = None
    """Configuration of a dataset that has several."""
    revision: str = "main"
    """Branch, tag or commit of a hub id."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the examples, against the other weights."""


class OnPolicyConfig(Section):
    """The student writes, the original scores every token of it (needs teacher: live)."""

    steps: int = Field(default=0, ge=0)
    """Updates of the weights; each has the student answer batch_rows prompts. 0: no such phase."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak."""
    forward_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the forward KL in the loss (mixed_kl); the rest is the reverse KL."""
    new_tokens: int = Field(default=128, ge=1)
    """Most tokens that the student writes after a prompt; a row has max_tokens at most."""
    temperature: float = Field(default=1.0, gt=0)
    """At which it is sampled."""


class DistillConfig(Section):
    """Train the student to predict what the teacher predicts, token by token."""

    student: str = "prune"
    """What is trained: the stage `prune` of this run, or a model folder with a lineage.json."""
    candidates: int = Field(default=1, ge=1)
    """Plans of prune's frontier, of the size that it cut, that each get a short distillation first: the best
    on the complex dev items goes on (which plan is best may change by then). 1: only the plan it cut."""
    candidate_steps: int = Field(default=40, ge=1)
    """Updates of each of them."""
    mode: Literal["auto", "full", "head+last-k", "shared-lora", "lora"] = "auto"
    """What is trained. full: all weights (but see freeze_prefix); head+last-k: the last blocks, the norm and,
    where it is not tied to the embeddings, the head after them; lora: low-rank adapters of the linear
    layers, merged in the end; shared-lora: the same on the teacher's own blocks, so that there is one set of
    weights. auto: the first of these that fits the memory."""
    last_blocks: int = Field(default=3, ge=1)
    """head+last-k: how many blocks are trained. Other modes: at least so many, wherever the cut."""
    lora_rank: int = Field(default=16, ge=1)
    """lora, shared-lora: rank of the adapters."""
    lora_alpha: int = Field(default=32, ge=1)
    """lora, shared-lora: an adapter is scaled by lora_alpha / lora_rank."""
    teacher: Literal["live", "top-k", "expected"] = "live"
    """live: the original runs beside the student. Else its predictions are written to disk once, by content
    (in ~/.cache/fastpath/teachers), and it is not held while the student is trained. top-k: its likeliest
    tokens, and the rest as one; expected: exact, where the head stays as it is (lora)."""
    teacher_top_k: int = Field(default=64, ge=1)
    """top-k: how many tokens of each prediction are kept."""
    freeze_prefix: bool = True
    """Leave embeddings and blocks before the first cut as they are; they then run once for both models."""
    loss: Literal["forward_kl", "reverse_kl", "mixed_kl", "jsd", "skew_kl", "skew_reverse_kl", "tvd"] = (
        "forward_kl"
    )
    """What is between the two models' predictions; distill/losses.py has the formulas."""
    loss_options: dict[str, float] = Field(default={})
    """forward of mixed_kl, beta of jsd, alpha of the skewed ones."""
    temperature: float = Field(default=1.0, gt=0)
    """Of both models' predictions in that loss."""
    kd_weight: float = Field(default=1.0, ge=0, le=1)
    """Share of the loss between the models; the rest is the likelihood of the data's own tokens."""
    hidden_weight: float = Field(default=0.0, ge=0)
    """Weight of the squared error of the student's stream after the first cut, against what the next kept
    block was trained to read; falls to 0 over hidden_steps."""
    hidden_steps: int = Field(default=40, ge=1)
    """Updates until only the loss between predictions is left."""
    tasks: tuple[str, ...] = TASKS
    """Generators of the training items (split "distillation": never asked in an evaluation)."""
    items_per_task: int = Field(default=400, ge=1)
    """Training items of each task."""
    items_weight: float = Field(default=1.0, gt=0)
    """Their share of the examples, against the weights of `data`."""
    own_answers: int = Field(default=0, ge=0)
    """Answers that the original writes to each worked item; right ones take the place of the reference."""
    own_texts: int = Field(default=0, ge=0)
    """General texts that the original writes by itself (chats, where it has a template)."""
    own_texts_weight: float = Field(default=1.0, gt=0)
    """Their share of the examples, against the other weights."""
    own_questions: int = Field(default=0, ge=0)
    """General questions in plain text that the original asks by itself, with its answer if it has one."""
    own_questions_weight: float = Field(default=1.0, gt=0)
    """Their share of the examples, against the other weights."""
    practice: int = Field(default=0, ge=0)
    """Short simple tasks of many kinds, in English, that are no task of the catalogue: meant to bring back
    simple families that are not trained on."""
    practice_kinds: tuple[str, ...] = Field(default=KINDS, min_length=1)
    """Kinds of these tasks."""
    practice_weight: float = Field(default=1.0, gt=0)
    """Their share of the examples, against the other weights."""
    data: tuple[DataConfig, ...] = ()
    """Training data of your own."""
    learn: Literal["answers", "all"] = "answers"
    """Which tokens of items and rows are learnt: the answers, or the prompts as well (in phase 1 always)."""
    pack: Literal["auto", "never"] = "auto"
    """auto: several examples in one row, none of which sees another, where the model can do that."""
    refit_tokens: int = Field(default=0, ge=0)
    """Phase 0, refit: tokens on which the last map of each block after the first cut is solved for by least
    squares, towards the original's streams; forward passes alone. A tenth is held out."""
    local_steps: int = Field(default=0, ge=0)
    """Phase 1, local: updates by the squared error of the stream after the first cut alone (as in
    hidden_weight), which costs no head."""
    steps: int = Field(default=200, ge=0)
    """Phase 2, logits: updates by the loss between predictions, on the texts of the recipe."""
    on_policy: OnPolicyConfig = OnPolicyConfig()
    """Phase 3: on what the student itself writes. Each phase goes on from the best checkpoint before it."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows of one update, over all processes."""
    micro_rows: int = Field(default=4, ge=1)
    """Rows of one forward pass of one process; the rest is accumulated."""
    max_tokens: int = Field(default=512, ge=2)
    """Tokens of a row."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak; it rises over warmup_steps and falls to a tenth as a cosine."""
    warmup_steps: int = Field(default=10, ge=0)
    """Updates until the peak; at most half of a phase."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Longer gradients are scaled down to it."""
    checkpoint_steps: int = Field(default=50, ge=1)
    """Updates between checkpoints, from which a killed run goes on; a multiple of log_steps."""
    log_steps: int = Field(default=5, ge=1)
    """Updates between lines of metrics.jsonl."""
    dev_items_per_task: int = Field(default=0, ge=0)
    """Items of each dev task that are scored at every checkpoint: early stopping goes by the nats of the
    complex ones. 0: none, and the last checkpoint is exported, not the best."""
    dev_tasks: tuple[str, ...] = TASKS
    """Generators of the dev items (split "calibration": neither learnt nor evaluated)."""
    patience: int = Field(default=3, ge=1)
    """Checkpoints without a better one after which training stops."""
    recompute_activations: bool = False
    """Compute activations again in the backward pass: much less memory, about a third slower."""
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also log there; the package must be installed."""

    @model_validator(mode="after")
    def _teacher_can_be_kept(self) -> Self:
        if self.teacher == "live":
            return self
        if self.loss != "forward_kl":
            raise ValueError(f"teacher: {self.loss} needs the original; live works, or loss: forward_kl")
        if not self.kd_weight:
            raise ValueError("teacher: kd_weight: 0 learns nothing of what is kept; live works")
        if self.hidden_weight:
            raise ValueError("teacher: hidden_weight needs the original; live works, or hidden_weight: 0")
        for key, steps in (("local_steps", self.local_steps), ("on_policy.steps", self.on_policy.steps)):
            if steps:
                raise ValueError(f"teacher: {key} needs the original; live works, or {key}: 0")
        if self.mode == "shared-lora":
            raise ValueError("mode: shared-lora holds the original; teacher: live works, or mode: lora")
        if self.teacher == "top-k" and self.temperature not in TEMPERATURES:
            known = ", ".join(map(str, TEMPERATURES))
            raise ValueError(f"temperature: {self.temperature} is not kept by teacher: top-k; it has {known}")
        return self

    @property
    def could_keep_teacher(self) -> bool:
        """Whether `teacher: top-k` would be taken in the place of a live one."""
        if self.teacher != "live":
            return False
        try:
            self.model_validate({**self.model_dump(), "teacher": "top-k"})
        except ValidationError:
            return False
        return True

    @model_validator(mode="after")
    def _steps_and_rows_fit(self) -> Self:
        if not self.refit_tokens + self.local_steps + self.steps + self.on_policy.steps:
            raise ValueError("steps: 0 in every phase, and no refit_tokens: there is nothing to do")
        if not self.local_steps + self.steps + self.on_policy.steps:  # the refit alone
            if self.candidates > 1:
                raise ValueError("candidates: steps: 0 trains none of them further; candidates: 1 works")
            if self.teacher != "live":
                raise ValueError(f"teacher: {self.teacher} is for training, and steps: 0; live works")
        if self.refit_tokens and self.mode == "shared-lora":
            raise ValueError(
                "mode: shared-lora needs the base's own blocks, and refit_tokens changes them; lora works"
            )
        if self.batch_rows % self.micro_rows:
            raise ValueError(f"batch_rows: {self.batch_rows} rows are not a multiple of micro_rows")
        if self.checkpoint_steps % self.log_steps:
            raise ValueError(f"checkpoint_steps: {self.checkpoint_steps} is not a multiple of log_steps")
        if self.candidates > 1 and not self.dev_items_per_task:
            raise ValueError(
                "candidates: dev items tell them apart; set dev_items_per_task, or candidates: 1"
            )
        if self.candidates > 1 and self.student != "prune":
            raise ValueError("candidates: are taken from the stage prune; student: prune works")
        names = [data.source for data in self.data]
        if not names and not self.tasks and not self.practice:
            raise ValueError("tasks: empty, no data and no practice: there is nothing to learn from")
        if unknown := [kind for kind in self.practice_kinds if kind not in KINDS]:
            raise ValueError(f"practice_kinds: {unknown[0]!r} is none of {', '.join(KINDS)}")
        if taken := [name for name in names if name in OWN_SOURCES]:
            raise ValueError(f"data: {taken[0]!r} is the name of a source of ours; ./{taken[0]} works")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"data: {twice[0]!r} stands there twice")
        return self
