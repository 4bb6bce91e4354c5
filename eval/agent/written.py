"""Free tool calls: models write them, in this process by their chat template, or behind an endpoint.

Every step is asked after the right calls so far, so answers are recorded once, as in the choice form.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance

from eval.agent.chat import judge, messages, read_answer, schemas
from eval.agent.tasks import AgentTask
from fastpath.config_costs import AgentConfig
from fastpath.errors import ConfigError, RunError

Rows = list[dict[str, Any]]

SERVICE_TIERS = {"base": "standard"}
"""Label -> service_tier; every other label is the fast tier."""
TRIES, BUSY_SECONDS, TIMEOUT_SECONDS = 3, 600.0, 300.0
BUSY = (429, 503)


def write_calls(
    lm: Any, tokenizer: Any, tasks: Sequence[AgentTask], config: AgentConfig, *, seed: int
) -> Rows:
    """A row a step: what an lm-eval model writes after its chat template. Raises ConfigError without one."""
    prompts = [(task, step, prompt_of(tokenizer, task, step)) for task in tasks for step in range(task.k)]
    settings = {
        "until": ["</tool_call>"],
        "max_gen_toks": config.max_new_tokens,
        "do_sample": True,
        "temperature": config.temperature,
    }
    torch.manual_seed(seed)
    texts = iter(
        lm.generate_until(
            [
                Instance("generate_until", {}, (prompt, settings), number)
                for _, _, prompt in prompts
                for number in range(config.trials)
            ]
        )
    )

    def size(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    rows = []
    for task, step, prompt in prompts:
        written = [next(texts) for _ in range(config.trials)]
        answers = [
            judge(task, step, read_answer(task, {"content": text})) | {"tokens_written": size(text)}
            for text in written
        ]
        rows.append(written_row(task, step, answers, tokens_read=size(prompt)))
    return rows


def prompt_of(tokenizer: Any, task: AgentTask, step: int) -> str:
    """The conversation with its tools as the model's own template writes it."""
    try:
        text = tokenizer.apply_chat_template(
            messages(task, step), tools=schemas(task.domain), add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # no template, or one that knows no tools: a template may raise anything
        raise ConfigError(
            f"eval.agent.form: no template for tool calls ({error!s:.80}); use choice"
        ) from None
    if task.domain.steps[-1].name not in text:
        raise ConfigError("eval.agent.form: the model's chat template shows no tools; use choice")
    return str(text)


def written_row(
    task: AgentTask, step: int, answers: list[dict[str, Any]], *, tokens_read: int
) -> dict[str, Any]:
    """What is recorded of one step as JSON."""
    gold = task.domain.tools[task.gold[step].tool]
    return {
        "task": task.id,
        "step": step,
        "gold_reversible": gold.reversible,
        "answers": answers,
        "tokens_read": tokens_read,
    }


def ask_endpoint(
    label: str,
    tasks: Sequence[AgentTask],
    config: AgentConfig,
    *,
    seed: int,
    advance: Callable[[float], None],
) -> Rows:
    """A row a step: what a tier behind an OpenAI-compatible endpoint answers.

    An answer that did not come is {"infrastructure": why}: excluded and counted. Raises RunError if nothing
    answers there at all.
    """
    assert config.endpoint is not None
    url = config.endpoint.rstrip("/")
    model = first_model(url)
    rows = []
    for task in tasks:
        for step in range(task.k):
            body = {
                "model": model,
                "service_tier": SERVICE_TIERS.get(label, "fast"),
                "messages": messages(task, step),
                "tools": schemas(task.domain),
                "temperature": config.temperature,
                "max_tokens": config.max_new_tokens,
            }
            answers, read = [], 0
            for trial in range(config.trials):
                answer, tokens = _asked(task, step, url, body | {"seed": seed + trial})
                answers.append(answer)
                read = max(read, tokens)
                advance(1)
            rows.append(written_row(task, step, answers, tokens_read=read))
    return rows


def _asked(task: AgentTask, step: int, url: str, body: dict[str, Any]) -> tuple[dict[str, Any], int]:
    try:
        reply = post(f"{url}/chat/completions", body)
        message, usage = reply["choices"][0]["message"], reply.get("usage") or {}
    except (OSError, ValueError, LookupError, TypeError) as error:
        return {"infrastructure": f"{type(error).__name__}: {error}"}, 0
    written = int(usage.get("completion_tokens") or 0)
    facts = judge(task, step, read_answer(task, message)) | {"tokens_written": written}
    return facts, int(usage.get("prompt_tokens") or 0)


def first_model(url: str) -> str:
    """The model that an endpoint serves. Raises RunError if it does not answer."""
    try:
        return str(post(f"{url}/models")["data"][0]["id"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunError(
            f"eval.agent.endpoint: {url} does not answer ({error!s:.80}); start it first"
        ) from None


def post(url: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON answer to a request; a busy server is waited for, as long as it says, up to ten minutes.

    Raises OSError (of urllib) or ValueError after TRIES other failures.
    """
    headers = {"content-type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    busy_until, tries = time.monotonic() + BUSY_SECONDS, TRIES
    while True:
        try:
            request = urllib.request.Request(url, data=data, headers=headers)
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            if error.code in BUSY and time.monotonic() < busy_until:
                time.sleep(_seconds(error.headers.get("retry-after")))
                continue
            if error.code < 500:
                raise
            failure: Exception = error
        except (OSError, ValueError) as error:
            failure = error
        tries -= 1
        if not tries:
            raise failure


def _seconds(text: str | None) -> float:
    """What Retry-After says, between 0.1 s and a minute; a second where it says nothing."""
    try:
        return min(60.0, max(0.1, float(text or 1)))
    except ValueError:
        return 1.0
