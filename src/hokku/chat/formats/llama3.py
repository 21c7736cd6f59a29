"""Llama 3.1, 3.2 and 3.3: a bare JSON object that is the whole reply."""

from hokku.chat.formats.base import CallSyntax, ToolFormat

LLAMA3 = ToolFormat(
    "llama3",
    CallSyntax(
        opening='{"name": "',
        before_name="",
        between='", "parameters": ',
        after_input="}",
        opens_reply_only=True,
    ),
    one_call_a_message=True,
)
FORMATS = (LLAMA3,)
