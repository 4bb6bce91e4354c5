"""A hook of MkDocs: the page of all keys of a recipe, from the types that check it (fastpath/config*.py)."""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fastpath.config import Recipe
from fastpath.section import Section

PAGE = "reference/recipe.md"
HEAD = """# Every key of a recipe

A recipe is one YAML file; `key=value` on the command line overrides it (`prune.drop=4`). An unknown key, a
wrong type or a missing value is an error that names the key. This page is made from the types that check a
recipe. With `# yaml-language-server: $schema=schema.json` as the first line of a file in `configs/` an editor
completes the keys.
"""
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
LENGTHS = {"min_length": "at least {} of them"}
NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", NoneType: "null"}
UNITS = {
    "dollars": "dollars", "seconds": "seconds", "tokens": "tokens", "gib": "GiB", "bytes": "bytes",
    "minutes": "minutes", "nats": "nats a token",
}  # fmt: skip


def on_files(files: Any, config: Any) -> Any:
    """Add the page to those that are built (MkDocs calls this)."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=recipe_page()))
    return files


def recipe_page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for dotted, section in sections("", Recipe):
        title = f"`{dotted}:`" if dotted else "Top level"
        parts.append(f"## {title}\n\n{section.__doc__}\n")
        parts.append("| key | what it does | type | default |\n| --- | --- | --- | --- |")
        parts.append("\n".join(_row(dotted, name, field) for name, field in section.model_fields.items()))
        parts.append("")
    return "\n".join(parts)


def sections(dotted: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """(key, type) of a section and of all inside it, in the order in which they stand."""
    yield dotted, section
    for name, field in section.model_fields.items():
        for inner in _sections_of(field.annotation):
            yield from sections(f"{dotted}.{name}".lstrip("."), inner)


def _sections_of(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_of(part)]


def _row(dotted: str, name: str, field: Any) -> str:
    key = f"{dotted}.{name}".lstrip(".")
    words = " ".join((field.description or "").split())
    cells = (f"`{key}`", words, _type_words(name, field), _default_words(field))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type_words(name: str, field: Any) -> str:
    bounds = [words for mark in field.metadata for words in _bound_words(mark)]
    unit = [word for part, word in UNITS.items() if part in name.split("_")]
    return ", ".join([type_words(field.annotation), *unit[:1], *bounds])


def _bound_words(item: Any) -> Iterator[str]:
    for key, word in BOUNDS.items():
        if (bound := getattr(item, key, None)) is not None:
            yield f"{word} {bound:g}"
    for key, word in LENGTHS.items():
        if (bound := getattr(item, key, None)) is not None:
            yield word.format(bound)


def type_words(annotation: Any) -> str:
    """A type in words: 'integer', 'one of `a`, `b`', 'list of text'."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        marks = [m for p in parts[1:] for m in (p.metadata if isinstance(p, FieldInfo) else [p])]
        bounds = [words for mark in marks for words in _bound_words(mark)]
        return ", ".join([type_words(parts[0]), *bounds])
    if origin is Literal:
        return "one of " + ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_words(part) for part in parts))
    if origin is tuple:
        return f"list of {type_words(parts[0])}"
    if origin is dict:
        return f"mapping of {type_words(parts[0])} to {type_words(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _default_words(field: Any) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, Section):
        return "see below"
    if default is None:
        return "none" if _sections_of(field.annotation) else "`null`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    if isinstance(default, dict):
        return "`{" + ", ".join(f"{key}: {value}" for key, value in default.items()) + "}`"
    return f"`{default}`"
