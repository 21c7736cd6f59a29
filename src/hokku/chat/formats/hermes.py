"""Hermes, Qwen 2.5, Qwen 3 and the many that follow them: one tagged block a call."""

from hokku.chat.formats.base import CallSyntax, ToolFormat

HERMES = ToolFormat(
    "hermes",
    CallSyntax(
        opening="<tool_call>",
        before_name='\n{"name": "',
        between='", "arguments": ',
        after_input="}\n</tool_call>",
        separator="\n<tool_call>",
    ),
)
FORMATS = (HERMES,)
