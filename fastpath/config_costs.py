"""The keys of the agent task and of its cost model."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fastpath.section import Section

Amount = Annotated[float, Field(ge=0)]


class CostsConfig(Section):
    """What work and mistakes cost: your assumptions, printed with every figure that rests on them."""

    dollars_per_machine_hour: Amount = 2.0
    """Price of the machine that computes, for tiers without a price of their own."""
    dollars_per_million_tokens: dict[str, Amount] = Field(default={})
    """Tier (base, or the label of a variant) -> price of its tokens, read and written alike."""
    priority_speed: Annotated[float, Field(ge=1)] = 2.0
    """How many times as fast the same weights answer when they are served with priority."""
    priority_price: Annotated[float, Field(ge=1)] = 2.0
    """Price of priority over the price of the standard tier."""
    queue_seconds: Amount = 0.0
    """Time that a request waits before it is read, on every tier but priority."""
    dollars_per_check: Amount = 0.0
    """Price of checking one call."""
    dollars_per_human_hour: Amount = 60.0
    """Price of the person who fixes what failed."""
    minutes_per_fix: Amount = 3.0
    """To do one step by hand that the model could not do."""
    minutes_per_repair: Amount = 15.0
    """To find and mend a wrong outcome that nobody noticed when it happened."""
    dollars_per_waiting_hour: Amount = 0.0
    """Worth of an hour that is spent waiting for the model; 0: nobody waits."""
    dollars_per_wrong_commit: Amount = 20.0
    """Loss of one wrong call that cannot be undone."""


class AgentConfig(Section):
    """The agent task: tool calls on simulated tools, one right call a step, policies of tiers compared."""

    tasks: int = Field(default=48, ge=2)
    """Tasks that are evaluated, of 1 to 8 dependent steps."""
    calibration_tasks: int = Field(default=24, ge=2)
    """Tasks of other templates, on which the threshold of escalation is chosen."""
    form: Literal["choice", "tools"] = "choice"
    """choice: the likelihood of candidate calls, for small models too; tools: the model writes its calls."""
    examples: int = Field(default=1, ge=0, le=4)
    """Solved tasks that are shown before each one, of templates that no other split has."""
    endpoint: str | None = None
    """OpenAI-compatible URL (http://.../v1) whose tiers standard and fast are asked, with form: tools."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Longest call that is written, with form: tools."""
    bfcl: tuple[str, ...] = ()
    """Tool-calling data of your own as an outside check: JSON lines in the format of BFCL."""
    bfcl_items: int = Field(default=100, ge=2)
    """Most items of each such file."""
    trials: int = Field(default=8, ge=1)
    """Answers to each step."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the draw among the candidates by likelihood."""
    attempts: int = Field(default=3, ge=1)
    """How often a step is tried before a person does it."""
    detection: float = Field(default=0.9, ge=0, le=1)
    """Chance that a wrong call which could be executed is noticed before; what tools refuse always is."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.attempts > self.trials:
            raise ValueError(f"attempts: {self.attempts} need as many trials, found {self.trials}")
        if self.endpoint and self.form != "tools":
            raise ValueError("endpoint: is asked for written calls; set form: tools")
        return self
