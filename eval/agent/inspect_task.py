"""The agent suite as a task of Inspect AI, for any model that it can ask (extra `inspect`):

inspect eval eval/agent/inspect_task.py --model openai-api/tiers/fast -T tasks=48 -T trials=4
(with TIERS_BASE_URL=http://127.0.0.1:8000/v1, TIERS_API_KEY=any, for `python -m serve` and the like)

The same items, checker and pass^k as the agent task of `python -m eval` with form: tools. Each step is asked
after the right calls so far; a trial succeeds where every step is right. https://inspect.aisi.org.uk
"""

import json
from functools import cache
from typing import Any

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall, ToolInfo, ToolParam, ToolParams

from eval.agent.chat import judge, messages, read_answer, schemas
from eval.agent.tasks import AgentTask, generate_tasks


@task
def agent(tasks: int = 48, trials: int = 4, examples: int = 1, seed: int = 0) -> Task:
    """Tool calls on simulated tools: `tasks` of 1 to 8 dependent steps, each done `trials` times."""
    samples = [
        Sample(id=made.id, input=made.goal, target="every step right", metadata={"steps": made.k})
        for made in suite(seed, tasks).values()
    ]
    reducers = ["mean", *(f"pass_k_{k}" for k in range(2, trials + 1))]
    return Task(
        dataset=MemoryDataset(samples, name="agent"),
        solver=call_by_call(tasks, examples, seed),
        scorer=all_right(),
        epochs=Epochs(trials, reducers),
    )


@cache
def suite(seed: int, num_tasks: int) -> dict[str, AgentTask]:
    """The evaluation's tasks by id."""
    return {made.id: made for made in generate_tasks(split="evaluation", seed=seed, num_tasks=num_tasks)}


@solver
def call_by_call(tasks: int, examples: int, seed: int) -> Solver:
    """Ask for the call of each step; the class of its error, "" for none, goes to the metadata."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        made = suite(seed, tasks)[str(state.sample_id)]
        tools = [tool_info(schema["function"]) for schema in schemas(made.domain)]
        errors = []
        for step in range(made.k):
            said = [chat_message(message) for message in messages(made, step, examples)]
            output = await get_model().generate(said, tools=tools)
            errors.append(judge(made, step, read_answer(made, openai_message(output)))["error"])
            state.messages, state.output = [*said, output.message], output
        state.metadata["errors"] = errors
        return state

    return solve


@scorer(metrics=[accuracy(), stderr()])
def all_right() -> Scorer:
    """Whether every step of the task was right; the classes of its errors as the explanation."""

    async def score(state: TaskState, target: Target) -> Score:
        errors = state.metadata["errors"]
        value = INCORRECT if any(errors) else CORRECT
        return Score(value=value, explanation=", ".join(error or "right" for error in errors))

    return score


def tool_info(function: dict[str, Any]) -> ToolInfo:
    """A tool as Inspect describes it."""
    given = function["parameters"]
    properties = {name: ToolParam(type=facts["type"]) for name, facts in given["properties"].items()}
    parameters = ToolParams(properties=properties, required=given["required"])
    return ToolInfo(name=function["name"], description=function["description"], parameters=parameters)


def chat_message(message: dict[str, Any]) -> ChatMessage:
    """A message of OpenAI's format as Inspect's."""
    role, content = message["role"], message["content"] or ""
    if role == "tool":
        return ChatMessageTool(content=content, tool_call_id=message["tool_call_id"])
    if role == "assistant":
        calls = [tool_call(call) for call in message.get("tool_calls", ())]
        return ChatMessageAssistant(content=content, tool_calls=calls or None)
    return (ChatMessageSystem if role == "system" else ChatMessageUser)(content=content)


def tool_call(call: dict[str, Any]) -> ToolCall:
    """An earlier call as Inspect's."""
    function = call["function"]
    return ToolCall(id=call["id"], function=function["name"], arguments=json.loads(function["arguments"]))


def openai_message(output: ModelOutput) -> dict[str, Any]:
    """What a model answered, in OpenAI's format; a call that Inspect could not read has no arguments."""
    message = output.message
    calls = [
        {"function": {"name": call.function, "arguments": None if call.parse_error else call.arguments}}
        for call in message.tool_calls or ()
    ]
    return {"content": message.text, "tool_calls": calls}
