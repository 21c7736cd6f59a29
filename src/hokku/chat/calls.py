"""Calls in a reply's text: told apart from the prose before them as the text comes, whatever the cuts.

Prose goes out at once, but for what may still become the opening of a call. From the opening on the reply is held to a
grammar (`call_grammar.py`), so this parser has nothing to repair: it follows the same pieces of the same syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from hokku.chat.formats.base import BLANKS, CallSyntax
from hokku.protocol.events import CallEnd, CallInput, CallStart, ReplyPiece

_JSON_MARK = re.compile(r'["\\{}\[\]]')
_STRING_MARK = re.compile(r'["\\]')


class JsonScanner:
    """Finds where a JSON object or array ends."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def scan(self, text: str) -> int | None:
        """Read on; the place behind the value's last character, once it has come."""
        at = 0
        while at < len(text):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            mark = (_STRING_MARK if self._in_string else _JSON_MARK).search(text, at)
            if mark is None:
                return None
            at = mark.end()
            if self._closes(mark.group()):
                return at
        return None

    def _closes(self, mark: str) -> bool:
        if mark == "\\":
            self._is_escaped = self._in_string
        elif mark == '"':
            self._in_string = not self._in_string
        elif mark in "{[":
            self._depth += 1
        else:
            self._depth -= 1
            return self._depth == 0
        return False


class CallParser:
    """Text in, prose and calls out.

    Args:
        syntax: how calls are written.
        names: the tools that may be called.
        trims: leave out white space between the prose and the first call; some of it is then held back.
        opens: whether there can be a call; not where the reply goes on and an opening has to be its first text.
        is_forced: the reply is calls and nothing else.
    """

    def __init__(
        self,
        syntax: CallSyntax,
        names: Collection[str],
        *,
        trims: bool = True,
        opens: bool = True,
        is_forced: bool = False,
    ) -> None:
        self._syntax = syntax
        self._names = names
        self._trims = trims
        self._text = ""  # received, not yet understood
        self._has_prose = not opens
        self._scanner = JsonScanner()
        self._undo = ""  # of the call under way, which may turn out to be prose
        self._step: Callable[[list[ReplyPiece]], bool] = self._prose
        self._expected = ""
        if is_forced:
            self._expect(syntax.opening + syntax.lead + syntax.before_name)

    def feed(self, text: str) -> list[ReplyPiece]:
        """Take text in; give out what is certain."""
        self._text += text
        pieces: list[ReplyPiece] = []
        while self._step(pieces):
            pass
        return pieces

    def finish(self) -> list[ReplyPiece]:
        """No more text comes. A call cut off before its name was whole is nothing."""
        held, self._text = self._text, ""
        is_prose = self._step == self._prose and (self._has_prose or not held.isspace())
        return [held] if held and is_prose else []

    def _prose(self, pieces: list[ReplyPiece]) -> bool:
        at = self._find_opening()
        if at is None:
            self._release(pieces, len(self._text) - self._num_held())
            return False
        opening = self._syntax.opening
        prose = self._text[:at].rstrip() if self._trims else self._text[:at]
        self._undo = self._text[len(prose) : at + len(opening)]
        self._text = self._text[at + len(opening) :]
        if prose.strip():
            self._has_prose = True
            pieces.append(prose)
        self._expect(self._syntax.lead + self._syntax.before_name)
        return True

    def _find_opening(self) -> int | None:
        opening = self._syntax.opening
        if not self._syntax.opens_reply_only:
            at = self._text.find(opening)
            return None if at < 0 else at
        at = len(self._text) - len(self._text.lstrip(BLANKS))
        return at if not self._has_prose and self._text.startswith(opening, at) else None

    def _num_held(self) -> int:
        """How much of the end of the text may be the beginning of an opening, or white space before one."""
        text, opening = self._text, self._syntax.opening
        if self._syntax.opens_reply_only:
            begins = not self._has_prose and opening.startswith(text.lstrip(BLANKS))
            return len(text) if begins else 0
        longest = min(len(opening) - 1, len(text))
        num_begun = next((n for n in range(longest, 0, -1) if text.endswith(opening[:n])), 0)
        before = text[: len(text) - num_begun]
        if self._trims or not (self._has_prose or before.strip()):
            before = before.rstrip()
        return len(text) - len(before)

    def _release(self, pieces: list[ReplyPiece], num_chars: int) -> None:
        if num_chars:
            pieces.append(self._text[:num_chars])
            self._has_prose = True
            self._text = self._text[num_chars:]

    def _expect(self, literal: str) -> None:
        self._expected, self._step = literal, self._head

    def _head(self, pieces: list[ReplyPiece]) -> bool:
        if self._text.startswith(self._expected):
            self._undo += self._expected
            self._text = self._text[len(self._expected) :]
            self._step = self._name
            return True
        return not self._expected.startswith(self._text) and self._give_up(pieces)

    def _name(self, pieces: list[ReplyPiece]) -> bool:
        name, quote, _ = self._text.partition(self._syntax.between[0])
        if not quote:
            return False
        rest, between = self._text[len(name) :], self._syntax.between
        if name not in self._names or not (rest.startswith(between) or between.startswith(rest)):
            return self._give_up(pieces)
        if len(rest) < len(between):
            return False
        self._text = rest[len(between) :]
        self._scanner = JsonScanner()
        self._step = self._input
        pieces.append(CallStart(name))
        return True

    def _give_up(self, pieces: list[ReplyPiece]) -> bool:
        """It only looked like a call: what was taken for its beginning is prose."""
        pieces.append(self._undo)
        self._has_prose = True
        self._step = self._prose
        return True

    def _input(self, pieces: list[ReplyPiece]) -> bool:
        end = self._scanner.scan(self._text)
        piece, self._text = self._text[:end], self._text[end:] if end is not None else ""
        if piece:
            pieces.append(CallInput(piece))
        if end is None:
            return False
        pieces.append(CallEnd())
        self._step = self._tail
        return True

    def _tail(self, pieces: list[ReplyPiece]) -> bool:
        syntax = self._syntax
        another = None if syntax.separator is None else syntax.after_input + syntax.separator
        if another and self._text.startswith(another):
            self._text = self._text[len(another) :]
            self._expect(syntax.before_name)
            return True
        if not (another and another.startswith(self._text)):
            self._step = self._nothing  # the end: what else comes is the last call's own
        return False

    def _nothing(self, pieces: list[ReplyPiece]) -> bool:
        self._text = ""
        return False
