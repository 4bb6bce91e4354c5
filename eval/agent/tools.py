"""Simulated tools: a table with real rows, which calls look up and change."""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Table = dict[Any, Row]
"""Key of a row (an order id, a file name) -> the row."""

TYPES = {"string": str, "integer": int, "boolean": bool}
ASK_HUMAN = "ask_human"
"""The tool of every domain that ends the run: a person shall do the rest."""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    tool: str
    arguments: Mapping[str, Any]

    @property
    def text(self) -> str:
        """As a model writes it: the name, then the arguments as JSON."""
        return f"{self.tool} {json.dumps(dict(self.arguments))}"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """What a call looks up, needs, and leaves on the row."""

    name: str
    does: str
    takes: tuple[str, ...]
    """Arguments, all required; the first names the row."""
    needs: str = ""
    """Tool whose mark must stand on the row before."""
    says: str = "ok"
    """What a call answers; {column} of the row, {argument} of the call."""
    reversible: bool = True
    asks: tuple[str, ...] = ()
    """How a task asks for it: two for evaluation, then calibration, distillation; none of a decoy."""

    @property
    def values(self) -> tuple[str, ...]:
        """Its arguments beside the one that names the row."""
        return self.takes[1:]


@dataclass(frozen=True)
class Argument:
    """Type and possible values of an argument; of one that names rows, the pool of their names."""

    type: str
    pools: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Split -> values; a boolean needs none."""
    wrong_names: tuple[str, ...] = ()
    """Names that it does not have, but that sound right."""


@dataclass(frozen=True)
class Outcome:
    """What a call did: the observation, and the fault for which it was rejected ("" where it was not)."""

    says: str
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A table and its tools: `steps` in the order in which each needs the one before; decoys need none."""

    name: str
    key: str
    """Column and argument that names a row."""
    known_as: str
    """How a task names a row of which the key is known; {column} of the row."""
    found_as: str
    """The same where the key has first to be found."""
    arguments: Mapping[str, Argument]
    facts: Mapping[str, str]
    """Column -> argument of whose pool it is."""
    steps: tuple[Tool, ...]
    decoys: tuple[Tool, ...]

    @property
    def tools(self) -> dict[str, Tool]:
        """Every tool by name, in an order that does not tell the order of work."""
        return {tool.name: tool for tool in sorted((*self.steps, *self.decoys), key=lambda t: t.name)}

    def find(self, table: Table, tool: Tool, call: Call) -> Any:
        """Key of the row that a call names; None where there is none."""
        column, asked = tool.takes[0], call.arguments[tool.takes[0]]
        return next((key for key, row in table.items() if row[column] == asked), None)

    def fault(self, table: Table, call: Call) -> str:
        """Why the call would be rejected; "" where it would not. In the order in which a server checks."""
        tool = self.tools.get(call.tool)
        if tool is None:
            return "unknown_tool"
        if set(call.arguments) - set(tool.takes):
            return "unknown_argument"
        if set(tool.takes) - set(call.arguments):
            return "missing_argument"
        if any(type(call.arguments[a]) is not TYPES[self.arguments[a].type] for a in tool.takes):
            return "wrong_type"
        key = self.find(table, tool, call)
        if key is None:
            return "no_such_row"
        return "precondition" if tool.needs and tool.needs not in table[key] else ""

    def execute(self, table: Table, call: Call) -> Outcome:
        """Do the call on the table. A rejected one changes nothing."""
        if fault := self.fault(table, call):
            return Outcome(f"error: {fault.replace('_', ' ')}", fault)
        tool = self.tools[call.tool]
        row = table[self.find(table, tool, call)]
        row[tool.name] = {name: call.arguments[name] for name in tool.values} or True
        return Outcome(tool.says.format_map({**row, **call.arguments}))

    def changes(self, table: Table, call: Call) -> bool:
        """Whether the call would leave the table other than it is."""
        after = copy.deepcopy(table)
        self.execute(after, call)
        return after != table


CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*(\{.*\})\s*", re.DOTALL)


def parse_call(text: str) -> Call | None:
    """The call that a text is; None where it is none: a name, then a JSON object, and nothing else."""
    match = CALL.fullmatch(text)
    if not match:
        return None
    try:
        arguments = json.loads(match.group(2))
    except ValueError:
        return None
    return Call(match.group(1), arguments)
