"""The policy that an evaluation chose (`python -m eval.route`): its section `serve:`, read by machines."""

import json
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from fastpath.config_serve import POLICY_KEYS, ServeConfig
from fastpath.errors import ConfigError
from fastpath.recipe_file import parse_yaml


def with_policy(config: ServeConfig) -> tuple[ServeConfig, JsonValue]:
    """(the settings with what `policy_file` says and the recipe does not, why it says so).

    That is its section `serve:` and `fast_model`, the model for which it was chosen.
    Raises ConfigError naming what is wrong with the file.
    """
    if config.policy_file is None:
        return config, None
    where = f"serve.policy_file: {config.policy_file}"
    data = _read(Path(config.policy_file), where)
    given: Any = data["serve"]
    if not isinstance(given, dict) or set(given) != set(POLICY_KEYS):
        raise ConfigError(f"{where}: serve: should have the keys {', '.join(POLICY_KEYS)}, and no others")
    own = config.model_dump(mode="json", exclude_unset=True)
    fast = own.get("fast") or {}
    if isinstance(data.get("fast_model"), str) and not {"model", "url"} & set(fast):
        own["fast"] = {**fast, "model": data["fast_model"]}  # the one whose mistakes were counted
    try:
        # Through JSON, as recipes are read: strictly.
        made = ServeConfig.model_validate_json(json.dumps({**given, **own}, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: serve: {f'{key}: ' if key else ''}{_words(first)}") from None
    return made, json.loads(json.dumps(data.get("because"), default=str))


def _read(path: Path, where: str) -> dict[str, Any]:
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"), where=where)
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ConfigError(f"{where}: {reason}; `python -m eval.route --run RUN` writes one") from None
    if not isinstance(data, dict) or "serve" not in data:
        raise ConfigError(f"{where}: has no section serve:; write it anew with `python -m eval.route`")
    return data


def _words(error: Any) -> str:
    return str(error.get("ctx", {}).get("error") or f"{error['msg']}, got {error['input']!r:.60}")
