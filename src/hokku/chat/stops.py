"""Stop sequences in a stream: exact across any cut, holding back only text that may still become one.

An Aho-Corasick automaton (Aho and Corasick 1975) reads each character once. Its state is the longest end of
the text that begins some stop sequence, which is precisely the text that has to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from hokku.protocol.errors import InvalidRequest

# A trie node costs some hundred bytes; this bounds what one request can make us build.
_MOST_CHARACTERS = 65_536


@dataclass(slots=True)
class _Node:
    """A prefix of some stop sequence. `longest` is the longest whole one that this prefix ends with, 0 if
    none."""

    depth: int
    longest: int = 0
    fallback: int = 0
    next: dict[str, int] = field(default_factory=dict)


class StopMatcher:
    """Feeds text through until the earliest stop sequence; at the same place the longest wins.

    Raises:
        InvalidRequest: an empty stop sequence, or more text in them than one request may bring.
    """

    def __init__(self, stop_sequences: Sequence[str]) -> None:
        if not all(stop_sequences):
            raise InvalidRequest("each stop sequence must contain non-whitespace", place="stop_sequences")
        if sum(map(len, stop_sequences)) > _MOST_CHARACTERS:
            raise InvalidRequest(
                f"at most {_MOST_CHARACTERS} characters in all are supported", place="stop_sequences"
            )
        self.stop_sequence: str | None = None
        self._nodes = _automaton(stop_sequences)
        self._state = 0
        self._held = ""  # received, not yet given out
        self._match: tuple[int, int] | None = None  # start and length in `_held` of the best match so far

    def feed(self, text: str) -> str:
        """Take text in; give out what can no longer be part of a stop sequence. "" once one has matched."""
        if self.stop_sequence is not None or not text:
            return ""
        if len(self._nodes) == 1:
            return text
        read, self._held = len(self._held), self._held + text
        for end in range(read + 1, len(self._held) + 1):
            self._step(self._held[end - 1])
            self._note_match(end)
            if self._match is not None and not self._may_improve(self._match[0], end):
                return self._stop(*self._match)
        return self._release()

    def finish(self) -> str:
        """No more text comes: give out the rest, up to a match that was waiting for a longer one."""
        if self._match is not None and self.stop_sequence is None:
            return self._stop(*self._match)
        rest, self._held = self._held, ""
        return rest

    def _step(self, character: str) -> None:
        state = self._state
        while state and character not in self._nodes[state].next:
            state = self._nodes[state].fallback
        self._state = self._nodes[state].next.get(character, 0)

    def _note_match(self, end: int) -> None:
        length = self._nodes[self._state].longest
        if length and (self._match is None or end - length <= self._match[0]):
            self._match = (end - length, length)

    def _may_improve(self, start: int, end: int) -> bool:
        """Whether a stop sequence under way begins before `start`, or there and is longer than what
        matched."""
        node = self._nodes[self._state]
        return bool(node.next) and end - node.depth <= start

    def _stop(self, start: int, length: int) -> str:
        self.stop_sequence = self._held[start : start + length]
        out, self._held, self._match = self._held[:start], "", None
        return out

    def _release(self) -> str:
        waiting = len(self._held) - self._nodes[self._state].depth
        cut = waiting if self._match is None else min(waiting, self._match[0])
        out, self._held = self._held[:cut], self._held[cut:]
        if self._match is not None:
            self._match = (self._match[0] - cut, self._match[1])
        return out


def _automaton(stop_sequences: Sequence[str]) -> list[_Node]:
    nodes = [_Node(depth=0)]
    for sequence in stop_sequences:
        _insert(nodes, sequence)
    waiting = deque(nodes[0].next.values())
    while waiting:
        place = waiting.popleft()
        for character, child in nodes[place].next.items():
            nodes[child].fallback = _longest_end(nodes, nodes[place].fallback, character)
            nodes[child].longest = nodes[child].longest or nodes[nodes[child].fallback].longest
            waiting.append(child)
    return nodes


def _insert(nodes: list[_Node], sequence: str) -> None:
    place = 0
    for character in sequence:
        if character not in nodes[place].next:
            nodes.append(_Node(depth=nodes[place].depth + 1))
            nodes[place].next[character] = len(nodes) - 1
        place = nodes[place].next[character]
    nodes[place].longest = len(sequence)


def _longest_end(nodes: list[_Node], state: int, character: str) -> int:
    while state and character not in nodes[state].next:
        state = nodes[state].fallback
    return nodes[state].next.get(character, 0)
