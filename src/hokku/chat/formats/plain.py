"""For models whose template knows no tools: everything stands in the turns' text, calls in the Hermes form.

Small models follow one example better than a description, so the prompt shows the form itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from hokku.chat.formats.base import ToolFormat
from hokku.chat.formats.hermes import HERMES
from hokku.protocol.messages import Conversation, Part, TextPart, Tool, ToolResultPart, ToolUsePart, Turn

PLAIN = replace(HERMES, name="plain")

_INTRODUCTION = """\
You can call these functions. Each line between the tags is one of them as JSON:
<tools>
{tools}
</tools>
To call a function, answer with its name and arguments in this form:
{example}"""


def as_text(conversation: Conversation, tool_format: ToolFormat = PLAIN) -> Conversation:
    """The same conversation with tools, calls and results written out as text."""
    system = conversation.system
    tools = conversation.shown_tools
    if tools:
        # First, since tools change less often than what follows them: prompts with the same tools share that beginning.
        system = (TextPart(_introduction(tools, tool_format)), *system)
    turns = tuple(replace(turn, parts=tuple(_texts(turn, tool_format))) for turn in conversation.turns)
    return Conversation(system, turns)


def _introduction(tools: tuple[Tool, ...], tool_format: ToolFormat) -> str:
    listed = "\n".join(json.dumps(tool_object(tool), ensure_ascii=False) for tool in tools)
    example = tool_format.syntax.spell([ToolUsePart("", "name", {"argument": "value"})])
    return _INTRODUCTION.format(tools=listed, example=example)


def tool_object(tool: Tool) -> dict[str, object]:
    """A tool in the form that models were trained on."""
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": dict(tool.input_schema)}


def _texts(turn: Turn, tool_format: ToolFormat) -> Iterator[Part]:
    calls: list[ToolUsePart] = []
    for part in turn.parts:
        match part:
            case ToolUsePart():
                calls.append(part)
            case ToolResultPart():
                yield TextPart(f"<tool_response>\n{result_text(part)}\n</tool_response>")
            case TextPart():
                yield part
    if calls:
        yield TextPart(tool_format.syntax.spell(calls))


def result_text(result: ToolResultPart) -> str:
    """What a model reads of a result; a failed call says so."""
    text = "\n\n".join(part.text for part in result.parts if isinstance(part, TextPart))
    return f"Error: {text}" if result.is_error else text
