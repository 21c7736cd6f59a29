"""Tools, the choice among them, and the format of structured output in a request body (wire.md 2.6 to 2.9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from hokku.api.anthropic.fields import (
    a_boolean,
    a_string,
    an_array,
    an_object,
    joined,
    one_of,
    refuse,
    refuse_extras,
    refuse_tag,
    required,
)
from hokku.api.anthropic.findings import LIFETIME_SECS, CacheMark, Findings, cache_ttl
from hokku.grammar.schema import check_schema, open_objects
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import ChoiceKind, Tool, ToolChoice

TOOL_KEYS = (
    "type",
    "name",
    "description",
    "input_schema",
    "cache_control",
    "strict",
    "eager_input_streaming",
    "input_examples",
    "defer_loading",
    "allowed_callers",
)
CHOICE_KEYS = {
    "auto": ("type", "disable_parallel_tool_use"),
    "any": ("type", "disable_parallel_tool_use"),
    "tool": ("type", "name", "disable_parallel_tool_use"),
    "none": ("type",),
}
EFFORTS = ("low", "medium", "high", "xhigh", "max")
NAME_PATTERN = "^[a-zA-Z0-9_-]{1,128}$"
MAX_TOOLS = 1_000
COMBINATORS = ("oneOf", "allOf", "anyOf")
FORMAT_PLACE = "output_config.format"


def read_tool_choice(body: dict[str, Any]) -> ToolChoice:
    """`tool_choice`; it comes before `tools` in the order of checks, so their names are taken as they are."""
    if "tool_choice" not in body:
        return ToolChoice()
    choice = an_object(body["tool_choice"], "tool_choice")
    kind = required(choice, "type", "tool_choice")
    if not isinstance(kind, str) or kind not in CHOICE_KEYS:
        refuse_tag("tool_choice", kind, CHOICE_KEYS)
    path = f"tool_choice.{kind}"
    name = a_string(required(choice, "name", path), f"{path}.name") if kind == "tool" else None
    is_parallel = True
    if "disable_parallel_tool_use" in choice and kind != "none":
        flag = a_boolean(choice["disable_parallel_tool_use"], f"{path}.disable_parallel_tool_use")
        is_parallel = not flag
    refuse_extras(choice, CHOICE_KEYS[kind], path)
    tools = body["tools"] if isinstance(body.get("tools"), list) else []
    if kind == "any" and not tools:
        raise InvalidRequest("tool_choice.any may only be specified while providing tools")
    if kind == "tool" and name not in [tool.get("name") for tool in tools if isinstance(tool, dict)]:
        raise InvalidRequest(f"Tool '{name}' not found in provided tools")
    return ToolChoice(cast(ChoiceKind, kind), name, is_parallel)


def read_tools(value: object, findings: Findings) -> tuple[Tool, ...]:
    """The `tools` array; what runs on the server's side is noted as not served."""
    array = an_array(value, "tools")
    if len(array) > MAX_TOOLS:
        refuse("tools", f"at most {MAX_TOOLS} tools are allowed")
    tools = [tool for index, each in enumerate(array) if (tool := _tool(each, f"tools.{index}", findings))]
    if len({tool.name for tool in tools}) < len(tools):
        refuse("tools", "Tool names must be unique.")
    return tuple(tools)


def read_output_config(value: object, findings: Findings) -> Mapping[str, Any] | None:
    """The schema of `output_config.format`, if there is one."""
    if not isinstance(value, dict):
        refuse("output_config", "Input does not match the expected shape.")
    if value.get("effort") is not None:
        if value["effort"] not in EFFORTS:
            refuse("output_config.effort", one_of(EFFORTS))
        findings.refusals.append(lambda _model: "This model does not support the effort parameter.")
    schema = None if value.get("format") is None else _output_schema(value["format"], findings)
    if schema is not None and not findings.serves_structured_output:
        findings.refusals.append(lambda model: f"'{model}' does not support output format.")
    refuse_extras(value, ("effort", "format"), "output_config")
    return schema


