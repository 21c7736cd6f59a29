"""Tools and the form of the output in a Converse request, for the model's own body (wire.md section 16.4)."""

from __future__ import annotations

import json
from typing import Any

from hokku.api.bedrock.converse_attachments import Block
from hokku.api.bedrock.converse_content import a_tool_name, mark_last
from hokku.api.bedrock.converse_fields import (
    a_choice,
    a_document,
    a_flag,
    a_list,
    a_structure,
    a_text,
    a_union,
    joined,
    needed,
    not_served,
)
from hokku.api.body import refuse_constant
from hokku.protocol.errors import InvalidRequest

MAX_EFFORT_CHARS = 16


def read_tool_config(value: object, path: str) -> Block:
    """`tools` and, where there is one, `tool_choice`."""
    config = a_structure(value, path, ("tools", "toolChoice"))
    tools: list[Block] = []
    place = joined(path, "tools")
    for index, each in enumerate(a_list(needed(config, "tools", path), place, least=1)):
        name, member = a_union(each, f"{place}.{index}", ("toolSpec", "systemTool", "cachePoint"))
        member_place = f"{place}.{index}.{name}"
        match name:
            case "cachePoint":
                mark_last(tools, member, member_place)
            case "toolSpec":
                tools.append(_tool(member, member_place))
            case _:
                not_served(member_place, "tools on the server's side")
    if "toolChoice" not in config:
        return {"tools": tools}
    return {"tools": tools, "tool_choice": _tool_choice(config["toolChoice"], joined(path, "toolChoice"))}


def read_output_config(value: object, path: str) -> Block:
    """`output_config`; empty where nothing is asked for."""
    config = a_structure(value, path, ("textFormat", "effort"))
    output: Block = {}
    if "effort" in config:
        output["effort"] = a_text(config["effort"], joined(path, "effort"), most=MAX_EFFORT_CHARS)
    if "textFormat" in config:
        schema = _output_schema(config["textFormat"], joined(path, "textFormat"))
        output["format"] = {"type": "json_schema", "schema": schema}
    return {"output_config": output} if output else {}


def _tool(value: object, path: str) -> Block:
    tool = a_structure(value, path, ("name", "description", "inputSchema", "strict"))
    name = a_tool_name(needed(tool, "name", path), joined(path, "name"))
    place = joined(path, "inputSchema")
    _, schema = a_union(needed(tool, "inputSchema", path), place, ("json",))
    read: Block = {"name": name, "input_schema": a_document(schema, joined(place, "json"))}
    if "description" in tool:
        read["description"] = a_text(tool["description"], joined(path, "description"), least=1)
    if "strict" in tool:
        read["strict"] = a_flag(tool["strict"], joined(path, "strict"))
    return read


def _tool_choice(value: object, path: str) -> Block:
    kind, member = a_union(value, path, ("auto", "any", "tool"))
    place = joined(path, kind)
    if kind != "tool":
        a_structure(member, place, ())
        return {"type": kind}
    named = a_structure(member, place, ("name",))
    return {"type": "tool", "name": a_tool_name(needed(named, "name", place), joined(place, "name"))}


def _output_schema(value: object, path: str) -> dict[str, Any]:
    text_format = a_structure(value, path, ("type", "structure"))
    a_choice(needed(text_format, "type", path), joined(path, "type"), ("json_schema",))
    place = joined(path, "structure")
    _, member = a_union(needed(text_format, "structure", path), place, ("jsonSchema",))
    place = joined(place, "jsonSchema")
    definition = a_structure(member, place, ("schema", "name", "description"))
    schema = _parsed(a_text(needed(definition, "schema", place), joined(place, "schema")), place)
    # A schema has words of its own for both.
    notes = {"title": "name", "description": "description"}
    told = {
        key: a_text(definition[name], joined(place, name))
        for key, name in notes.items()
        if name in definition
    }
    return {**told, **schema}


def _parsed(text: str, path: str) -> dict[str, Any]:
    """The schema, which comes as the text of a JSON object."""
    try:
        schema = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidRequest("the schema is not valid JSON", place=joined(path, "schema")) from None
    return a_document(schema, joined(path, "schema"))
