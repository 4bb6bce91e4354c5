"""Requests that are computed when an engine starts, so that those which begin alike are answered sooner."""

import json
from pathlib import Path
from typing import Any

from fastpath.config_serve import ServeConfig
from fastpath.errors import ConfigError
from serve import api
from serve.errors import BadRequest


def read_warm(config: ServeConfig) -> list[dict[str, Any]]:
    """{messages, prompt, tools} of each line of `serve.warm`. Raises ConfigError naming the line."""
    if config.warm is None:
        return []
    path = Path(config.warm)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"serve.warm: {path} cannot be read ({error})") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(_row(line))
            except (ValueError, BadRequest) as error:
                raise ConfigError(f"serve.warm: {path}, line {number}: {error}") from None
    return rows


def _row(line: str) -> dict[str, Any]:
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("should be a request with messages or a prompt")
    kind = api.CompletionRequest if "prompt" in data else api.ChatRequest
    request: api.Request = api.parse(kind, json.dumps({"model": "any", **data}).encode())
    return {
        "messages": request.plain_messages(),
        "prompt": request.plain_prompt(),
        "tools": request.plain_tools(),
    }