def _output_schema(value: object, findings: Findings) -> Mapping[str, Any]:
    output_format = an_object(value, FORMAT_PLACE)
    if required(output_format, "type", FORMAT_PLACE) != "json_schema":
        refuse(joined(FORMAT_PLACE, "type"), one_of(["json_schema"]))
    place = joined(FORMAT_PLACE, "schema")
    schema = an_object(required(output_format, "schema", FORMAT_PLACE), place)
    refuse_extras(output_format, ("type", "schema"), FORMAT_PLACE)
    findings.schema_values_left -= check_schema(schema, place, findings.schema_values_left)
    _refuse_open_objects(schema, place, place)
    return schema


def _tool(value: object, path: str, findings: Findings) -> Tool | None:
    tool = an_object(value, path)
    kind = tool.get("type")
    if kind not in (None, "custom"):
        named = a_string(kind, joined(path, "type"))
        findings.refusals.append(lambda model: f"'{model}' does not support tool types: {named}")
        return None
    path = joined(path, "custom")
    name = _name(tool, path)
    description = a_string(tool.get("description", ""), joined(path, "description"))
    schema = _input_schema(tool, path, findings)
    ttl = cache_ttl(tool.get("cache_control"), joined(path, "cache_control"))
    if ttl:
        findings.marks.append(CacheMark(joined(path, "cache_control"), ttl))
    is_strict = _flag(tool, "strict", path)
    if is_strict:
        _refuse_open_objects(schema, joined(path, "input_schema"), path)
        if not findings.serves_structured_output:
            findings.refusals.append(lambda model: f"'{model}' does not support strict tools.")
    # Whether on or off, what is streamed are valid pieces of JSON as they are generated (section 13.4).
    _flag(tool, "eager_input_streaming", path)
    _refuse_searchable(tool, path, findings)
    refuse_extras(tool, TOOL_KEYS, path)
    return Tool(name, description, schema, is_strict, LIFETIME_SECS[ttl] if ttl else None)


def _name(tool: dict[str, Any], path: str) -> str:
    name = a_string(required(tool, "name", path), joined(path, "name"))
    if not name:
        refuse(joined(path, "name"), "String should have at least 1 character")
    if not re.fullmatch(NAME_PATTERN[1:-1], name):
        refuse(joined(path, "name"), f"String should match pattern '{NAME_PATTERN}'")
    return name


def _input_schema(tool: dict[str, Any], path: str, findings: Findings) -> dict[str, Any]:
    place = joined(path, "input_schema")
    schema = an_object(required(tool, "input_schema", path), place)
    if required(schema, "type", place) != "object":
        refuse(joined(place, "type"), one_of(["object"]))
    if any(combinator in schema for combinator in COMBINATORS):
        refuse(place, "input_schema does not support oneOf, allOf, or anyOf at the top level")
    findings.schema_values_left -= check_schema(schema, place, findings.schema_values_left)
    return schema


def _flag(tool: dict[str, Any], name: str, path: str) -> bool:
    value = tool.get(name)
    return value is not None and a_boolean(value, joined(path, name))


def _refuse_searchable(tool: dict[str, Any], path: str, findings: Findings) -> None:
    if tool.get("input_examples"):
        an_array(tool["input_examples"], joined(path, "input_examples"))
        findings.not_served(joined(path, "input_examples"), "examples of a tool's input")
    if _flag(tool, "defer_loading", path):
        findings.not_served(joined(path, "defer_loading"), "deferred tools")
    callers = tool.get("allowed_callers")
    if callers is not None and an_array(callers, joined(path, "allowed_callers")) != ["direct"]:
        findings.not_served(joined(path, "allowed_callers"), "callers other than the model")


def _refuse_open_objects(schema: Mapping[str, Any], place: str, named: str) -> None:
    for _ in open_objects(schema, place):
        refuse(named, "For 'object' type, 'additionalProperties' must be explicitly set to false")
