"""JSON lines of the user's own: a fault is named with its file and line."""

import json
from pathlib import Path
from typing import Any

from fastpath.errors import ConfigError


def read_jsonl(path: Path | str, *, key: str) -> list[tuple[str, dict[str, Any]]]:
    """(where it stands, object) of every line that is not blank; `key` is the recipe's that names the file.

    Raises ConfigError for a file that cannot be read or is empty, and for a line that is no JSON object.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ConfigError(f"{key}: {path}: {reason}") from None
    # Not splitlines(): JSON texts may hold U+2028 and the like as they are.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise ConfigError(f"{key}: {path}: has no items")
    return [(where := f"{key}: {path}, line {number}", _object(line, where)) for number, line in lines]


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise ConfigError(f'{where}: expected an object ({{"key": ...}}), got {row!r:.40}')
    return row
