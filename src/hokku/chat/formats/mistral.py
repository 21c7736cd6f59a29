"""Mistral 7B v0.3, Nemo and Large 2: a control token and a JSON list."""

from dataclasses import replace

from hokku.chat.formats.base import CallSyntax, ToolFormat

_LIST = CallSyntax(
    opening="[TOOL_CALLS]",
    lead="[",
    before_name='{"name": "',
    between='", "arguments": ',
    after_input="}",
    separator=", ",
    closing="]",
)
MISTRAL = ToolFormat("mistral", _LIST, text_goes_with_results=True, call_id_chars=9)
MISTRAL_SPACED = replace(MISTRAL, name="mistral, with a space", syntax=replace(_LIST, lead=" ["))
FORMATS = (MISTRAL, MISTRAL_SPACED)
