"""Plans that are given: a plan.json written by hand or a mergekit passthrough YAML; and that YAML of a plan.

In mergekit's YAML a slice's `layer_range: [a, b]` is half-open and 0-based, as in mergekit itself.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastpath.config import PruneConfig
from fastpath.errors import ConfigError, UserError
from fastpath.plan import Plan, read_plan, spans_of
from fastpath.recipe_file import parse_yaml
from fastpath.sources import Source

log = logging.getLogger("fastpath")

GIVEN = "given"
"""What a given plan says of its criterion and its chooser."""
KNOWN = ("slices", "merge_method", "dtype", "out_dtype", "tokenizer_source", "base_model")
"""Keys that leave the layers as they are; any other (scale, parameters, LoRA) would be lost silently."""


@dataclass(frozen=True)
class Passthrough:
    """What a mergekit passthrough YAML asks for."""

    keep: tuple[int, ...]
    """The layers that it keeps, rising."""
    model: str
    """Hub id, perhaps with @REVISION, or folder of the model that it cuts."""
    dtype: str
    """Of the model that it makes; "" if it does not say."""


def given_plan(config: PruneConfig, *, depth: int, source: Source) -> Plan:
    """The plan that a recipe names, for a model of `depth` blocks. Raises ConfigError in one line.

    Warns of what a YAML says and is not done, and of its being made for another model than `source`.
    """
    path = config.plan
    assert path is not None
    try:
        given = read_given(Path(path))
        if isinstance(given, Plan) and given.depth != depth:
            raise ConfigError(f"{path}: made for {given.depth} blocks, the model has {depth}")
        keep = given.keep
        if keep[-1] >= depth:
            raise ConfigError(f"{path}: keeps layer {keep[-1]}, the model's are 0 to {depth - 1}")
        if len(keep) == depth:
            raise ConfigError(f"{path}: keeps every layer: nothing would be dropped")
    except UserError as error:
        raise ConfigError(f"prune.plan: {error}") from None
    plan = Plan(depth=depth, keep=keep, criterion=GIVEN, chooser=GIVEN, cost=None, unit="")
    if both := sorted(set(plan.drop) & set(config.protect)):
        raise ConfigError(f"prune.protect: {path} drops block {both[0]}")
    if isinstance(given, Passthrough):
        _warn(given, str(path), depth, source)
    return plan


def _warn(given: Passthrough, path: str, depth: int, source: Source) -> None:
    """Say what of a YAML is not done as it is written."""
    if given.dtype:
        log.warning("warning: %s: dtype %s is ignored; the stored dtype is kept", path, given.dtype)
    end = given.keep[-1] + 1
    if end < depth and not _is_same(given.model, source):
        log.warning("warning: %s: made for %s; layers %d to %d of %s are beyond its end and are dropped",
                    path, given.model, end, depth - 1, source.name)  # fmt: skip


def _is_same(model: str, source: Source) -> bool:
    """Whether a YAML's model, by name or by folder, is the recipe's."""
    names = (model, model.rpartition("@")[0])
    return source.name in names or Path(model).resolve() == source.folder.resolve()


def read_given(path: Path) -> Plan | Passthrough:
    """The plan of a .json file, or what a mergekit YAML asks for. Raises UserError."""
    if path.suffix == ".json":
        return read_plan(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ConfigError(f"{path}: {reason}; a plan.json or a mergekit YAML works") from None
    return parse_mergekit(text, where=str(path))


def parse_mergekit(text: str, *, where: str) -> Passthrough:
    """What a passthrough YAML asks for. Raises ConfigError saying what cannot be a plan."""
    data = parse_yaml(text, where=where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mergekit configuration, got {data!r:.40}")
    if (method := data.get("merge_method")) != "passthrough":
        raise ConfigError(f"{where}: merge_method {method!r}; only passthrough drops layers")
    if extra := sorted(set(data) - set(KNOWN)):
        raise ConfigError(f"{where}: {extra[0]!r} is not dropping layers; allowed: {', '.join(KNOWN)}")
    slices = data.get("slices")
    if not isinstance(slices, list) or not slices:
        raise ConfigError(f"{where}: no list of slices")
    sources = [_source(part, f"{where}: slice {i}") for i, part in enumerate(slices)]
    if len(models := {source["model"] for source in sources}) > 1:
        raise ConfigError(f"{where}: layers of several models ({', '.join(sorted(models))}); one can be cut")
    layers = [i for source in sources for i in range(*source["layer_range"])]
    for before, after in pairwise(layers):
        if after <= before:
            fault = "twice" if layers.count(after) > 1 else "out of order"
            raise ConfigError(
                f"{where}: layer {after} comes {fault}; a plan keeps layers once, in their order"
            )
    dtype = data.get("out_dtype") or data.get("dtype") or ""
    return Passthrough(tuple(layers), sources[0]["model"], str(dtype))


def _source(part: Any, where: str) -> dict[str, Any]:
    """The one source of a slice, checked."""
    sources = part.get("sources") if isinstance(part, dict) else None
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        raise ConfigError(f"{where}: expected one entry in `sources`")
    source = sources[0]
    if extra := sorted({*part, *source} - {"sources", "model", "layer_range"}):
        raise ConfigError(f"{where}: {extra[0]!r} is not dropping layers")
    if not isinstance(source.get("model"), str):
        raise ConfigError(f"{where}: `model` must be a name or a folder, got {source.get('model')!r}")
    ends = source.get("layer_range")
    is_range = isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)
    if not isinstance(ends, list) or not is_range or not 0 <= ends[0] < ends[1]:
        raise ConfigError(f"{where}: layer_range must be [first, end) with 0 <= first < end, got {ends!r}")
    return source


def mergekit_yaml(plan: Plan, source: Source, beyond: Sequence[str] = ()) -> str:
    """The passthrough YAML that cuts what the plan cuts; `mergekit-yaml FILE OUT` executes it.

    `beyond`: what this cut changes in config.json besides the number of layers, which mergekit leaves.
    """
    is_hub_id = len(source.revision) == 40  # a commit
    model = f"{source.name}@{source.revision}" if is_hub_id else str(source.folder.resolve())
    lines = ["# The cut of plan.json for mergekit, without any repair."]
    if beyond:
        lines.append(f"# mergekit leaves {', '.join(beyond)} of config.json as it is: take prune/model's.")
    lines.append("slices:")
    for start, end in spans_of(plan.keep):
        lines += ["- sources:", f"  - model: {json.dumps(model)}", f"    layer_range: [{start}, {end}]"]
    return "\n".join([*lines, "merge_method: passthrough", ""])
