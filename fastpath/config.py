"""The recipe: every key a user can write, strict; recipe_file.py reads it from YAML. No torch in here."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from fastpath.config_costs import AgentConfig, CostsConfig
from fastpath.config_distill import DistillConfig
from fastpath.config_serve import ServeConfig
from fastpath.errors import ConfigError
from fastpath.section import Section

STAGES = ("prune", "distill", "eval", "serve")


class ModelConfig(Section):
    """The base model and how to hold it."""

    name: str
    """Hub id, local folder, .gguf file, or embedded:NAME."""
    revision: str = "main"
    """Branch, tag or commit of a hub id."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type to compute in; auto is what this device computes fastest without losing accuracy."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    device_map: Literal["none", "auto"] = "none"
    """auto spreads a model that is larger than one device over all GPUs, then host memory, then disk, as
    transformers does; for the stage prune."""
    trust_remote_code: bool = False
    """Run Python code that the model's repository carries."""

    @model_validator(mode="after")
    def _one_choice_of_devices(self) -> Self:
        if self.device_map != "none" and self.device != "auto":
            raise ValueError(f"device_map: {self.device_map!r} chooses the devices; leave device at auto")
        return self


class PruneConfig(Section):
    """Score the blocks, choose which to drop, cut, check, save."""

    drop: Annotated[int, Field(ge=1)] | None = None
    """Number of blocks to drop. Give exactly one of drop, speedup, max_simple_nats, parameters and plan."""
    speedup: Annotated[float, Field(gt=1)] | None = None
    """Drop the fewest blocks that make the model so many times faster: its prefill as predicted by the number
    of blocks, or with measure_speed a short prompt and a few tokens after it."""
    max_simple_nats: Annotated[float, Field(gt=0)] | None = None
    """Drop the most blocks, up to a third, that cost at most this in nats per simple answer token."""
    parameters: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Drop the fewest blocks that leave at most this share of the parameters."""
    plan: str | None = None
    """A plan.json or a mergekit passthrough YAML that is cut as it stands: nothing is scored or chosen."""
    criterion: Literal["cosine", "norm_ratio", "angular", "linear", "taylor", "kl", "ablation", "depth"] = (
        "ablation"
    )
    """How the cost of a block is measured."""
    chooser: Literal["lowest", "span", "greedy", "beam", "evolution", "spans"] = "evolution"
    """lowest: the cheapest blocks, wherever they are; span: the cheapest contiguous run; the others try whole
    plans on the model. greedy: one block after the other, all others scored again; beam: several such plans
    at once; evolution: swaps from greedy's plans; spans: several runs, by dynamic programming."""
    complex_weight: float = Field(default=0.0, ge=0)
    """What a search minimises is simple_nats + complex_weight * complex_nats: 1 protects reasoning too."""
    beam_width: int = Field(default=3, ge=2)
    """Plans of each size that beam goes on with."""
    generations: int = Field(default=8, ge=1)
    """Generations of evolution for each number of blocks."""
    offspring: int = Field(default=16, ge=1)
    """New plans of each generation."""
    stream_gib: float = Field(default=2.0, ge=0)
    """Memory for streams that a search would else compute again, in each process (on a GPU, as much on the
    host as well)."""
    measure_speed: bool = False
    """Measure on this machine how much faster each plan of the frontier is."""
    simple_tasks: tuple[str, ...] = ("doc_type", "date_pick", "routing", "field_lookup", "one_hop")
    """Generators of the simple calibration items; the plan is the cheapest on these."""
    complex_tasks: tuple[str, ...] = ("worked", "arithmetic", "chain")
    """Generators of the complex calibration items, scored beside them."""
    depth_tasks: tuple[str, ...] = (
        "chain", "counter", "swaps", "boolean", "brackets", "hops",
    )  # fmt: skip
    """Depth dials: how the cost of a block rises with the number of dependent steps k."""
    items_per_task: int = Field(default=16, ge=2)
    """Calibration items of each simple and complex task."""
    items_per_level: int = Field(default=4, ge=2)
    """Calibration items of each level k of a depth dial."""
    self_answers: bool = False
    """Worked calibration items carry the base model's own answer where it is right (a repair is fitted on the
    reference answers)."""
    protect: tuple[int, ...] = ()
    """Blocks that are never dropped (0-based)."""
    batch_tokens: int = Field(default=1024, ge=1)
    """Tokens of a batch, padding included."""
    repair: Literal["none", "linear", "norm", "merge"] = "none"
    """Mending the cut without training; applied only if it helps on calibration items held out from it."""

    @model_validator(mode="after")
    def _one_size_and_nothing_idle(self) -> Self:
        asked = [self.drop, self.speedup, self.max_simple_nats, self.parameters, self.plan]
        if sum(size is not None for size in asked) != 1:
            raise ValueError(
                "give exactly one of drop, speedup, max_simple_nats, parameters and plan (null unsets one)"
            )

        def is_set(key: str) -> bool:
            return getattr(self, key) != type(self).model_fields[key].default

        if self.plan is not None:
            for key in ("complex_weight", "self_answers", "measure_speed"):
                if is_set(key):
                    raise ValueError(f"{key}: a plan that is given is cut as it stands; unset this or plan")
        if self.complex_weight and self.chooser in ("lowest", "span"):
            raise ValueError(f"complex_weight: {self.chooser!r} ranks by the criterion alone")
        for key, chooser in (
            ("beam_width", "beam"),
            ("generations", "evolution"),
            ("offspring", "evolution"),
        ):
            if is_set(key) and self.chooser != chooser:
                raise ValueError(f"{key}: is for the chooser {chooser!r}, not for {self.chooser!r}")
        for key in ("simple_tasks", "complex_tasks", "depth_tasks"):
            tasks = getattr(self, key)
            if twice := [task for task in tasks if tasks.count(task) > 1]:
                raise ValueError(f"{key}: {twice[0]!r} stands there twice")
        return self


