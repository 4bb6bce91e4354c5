"""A recipe from its YAML file and `key=value` overrides, or one line that names the wrong key.

The whole recipe is checked by every stage, so a misspelt key in `eval:` is found before `prune` spends
minutes. Imports neither torch nor transformers.
"""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from fastpath.config import Recipe
from fastpath.errors import ConfigError
from fastpath.section import Section


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
        faults = error.errors()
        misspelt = [fault for fault in faults if fault["type"] == "extra_forbidden"]
        raise ConfigError(_explain((misspelt or faults)[0])) from None  # its right name may be missing too


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
        return f"{dotted}: {error['ctx']['error']}" if dotted else str(error["ctx"]["error"])
    return f"{dotted}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r:.60}"


def _section_at(loc: Sequence[str]) -> type[Section]:
    section: type[Section] = Recipe
    for part in loc:
        if part.isdigit():  # place in a list of sections
            continue
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
