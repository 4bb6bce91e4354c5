"""Requests that are computed when an engine starts, so that those which begin alike are answered sooner."""

from typing import Any

from fastpath.config_serve import ServeConfig
from fastpath.errors import ConfigError
from fastpath.jsonl import read_jsonl
from serve.api import Request, request_of
from serve.errors import BadRequest


def read_warm(config: ServeConfig) -> list[dict[str, Any]]:
    """{messages, prompt, tools} of each line of `serve.warm`. Raises ConfigError naming the line."""
    if config.warm is None:
        return []
    rows = []
    for where, row in read_jsonl(config.warm, key="serve.warm"):
        try:
            request: Request = request_of(row)
        except BadRequest as error:
            raise ConfigError(f"{where}: {error}") from None
        rows.append({
            "messages": request.plain_messages(),
            "prompt": request.plain_prompt(),
            "tools": request.plain_tools(),
        })  # fmt: skip
    return rows