Size = Annotated[int, Field(ge=1)]
Several = Annotated[tuple[Size, ...], Field(min_length=1)]


def _several(given: Any) -> Any:
    # A tuple: strict mode takes no list from a validator.
    return tuple(given) if isinstance(given, list | tuple) else (given,)


Sizes = Annotated[Several, BeforeValidator(_several, json_schema_input_type=Size | Several)]


class SpeedConfig(Section):
    """The shapes of the speed measurement: each prompt length with each batch size; the first leads."""

    prompt_tokens: Sizes = (256,)
    """Tokens of the prompt: a number or a list."""
    new_tokens: int = Field(default=32, ge=2)
    """Tokens generated after it."""
    batch_size: Sizes = (1,)
    """Sequences at once: a number or a list."""
    compile: bool = False
    """Decode with torch.compile and a static cache; compiling takes up to a minute a model and shape."""
    repeats: int = Field(default=5, ge=5)
    """Timed repetitions of each model, in alternation, after a warm-up."""


# A label names files and columns: no path, and none of the words that stand beside it there.
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,40}$")]
RESERVED_LABELS = ("base", "prompt", "suite", "task", "id", "template", "source", "k", "target",
                   "standard", "priority")  # fmt: skip


class EvalConfig(Section):
    """Measure what the variants lose and gain beside the base."""

    variants: dict[Label, str] = Field(default={"fast": "prune"}, min_length=1)
    """Label -> what to compare with the base: a stage of this run (prune or distill), or any model name or
    folder."""
    simple: tuple[str, ...] = ("fastpath_simple",)
    """lm-eval tasks or groups of the simple suite."""
    complex: tuple[str, ...] = ("fastpath_complex",)
    """lm-eval tasks or groups of the complex suite."""
    depth: tuple[str, ...] = ("fastpath_depth",)
    """Depth dials: only the number of dependent steps k changes. Reported as curves, in neither suite."""
    knowledge: tuple[str, ...] = ()
    """Tasks of stored knowledge, reported apart: in either suite they would hide the gap."""
    data: tuple[str, ...] = ()
    """Your own requests: JSON lines of prompt, answer, suite (simple or complex) and, if any, choices."""
    items_per_task: int = Field(default=40, ge=1)
    """Items of each task (for lm-eval's own tasks: its limit)."""
    items_per_level: int = Field(default=20, ge=1)
    """Items of each level k of a depth dial."""
    shots: int = Field(default=0, ge=0, le=12)
    """Solved examples before our multiple-choice items: of other templates, balanced over the labels."""
    margin: float = Field(default=0.02, gt=0, lt=1)
    """Largest loss of simple accuracy that still counts as essentially unchanged (0.02 = 2 points)."""
    include_path: tuple[str, ...] = ()
    """Folders with lm-eval YAML tasks of your own."""
    batch_size: int = Field(default=16, ge=1)
    """Sequences of an evaluation batch."""
    engine: Literal["hf", "vllm"] = "hf"
    """What answers: transformers (hf), or vllm, which must be installed and needs a GPU."""
    speed: SpeedConfig = SpeedConfig()
    """How speed is measured."""
    agent: AgentConfig | None = None
    """The agent task and its policies; left out: none of it."""
    prompt: str = "What is the capital of France?"
    """A prompt that both models answer, shown side by side in the report."""

    @field_validator("variants")
    @classmethod
    def _labels_are_free(cls, variants: dict[str, str]) -> dict[str, str]:
        if taken := sorted(set(variants) & set(RESERVED_LABELS)):
            raise ValueError(f"{taken[0]!r} cannot label a variant; choose another word")
        return variants


class Recipe(Section):
    """One recipe file: shared keys, then a section a stage."""

    out: Path
    """Folder of the run; each stage writes OUT/STAGE."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random."""
    model: ModelConfig
    """The base model."""
    prune: PruneConfig | None = None
    """The stage `python -m prune`."""
    distill: DistillConfig | None = None
    """The stage `python -m distill`."""
    eval: EvalConfig | None = None
    """The stage `python -m eval`."""
    serve: ServeConfig | None = None
    """`python -m serve`: the tiers behind one endpoint."""
    costs: CostsConfig | None = None
    """What work and mistakes cost: for eval.agent, and the dollars that `python -m serve.profile` tells."""

    @model_validator(mode="after")
    def _costs_of_something(self) -> Self:
        if self.costs and not (self.eval and self.eval.agent) and self.serve is None:
            raise ValueError("costs: nothing here has a cost; add eval.agent or serve, or leave this out")
        return self

    def for_stage(self, stage: str) -> "Recipe":
        """The shared keys and the section of `stage` alone: what a stage's folder depends on.

        Raises ConfigError if the recipe has no such section.
        """
        if getattr(self, stage) is None:
            raise ConfigError(f"{stage}: the recipe has no such section; add `{stage}:` with its keys")
        foreign = [other for other in STAGES if other != stage] + ([] if stage == "eval" else ["costs"])
        return self.model_copy(update=dict.fromkeys(foreign))

    def to_yaml(self) -> str:
        """The complete recipe, defaults filled in; itself a valid recipe."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)
