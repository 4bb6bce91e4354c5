"""Free tool calls: models write them, in this process by their chat template, or behind an endpoint.

Every step is asked after the right calls so far, so answers are recorded once, as in the choice form.
"""

import http.client
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance

from eval.agent.chat import judge, messages, read_answer, schemas
from eval.agent.tasks import AgentTask
from fastpath.config_costs import AgentConfig
from fastpath.errors import ConfigError, RunError
from fastpath.tool_prompt import TEMPLATE_ERRORS, chat_text

Rows = list[dict[str, Any]]

KEY_VARIABLE = "FASTPATH_ENGINE_KEY"
"""Environment variable of the endpoint's key; as serve's engines at a url have it."""
SERVICE_TIERS = {"base": "standard"}
"""Label -> service_tier; every other label is the fast tier."""
CALL_ENDS = "</tool_call>"
TRIES, BUSY_SECONDS, TIMEOUT_SECONDS = 3, 600.0, 300.0
BUSY = (429, 503)
LOST = (OSError, ValueError, LookupError, TypeError, AttributeError, http.client.HTTPException)
"""What a reply that did not come, was cut off or is none of OpenAI's format raises: nothing of the model."""


def write_calls(
    lm: Any, tokenizer: Any, tasks: Sequence[AgentTask], config: AgentConfig, *, seed: int
) -> Rows:
    """A row a step: what an lm-eval model writes after its chat template. Raises ConfigError without one.

    Writing stops at the end of a call, so the token that ends an answer has no part in `mean_logprob`; in
    that of a served answer it has: an `endpoint` measures exactly what `serve` compares.
    """
    steps = [(task, step) for task in tasks for step in range(task.k)]
    prompts = [prompt_of(tokenizer, task, step, config.examples) for task, step in steps]
    settings = {
        "until": [CALL_ENDS],
        "max_gen_toks": config.max_new_tokens,
        "do_sample": True,
        "temperature": config.temperature,
    }
    repeated = [prompt for prompt in prompts for _ in range(config.trials)]
    torch.manual_seed(seed)
    requests = [Instance("generate_until", {}, (prompt, settings), n) for n, prompt in enumerate(repeated)]
    texts = [_closed(text) for text in lm.generate_until(requests)]
    sizes = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
    nats = log_likelihoods(lm, repeated, texts)
    answers = []
    for number, (text, size) in enumerate(zip(texts, sizes, strict=True)):
        task, step = steps[number // config.trials]
        facts = {"tokens_written": size, "mean_logprob": nats[number] / size if size else None}
        answers.append(judge(task, step, read_answer(task, {"content": text})) | facts)
    return [
        written_row(
            task,
            step,
            answers[number * config.trials : (number + 1) * config.trials],
            tokens_read=len(tokenizer(prompt, add_special_tokens=False).input_ids),
        )
        for number, ((task, step), prompt) in enumerate(zip(steps, prompts, strict=True))
    ]


def _closed(text: str) -> str:
    """As a server gives it: lm-eval cuts off the mark at which writing ended."""
    return f"{text}{CALL_ENDS}" if "<tool_call>" in text else text


def log_likelihoods(lm: Any, prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
    """Nats of each text after its prompt, at temperature 1; 0 of an empty one."""
    pairs = [pair for pair in zip(prompts, texts, strict=True) if pair[1]]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    found = iter(lm.loglikelihood(requests) if requests else ())
    return [next(found)[0] if text else 0.0 for text in texts]


def prompt_of(tokenizer: Any, task: AgentTask, step: int, examples: int = 0) -> str:
    """The conversation with its tools as the model reads it. Raises ConfigError without a chat template."""
    if not tokenizer.chat_template:
        raise ConfigError("eval.agent.form: the model has no chat template; use choice")
    try:
        return chat_text(tokenizer, messages(task, step, examples), schemas(task.domain))
    except TEMPLATE_ERRORS as error:
        raise ConfigError(
            f"eval.agent.form: the chat template refuses its messages ({error!s:.80}); use choice"
        ) from None


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
                "messages": messages(task, step, config.examples),
                "tools": schemas(task.domain),
                "temperature": config.temperature,
                "max_tokens": config.max_new_tokens,
                "logprobs": True,
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
        choice, usage = reply["choices"][0], reply.get("usage") or {}
        answer = read_answer(task, choice["message"])
        read, written = (int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion"))
        told = {"tokens_written": written, "mean_logprob": mean_logprob(choice)}
    except LOST as error:
        return {"infrastructure": f"{type(error).__name__}: {error}"}, 0
    check_tier(reply, str(body["service_tier"]))
    return judge(task, step, answer) | told, read


def check_tier(reply: Mapping[str, Any], asked: str) -> None:
    """Raise RunError if another tier than the one that was asked had a part in the answer."""
    served = reply.get("service_tier")
    if (served in ("fast", "standard") and served != asked) or reply.get("fastpath"):
        raise RunError(
            f"eval.agent.endpoint: {asked} was asked and {served} answered; measure a server without "
            "escalate_below, policy, policy_file and allow_fallback"
        )


def mean_logprob(choice: Mapping[str, Any]) -> float | None:
    """Nats a token of an answer in OpenAI's format; None where the server tells none."""
    told = (choice.get("logprobs") or {}).get("content") or ()
    return math.fsum(token["logprob"] for token in told) / len(told) if told else None


def first_model(url: str) -> str:
    """The model that an endpoint serves. Raises RunError if it does not answer."""
    try:
        return str(post(f"{url}/models")["data"][0]["id"])
    except LOST as error:
        raise RunError(
            f"eval.agent.endpoint: {url} does not answer ({error!s:.80}); start it first"
        ) from None


def post(url: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON answer to a request; a busy server is waited for, as long as it says, up to ten minutes.

    Raises one of LOST after TRIES other failures.
    """
    headers = {"content-type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
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
        except (OSError, ValueError, http.client.HTTPException) as error:
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
