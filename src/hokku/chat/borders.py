"""Where the blocks of a conversation end in its prompt, for cache breakpoints.

The prompt is rendered a second time with a mark behind the text of every block; taken out again, the marks have to
leave exactly the prompt, which therefore never depends on them. A mark names its block by number, so the template may
put blocks where it likes. A call has no text of its own: it ends where the block before it does. Tools, and the system
prompt beside them, end together where the first turn begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hokku.chat.typed import FIRST_MARK, LAST_MARK
from hokku.protocol.messages import Attachment, Conversation, Part, TextPart, ToolResultPart, Turn

_DIGITS = [chr(ord(FIRST_MARK) + digit) for digit in range(10)]
_MARK = re.compile(f"{LAST_MARK}([{_DIGITS[0]}-{_DIGITS[9]}]+){LAST_MARK}")
_ANY_MARK = re.compile(f"[{FIRST_MARK}-{LAST_MARK}]")
_TO_DIGIT = {ord(digit): str(value) for value, digit in enumerate(_DIGITS)}
_BEGINNING = 0  # the mark before the first turn; blocks count from 1, system prompt first


def lifetimes(conversation: Conversation) -> list[int | None]:
    """How long the prompt is to be kept up to each block: tools, system prompt, parts of turns, in this order."""
    parts = [part for turn in conversation.turns for part in turn.parts]
    blocks = [*conversation.shown_tools, *conversation.system, *parts]
    return [block.cache_secs for block in blocks]


def with_marks(conversation: Conversation) -> Conversation:
    """The same conversation with a mark behind the text of each block, and one before the first turn."""
    system = tuple(_marked(part, number) for number, part in enumerate(conversation.system, 1))
    turns: list[Turn] = []
    number = 1 + len(system)
    for turn in conversation.turns:
        parts = [_marked_part(part, place) for place, part in enumerate(turn.parts, number)]
        number += len(parts)
        turns.append(replace(turn, parts=tuple(parts)))
    return replace(conversation, system=system, turns=(_marked_before(turns[0]), *turns[1:]))


def block_ends(conversation: Conversation, marked: str, rendered: str) -> list[int]:
    """Where each block of `lifetimes` ends in the rendered prompt, in characters; empty where that cannot be told.

    Args:
        marked: the rendering of `with_marks(conversation)`.
        rendered: the rendering of the conversation itself.
    """
    text, places = _without_marks(marked)
    if text != rendered:
        return []  # the template looks into texts in ways that marks disturb
    beginning = places.get(_BEGINNING, 0)
    num_system, num_tools = len(conversation.system), len(conversation.shown_tools)
    num_parts = sum(len(turn.parts) for turn in conversation.turns)
    ends = [places.get(number) for number in range(1, 1 + num_system + num_parts)]
    if num_tools and num_system:
        ends[num_system - 1] = beginning  # templates show tools before or behind the system prompt
    return _without_gaps([*[beginning] * num_tools, *ends])


def _marked(part: TextPart, number: int) -> TextPart:
    """The mark stands before white space at the end, which templates trim."""
    text = _ANY_MARK.sub("\ufffd", part.text)
    words = text.rstrip()
    return (
        replace(part, text=words + _mark(number) + text[len(words) :]) if words else replace(part, text=text)
    )


def _marked_part(part: Part, number: int) -> Part:
    match part:
        case TextPart():
            return _marked(part, number)
        case ToolResultPart(parts=(*others, TextPart() as last)):
            return replace(part, parts=(*map(_unmarked, others), _marked(last, number)))
    return part


def _unmarked(part: TextPart | Attachment) -> TextPart | Attachment:
    return replace(part, text=_ANY_MARK.sub("\ufffd", part.text)) if isinstance(part, TextPart) else part


def _marked_before(turn: Turn) -> Turn:
    first, *others = turn.parts or (None,)
    if not isinstance(first, TextPart):
        return turn
    words = first.text.lstrip()
    space = first.text[: len(first.text) - len(words)]
    return replace(turn, parts=(replace(first, text=space + _mark(_BEGINNING) + words), *others))


def _mark(number: int) -> str:
    return LAST_MARK + "".join(_DIGITS[int(digit)] for digit in str(number)) + LAST_MARK


def _without_marks(marked: str) -> tuple[str, dict[int, int]]:
    """The text, and where each mark stood in it."""
    pieces: list[str] = []
    places: dict[int, int] = {}
    start = num_chars = 0
    for match in _MARK.finditer(marked):
        piece = marked[start : match.start()]
        pieces.append(piece)
        num_chars += len(piece)
        places[int(match[1].translate(_TO_DIGIT))] = num_chars
        start = match.end()
    return "".join([*pieces, marked[start:]]), places


def _without_gaps(ends: Sequence[int | None]) -> list[int]:
    filled: list[int] = []
    for end in ends:
        filled.append(end if end is not None else filled[-1] if filled else 0)
    return filled
