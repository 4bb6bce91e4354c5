"""What is wrong with a call, by name: exact, from the table, the tools and what is left to do."""

import copy

from eval.agent.tasks import AgentTask
from eval.agent.tools import ASK_HUMAN, Call, Table, parse_call

ERRORS = {
    "wrong_tool": "a tool that does not exist, or is not the one that the task needs",
    "hallucinated_argument": "an argument that the tool does not have, or a thing that is not there",
    "skipped_precondition": "a tool that the task needs later: what it needs is not done yet",
    "misread_constraint": "the right tool with a value that the task does not ask for",
    "malformed_call": "no call that could be read, or one with an argument missing or of the wrong type",
    "gave_up": "no call, or a person is asked to do the rest",
}
MALFORMED = ("missing_argument", "wrong_type")


def classify(task: AgentTask, step: int, call: Call | None, *, attempted: bool = True) -> str:
    """ "" for the right call of a step (0-based), else the class of the error.

    None is a text that is no call: malformed if it was an attempt at one, else the model gave up.
    """
    if call is None:
        return "malformed_call" if attempted else "gave_up"
    if call.tool == ASK_HUMAN:
        return "gave_up"
    fault = task.domain.fault(task.tables[step], call)
    if fault == "unknown_tool":
        return "wrong_tool"
    if fault in ("unknown_argument", "no_such_row"):
        return "hallucinated_argument"
    if fault in MALFORMED:
        return "malformed_call"
    if call.tool == task.gold[step].tool:
        return "" if dict(call.arguments) == dict(task.gold[step].arguments) else "misread_constraint"
    later = {gold.tool for gold in task.gold[step + 1 :]}
    return "skipped_precondition" if call.tool in later and fault == "precondition" else "wrong_tool"


def attempts_a_call(task: AgentTask, text: str) -> bool:
    """Whether a text that is no call was meant as one: it names a tool or opens a JSON object."""
    return "{" in text or any(name in text for name in task.domain.tools)


def classify_text(task: AgentTask, step: int, text: str) -> str:
    """As `classify`, of what a model wrote."""
    return classify(task, step, parse_call(text), attempted=attempts_a_call(task, text))


def executes(task: AgentTask, step: int, call: Call | None) -> bool:
    """Whether the call would change the table: if it is wrong and nobody looks, it is a wrong outcome."""
    return call is not None and call.tool != ASK_HUMAN and task.domain.changes(task.tables[step], call)


def is_reversible(task: AgentTask, call: Call | None) -> bool:
    """Whether the call can be undone; what is no call of a known tool does nothing."""
    tool = task.domain.tools.get(call.tool) if call is not None else None
    return tool is None or tool.reversible


def final_table(task: AgentTask, calls: list[Call | None]) -> Table:
    """The table after calls made one after the other; what cannot be executed changes nothing."""
    table = copy.deepcopy(task.start)
    for call in calls:
        if call is not None:
            task.domain.execute(table, call)
    return table


def is_done(task: AgentTask, table: Table) -> bool:
    """Whether a table is what the task asked for: nothing missing, nothing else touched."""
    return table == task.tables[-1]
