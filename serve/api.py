"""What a request may say: OpenAI's words, each within bounds, everything else an error that names it.

Only sizes are checked here; tokens are counted by the engine.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve.errors import BadRequest

NAME = Annotated[str, Field(max_length=256)]
NEW_TOKENS = Annotated[int, Field(ge=1, le=2**31)]
STOP = Annotated[str, Field(min_length=1, max_length=256)]


class Part(BaseModel):
    """Text has the only kind of content that these models read."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["text", "input_text"]
    text: str


class Call(BaseModel):
    """A call of a tool that the assistant made earlier."""

    model_config = ConfigDict(extra="ignore")
    id: NAME = ""
    type: Literal["function"] = "function"
    function: dict[str, Any]


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: NAME | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: NAME | None = None

    def plain(self) -> dict[str, Any]:
        """As a chat template reads it."""
        parts = self.content if isinstance(self.content, list) else None
        text = self.content if parts is None else "".join(part.text for part in parts)
        role = "system" if self.role == "developer" else self.role
        rest = self.model_dump(include={"name", "tool_calls", "tool_call_id"}, exclude_none=True)
        return {"role": role, "content": text or "", **rest}


class Function(BaseModel):
    """What a tool is called and takes."""

    model_config = ConfigDict(extra="allow")
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str = ""
    parameters: dict[str, Any] = {}


class Tool(BaseModel):
    """A tool that the model may call."""

    model_config = ConfigDict(extra="allow")
    type: Literal["function"] = "function"
    function: Function


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class TextFormat(BaseModel):
    """Answers are text."""

    type: Literal["text"] = "text"


class Request(BaseModel):
    """What both endpoints take. Words that change nothing are taken; those that should but cannot are not."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    model: Annotated[str, Field(min_length=1, max_length=512)]
    """The served model; NAME:fast, NAME:standard or NAME:deep choose a tier."""
    service_tier: NAME | None = None
    """fast, standard or deep; priority is fast, auto and default are the configured default."""
    mode: NAME | None = None
    """Another name of service_tier."""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: NEW_TOKENS | None = None
    """Longest answer."""
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    """0 takes the likeliest token; 1 where nothing is said."""
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    stop: STOP | Annotated[list[STOP], Field(max_length=16)] | None = None
    """The answer ends before these texts."""
    logprobs: bool | Annotated[int, Field(ge=0, le=5)] | None = None
    """true, or any number: tell the log-probability of each token that was written, of no others."""
    n: Literal[1] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    seed: int | None = None
    """Changes nothing: an answer at temperature 0 is the same each time, others are not."""
    user: NAME | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    safety_identifier: NAME | None = None
    prompt_cache_key: NAME | None = None

    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        given = self.stop or ()
        return (given,) if isinstance(given, str) else tuple(given)

    def new_tokens(self) -> int | None:
        """The longest answer asked for."""
        return self.max_tokens

    def plain_messages(self) -> list[dict[str, Any]] | None:
        """As a chat template reads them."""
        return None

    def plain_tools(self) -> list[dict[str, Any]] | None:
        """As a chat template reads them."""
        return None

    def callable_tools(self) -> list[Tool]:
        """Tools that the answer may call."""
        return []

    def tool_names(self) -> set[str]:
        """What they are called."""
        return {tool.function.name for tool in self.callable_tools()}

    def plain_prompt(self) -> str | list[int] | None:
        """What is no chat: a text, or its token ids."""
        return None

    def wants_logprobs(self) -> bool:
        """Whether the answer should tell its tokens' log-probabilities."""
        return self.logprobs is not None and self.logprobs is not False

    def prompt_bytes(self) -> int:
        """Size of what the model would read."""
        raise NotImplementedError


class ChatRequest(Request):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: NEW_TOKENS | None = None
    """Longest answer; goes before max_tokens."""
    tools: Annotated[list[Tool], Field(max_length=256)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | None = None
    logprobs: bool | None = None
    """Tell the log-probability of each token that was written."""
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    """Tokens that were not written are not told of."""

    def new_tokens(self) -> int | None:
        """The longest answer asked for."""
        return self.max_completion_tokens or self.max_tokens

    def plain_messages(self) -> list[dict[str, Any]]:
        """As a chat template reads them."""
        return [message.plain() for message in self.messages]

    def plain_tools(self) -> list[dict[str, Any]] | None:
        """As a chat template reads them."""
        hidden: Any = {"annotations": True, "function": {"annotations"}}  # for us, not for the model
        return [tool.model_dump(exclude=hidden) for tool in self.callable_tools()] or None

    def callable_tools(self) -> list[Tool]:
        """Tools that the answer may call."""
        return [] if self.tool_choice == "none" else self.tools or []

    def prompt_bytes(self) -> int:
        """Size of what the model would read."""
        return sum(
            len(message.model_dump_json().encode()) for message in [*self.messages, *(self.tools or ())]
        )


class CompletionRequest(Request):
    """POST /v1/completions."""

    prompt: str | list[Annotated[int, Field(ge=0, lt=2**31)]]
    """One text, or its token ids."""
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None

    def plain_prompt(self) -> str | list[int] | None:
        """A text, or its token ids."""
        return self.prompt

    def prompt_bytes(self) -> int:
        """Size of what the model would read."""
        return len(self.prompt.encode()) if isinstance(self.prompt, str) else 4 * len(self.prompt)


def parse(kind: type[Request], body: bytes) -> Any:
    """The request in a body. Raises BadRequest naming the first thing that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _explained(kind, error) from None


def request_of(row: Mapping[str, Any], **keys: Any) -> Any:
    """The request that a line of a user's file holds: a completion where it has a prompt, else a chat.

    `keys` count before the row's own; the model need not be named. Raises BadRequest.
    """
    kind = CompletionRequest if "prompt" in row else ChatRequest
    return parse(kind, json.dumps({"model": "any", **row, **keys}).encode())


def _explained(kind: type[Request], error: ValidationError) -> BadRequest:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return BadRequest(f"the body is not valid JSON: {first['msg'].partition(': ')[2]}")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, kind.model_fields, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return BadRequest(f"{where[:64]!r}: not supported{hint}", param=where[:64])
    if first["type"] == "missing":
        return BadRequest(f"{where}: required", param=where)
    got = repr(first["input"])
    return BadRequest(f"{where or 'body'}: {first['msg']}, got {got[:60]}", param=where or None)
