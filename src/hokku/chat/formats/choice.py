"""Which format a model speaks: the one whose calls its own template writes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator

import hokku.chat.formats
from hokku.chat.formats.base import ToolFormat
from hokku.protocol.errors import HokkuError
from hokku.protocol.messages import Conversation, TextPart, Tool, ToolResultPart, ToolUsePart, Turn

Render = Callable[[Conversation, ToolFormat], str]

_TOOL = Tool("probe_tool", "probes", {"type": "object", "properties": {"probe_key": {"type": "integer"}}})
_CALL = ToolUsePart("call00001", "probe_tool", {"probe_key": 731})
_RESULT = ToolResultPart("call00001", (TextPart("probe-result"),))
_PROBE = Conversation(
    (),
    (Turn("user", (TextPart("?"),)), Turn("assistant", (_CALL,)), Turn("user", (_RESULT,))),
    (_TOOL,),
)


def native_format(render: Render) -> ToolFormat | None:
    """The format that a template writes; None where it knows no tools or writes calls in no form that is served.

    Args:
        render: a conversation rendered by the template, as plain text, given a format's wishes.
    """
    for tool_format in _families():
        try:
            shown = render(_PROBE, tool_format)
        except HokkuError:
            continue
        head = tool_format.syntax.head(_TOOL.name)
        is_shown = '"probe_key"' in shown.partition(head)[0] and "probe-result" in shown
        if is_shown and f'{head}{{"probe_key": 731}}' in shown:
            return tool_format
    return None


def _families() -> Iterator[ToolFormat]:
    for module in pkgutil.iter_modules(hokku.chat.formats.__path__):
        yield from getattr(
            importlib.import_module(f"{hokku.chat.formats.__name__}.{module.name}"), "FORMATS", ()
        )
