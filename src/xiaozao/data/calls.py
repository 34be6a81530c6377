"""Calls of tools and the descriptions of tools, in the forms that files have them.

a call          {"id": ..., "type": "function", "function": {"name": ..., "arguments": JSON text or an object}}
                {"name": ..., "arguments": ...}         {"function": "name", "arguments": ...}
several calls   a list of them, one alone, or either as JSON text; `function_call` of older files
a tool          {"type": "function", "function": {"name": ...}} or the inner object alone
tools           a list of objects or of JSON texts, one object, or either as JSON text; `functions` of older files
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from xiaozao.data.badfield import BadField
from xiaozao.data.strictjson import StrictError, kind_of, parse

CALLS = ("tool_calls", "toolcalls", "function_call", "functioncall", "function_calls")  # in lower case
TOOLS = ("tools", "functions")
ARGUMENTS = ("arguments", "parameters", "input")


@dataclass(frozen=True)
class Call:
    """A call of a tool. `arguments` is JSON text, or the text as it stands where the data holds none."""

    name: str
    arguments: str
    id: str = ""

    @property
    def values(self) -> Any:
        """The arguments as an object; the text itself where it is not JSON."""
        try:
            return json.loads(self.arguments)
        except ValueError:
            return self.arguments


def spoken_call(call: Call) -> str:
    """A call as the JSON that ShareGPT files hold in their function_call turns."""
    return json.dumps({"name": call.name, "arguments": call.values}, ensure_ascii=False)


def read_calls(turn: Mapping[str, Any], where: str, lenient: bool = False) -> tuple[Call, ...]:
    """The calls of a turn, in the order of the file. With `lenient`, text that is no call gives none.

    Raises BadField for calls that cannot be read.
    """
    name = next((name for name in CALLS if turn.get(name)), "")
    value = turn.get(name)
    if isinstance(value, str):
        try:
            value = parse(value)
        except StrictError as error:
            if lenient:
                return ()
            raise _placed(error, f"{where}.{name}") from None
    if lenient and not _is_call(value) and not (isinstance(value, list) and value and all(map(_is_call, value))):
        return ()
    if value is None or value == "":
        return ()
    if not isinstance(value, list | dict):
        raise BadField("row_call", f"{where}.{name}", found=kind_of(value))
    calls = value if isinstance(value, list) else [value]
    return tuple(
        _call(call, f"{where}.{name}[{index}]" if isinstance(value, list) else f"{where}.{name}")
        for index, call in enumerate(calls)
    )


def read_tools(fields: Mapping[str, Any]) -> str:
    """The tools of a row as the JSON text of a list of OpenAI's descriptions; "" without any. Raises BadField."""
    name = next((name for name in TOOLS if fields.get(name)), "")
    value = fields.get(name)
    if isinstance(value, str):
        if not value.strip():
            return ""
        value = _parsed_tool(value, name)
    if not value:
        return ""
    if not isinstance(value, list | dict):
        raise BadField("row_tools", name, found=kind_of(value))
    if isinstance(value, dict) and value and not value.keys() & {"name", "function", "type"}:
        value = [{"name": key, **about} for key, about in value.items() if isinstance(about, dict)] or [value]
    listed = value if isinstance(value, list) else [value]
    tools = [_tool(tool, f"{name}[{index}]") for index, tool in enumerate(listed)]
    return json.dumps(plain(tools), ensure_ascii=False)


def plain(value: Any) -> Any:
    """A value of a table as JSON has it: dates as ISO text, decimals as numbers, bytes as text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def _is_call(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and any(key in value for key in ARGUMENTS)


def _call(call: Any, where: str) -> Call:
    if isinstance(call, str):
        try:
            call = parse(call)
        except StrictError as error:
            raise _placed(error, where) from None
    if not isinstance(call, dict):
        raise BadField("row_call", where, found=kind_of(call))
    function, place = call.get("function"), f"{where}.function"
    if not isinstance(function, dict):
        function, place = {**call, **({"name": function} if isinstance(function, str) else {})}, where
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise BadField("row_call_name", where, fields=", ".join(map(str, call)))
    key = next((key for key in ARGUMENTS if key in function), "")
    given = function.get(key)
    identity = call.get("id")
    return Call(name, _arguments(given, f"{place}.{key}"), identity if isinstance(identity, str) else "")


def _arguments(value: Any, where: str) -> str:
    if value is None or value == "":
        return "{}"
    if not isinstance(value, str):
        return json.dumps(plain(value), ensure_ascii=False)
    try:
        return json.dumps(parse(value), ensure_ascii=False)
    except StrictError as error:
        if error.key == "row_json" and not value.lstrip().startswith(("{", "[")):
            return value  # words that were never meant to be JSON
        raise _placed(error, where) from None


def _tool(tool: Any, where: str) -> Any:
    if isinstance(tool, str):
        tool = _parsed_tool(tool, where)
    if not isinstance(tool, dict):
        raise BadField("row_tools", where, found=kind_of(tool))
    if "name" in tool and not isinstance(tool.get("function"), dict):
        return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadField("row_call_name", where, fields=", ".join(map(str, tool)))
    return tool


def _parsed_tool(text: str, where: str) -> Any:
    try:
        return parse(text)
    except StrictError as error:
        raise _placed(error, where) from None


def _placed(error: StrictError, where: str) -> BadField:
    """A problem of JSON within a field, as a problem of that field."""
    params = {"found" if name == "field" else name: value for name, value in error.params.items()}
    return BadField(error.key.replace("row_", "call_"), where, **params)
