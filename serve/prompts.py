"""A request's messages or prompt -> the tokens that the model reads."""

from typing import Any

from fastpath import tool_prompt

Message = dict[str, Any]


class PromptError(ValueError):
    """This model cannot be asked this; the message says why."""

    code = "invalid_prompt"


class PromptTooLong(PromptError):
    """Prompt and answer do not fit."""

    code = "prompt_too_long"


def prompt_tokens(tokenizer: Any, job: dict[str, Any]) -> list[int]:
    """The prompt's token ids. Raises PromptError."""
    if job["messages"] is not None:
        text = chat_text(tokenizer, job["messages"], job["tools"])
        tokens = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    elif isinstance(job["prompt"], str):
        tokens = tokenizer(job["prompt"])["input_ids"]
    else:
        tokens = job["prompt"]
        if max(tokens, default=0) >= (size := len(tokenizer)):
            raise PromptError(f"prompt: token {max(tokens)} is not in the vocabulary of {size}")
    if not tokens:
        raise PromptError("the prompt has no tokens")
    return list(tokens)


def chat_text(tokenizer: Any, messages: list[Message], tools: list[dict[str, Any]] | None) -> str:
    """The messages as the model was trained to read them; plainly where it has no chat template."""
    if not tokenizer.chat_template:
        if tools:
            raise PromptError("tools: this model has no chat template")
        return plain_text(messages)
    try:
        return tool_prompt.chat_text(tokenizer, messages, tools)
    except tool_prompt.TEMPLATE_ERRORS as error:
        raise PromptError(f"messages: the model's chat template refuses them: {error}") from None


def plain_text(messages: list[Message]) -> str:
    """`Role: content` a line, for models that were trained on no chat."""
    lines = [f"{message['role'].capitalize()}: {message.get('content') or ''}" for message in messages]
    return "\n".join([*lines, "Assistant:"])
