"""What a tool-call format is: how a family shows tools, and how it writes calls.

A call is the same four pieces in every family that is served: a text before the name, one between the name and the
input, the input as JSON, a text after it. `CallSyntax` names them; the grammar that constrains a call, the parser that
reads one out of a reply and the text of one in a conversation's past all follow from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hokku.protocol.messages import ToolUsePart

BLANKS = " \t\r\n"  # what may stand before the opening of a call that has to be the reply's first text
# A small model may never come to an end by itself; real replies have a handful.
MAX_CALLS = 16


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How calls are written: `opening lead call (separator call)* closing`, each call being
    `before_name NAME between INPUT after_input`."""

    opening: str  # calls begin where this appears; a control token or plain text
    before_name: str
    between: str  # begins with the quotation mark that ends the name
    after_input: str
    lead: str = ""
    separator: str | None = None  # None: one call a reply
    closing: str = ""
    opens_reply_only: bool = False  # the opening counts at a reply's first character alone

    def head(self, name: str) -> str:
        """Everything before the first call's input."""
        return f"{self.opening}{self.lead}{self.before_name}{name}{self.between}"

    def spell(self, calls: Sequence[ToolUsePart]) -> str:
        """Calls as the model writes them."""
        spelled = (
            f"{self.before_name}{call.name}{self.between}{plain_json(call.input)}{self.after_input}"
            for call in calls
        )
        return f"{self.opening}{self.lead}{(self.separator or '').join(spelled)}{self.closing}"


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A family's way with tools.

    The model's own template shows tools, calls and results, from messages in the form that Hugging Face's documentation
    ("Tool use") defines; the fields below are what families want different. Without a template for tools, `plain.py`
    writes everything into the turns' text.
    """

    name: str
    syntax: CallSyntax
    one_call_a_message: bool = False  # the template refuses several: each is followed by its own result
    text_goes_with_results: bool = False  # the template refuses a user's turn right behind results
    call_id_chars: int | None = None  # the template wants ids of exactly so many letters and digits


def plain_json(value: Mapping[str, Any]) -> str:
    """JSON as templates' `tojson` writes it."""
    return json.dumps(value, ensure_ascii=False)
