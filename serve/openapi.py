"""The OpenAPI schema: request bodies are read and checked by us, so they are described by us."""

from typing import Any

from fastapi import FastAPI

from serve import api

BODIES: dict[str, type[api.Request]] = {
    "/v1/chat/completions": api.ChatRequest,
    "/v1/completions": api.CompletionRequest,
}


def describe(app: FastAPI) -> None:
    """Have /openapi.json tell what the two POST routes take."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        schema = plain()
        parts = schema.setdefault("components", {}).setdefault("schemas", {})
        for path, kind in BODIES.items():
            body = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            parts.update(body.pop("$defs", {}))
            parts[kind.__name__] = body
            content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
            schema["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        return schema

    app.openapi = described  # type: ignore[method-assign]
