"""The recipe: every key a user can write, in one strict file; read from YAML, then `key=value` overrides.

The whole recipe is checked by every stage, so a misspelt key in `eval:` is found before `prune` spends
minutes. Imports neither torch nor transformers.
"""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from fastpath.errors import ConfigError

STAGES = ("prune", "eval")


class Section(BaseModel):
    """A part of the recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


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
    trust_remote_code: bool = False
    """Run Python code that the model's repository carries."""


class PruneConfig(Section):
    """Score the blocks, choose which to drop, cut, check, save."""

    drop: int = Field(ge=1)
    """Number of blocks to drop."""
    criterion: Literal["cosine", "angular", "ablation"] = "ablation"
    """How the cost of a block is measured."""
    chooser: Literal["lowest", "span"] = "lowest"
    """lowest: the cheapest blocks, wherever they are; span: the cheapest contiguous run."""
    simple_tasks: tuple[str, ...] = ("doc_type", "date_pick", "routing", "field_lookup", "one_hop")
    """Generators of the simple calibration items; the plan is the cheapest on these."""
    complex_tasks: tuple[str, ...] = ("worked", "arithmetic", "chain")
    """Generators of the complex calibration items, scored beside them."""
    items_per_task: int = Field(default=16, ge=2)
    """Calibration items of each task."""
    protect: tuple[int, ...] = ()
    """Blocks that are never dropped (0-based)."""
    batch_tokens: int = Field(default=1024, ge=1)
    """Tokens of a batch, padding included."""


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
RESERVED_LABELS = ("base", "prompt", "suite", "task", "id", "template", "source", "k", "target")


class EvalConfig(Section):
    """Measure what the variants lose and gain beside the base."""

    variants: dict[Label, str] = Field(default={"fast": "prune"}, min_length=1)
    """Label -> what to compare with the base: the stage `prune` of this run, or any model name or folder."""
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
    eval: EvalConfig | None = None
    """The stage `python -m eval`."""

    def for_stage(self, stage: str) -> "Recipe":
        """The shared keys and the section of `stage` alone: what a stage's folder depends on.

        Raises ConfigError if the recipe has no such section.
        """
        if getattr(self, stage) is None:
            raise ConfigError(f"{stage}: the recipe has no such section; add `{stage}:` with its keys")
        return self.model_copy(update={other: None for other in STAGES if other != stage})

    def to_yaml(self) -> str:
        """The complete recipe, defaults filled in; itself a valid recipe."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats (PyYAML reads 1e-5 as a string), and a key written twice is an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool):
            raise ConfigError(f"a key must be one word (line {key_node.start_mark.line + 1})")
        if key in mapping:
            raise ConfigError(f"{key}: written twice (line {key_node.start_mark.line + 1})")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def parse_yaml(text: str, *, where: str) -> Any:
    """The data of a YAML text; ConfigError names `where` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise ConfigError(f"{where}: not valid YAML: {problem}{line}") from None


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path` and apply dotted `key=value` overrides. Raises ConfigError in one line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none"
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ConfigError(f"--config {path}: {reason}; recipes here: {known}") from None
    data = parse_yaml(text, where=str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, got {data!r:.60}")
    for override in overrides:
        _apply(data, override)
    return build_recipe(data)


def _apply(data: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"{override!r}: an override is written key=value, for example prune.drop=6")
    *parents, leaf = dotted.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{dotted}: {parent!r} is not a section")
    data[leaf] = parse_yaml(value, where=dotted)


def build_recipe(data: dict[str, Any]) -> Recipe:
    """The recipe of plain data. Raises ConfigError naming the first wrong key."""
    try:
        # Through JSON: only from there does strict mode take a list for a tuple, a string for a Path.
        return Recipe.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_explain(error.errors()[0])) from None


def _explain(error: Any) -> str:
    loc = [str(part) for part in error["loc"]]
    dotted = ".".join(loc)
    if error["type"] == "extra_forbidden":
        known = list(_section_at(loc[:-1]).model_fields)
        near = difflib.get_close_matches(loc[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{dotted}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{dotted}: this key is required"
    if error["type"] == "value_error":
        return f"{dotted}: {error['ctx']['error']}"
    return f"{dotted}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r:.60}"


def _section_at(loc: Sequence[str]) -> type[Section]:
    section: type[Section] = Recipe
    for part in loc:
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, Section))
    return section


def differing_keys(old: Recipe, new: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of every leaf that differs, `out` aside."""
    a, b = (dict(_leaves(r.model_dump(mode="json", exclude={"out"}))) for r in (old, new))
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            yield key, a.get(key), b.get(key)


def _leaves(data: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, data


def recipe_schema() -> str:
    """The JSON schema of a recipe, for editors that complete keys (configs/schema.json)."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    return json.dumps(schema, indent=1) + "\n"
