"""What the scripted model says to clients in the field: it calls the tools it is shown, and reads their results.

no tools                        "Hello, world!"
a tool `weather`                a call of it; then, shown the result, "It is " and the result
a tool for structured output    a call of it with `ANSWER`
the user asks for JSON          `ANSWER` as the reply's text
the user asks for a long story  a reply that only `max_tokens` or the client's leaving ends
the user asks about moons       what a document says of them, between two words of its own
the user is early               overloaded once, then as above
"""

from __future__ import annotations

import json
import re
from typing import Any

from hokku.chat.formats.plain import PLAIN
from hokku.protocol.engine import GenerationRequest
from hokku.protocol.errors import Overloaded
from hokku.protocol.messages import ToolUsePart
from tests.fakes import END_OF_TURN, Script

CITY = 'Köln "am" Rhein 😀'
ANSWER: dict[str, Any] = {"city": CITY, "trams": 12, "warm": False}
JSON_ASKED, STORY_ASKED, EARLY = "Answer in JSON", "Tell a long story", "Good morning"
MOONS_ASKED = "Moons?"


class Field:
    """The script. One for each run of a client, for it remembers whom it has turned away."""

    def __init__(self) -> None:
        self._turned_away: set[bytes] = set()

    def __call__(self, request: GenerationRequest) -> Script:
        """What is said to one request."""
        prompt = bytes(request.prompt)
        if EARLY.encode() in prompt and prompt not in self._turned_away:
            self._turned_away.add(prompt)
            return Script([], Overloaded("Overloaded"), error_after=-1)
        text = prompt.decode()
        if STORY_ASKED in text:
            return Script([*b"And then "] * 1_000)
        return Script([*_reply(text).encode(), END_OF_TURN])


def calls(name: str, arguments: dict[str, Any]) -> str:
    """A call as the scripted model writes it."""
    return PLAIN.syntax.spell([ToolUsePart("", name, arguments)])


def _reply(prompt: str) -> str:
    shown = re.findall(r'^\{"name": "(\w+)"', prompt.partition("</tools>")[0], re.MULTILINE)
    last_turn = prompt.rpartition("user: ")[2]
    if MOONS_ASKED in last_turn:
        return "Well. Jupiter has 95 known moons. Bye."
    if JSON_ASKED in last_turn:
        return json.dumps(ANSWER, ensure_ascii=False)
    if "weather" in shown and "<tool_response>" not in last_turn:
        return calls("weather", {"city": CITY})
    structured = [name for name in shown if name != "weather"]
    if structured:
        return calls(structured[-1], ANSWER)
    if "<tool_response>" in last_turn:
        return f"It is {last_turn.partition('<tool_response>')[2].partition('</tool_response>')[0].strip()}."
    return "Hello, world!"
