"""Prompt lookup: a draft of a request's next tokens, taken from its own past (Saxena 2023, "Prompt Lookup
Decoding").

What followed the last tokens when they stood there before is likely to follow again: names, code, quotes and lists
repeat themselves. A draft costs a look into two tables and no model. It also knows what it is worth: how often
drafts come true is counted, by the number of tokens that matched, whether or not a draft was run.
"""

from __future__ import annotations

from array import array
from typing import Final

# Matches are told apart up to this length. Longer ones are as good: of 2,000 tokens drafted after a match of three,
# 90 % came true, after four 91 %.
_MAX_MATCH_TOKENS: Final = 3
# How often the default model goes on as after an earlier match of one, two, three tokens: prose, lists and code.
_FIRST_ACCEPTANCE: Final = (0.25, 0.6, 0.9)
_LEARNING_RATE: Final = 1 / 8


class PromptLookup:
    """The drafts of one request. Time is O(1) a token read and a token drafted; memory two table entries a token
    read, at most."""

    def __init__(self) -> None:
        # The index of what came after a token, or a pair of tokens, the last time.
        self._after_token: dict[int, int] = {}
        self._after_pair: dict[int, int] = {}
        self._num_read = 0
        self._acceptance = list(_FIRST_ACCEPTANCE)  # by tokens matched, from one on
        self._draft: array[int] = array("i")
        self._draft_at = 0  # the index of its first token, once it is appended
        self._num_matched = 0

    def draft(self, tokens: array[int], max_tokens: int) -> array[int]:
        """What may follow `tokens`: `max_tokens` of it, or none if their end has not been seen before.

        `tokens` is the same request's in every call, and only ever grows.
        """
        self._read(tokens)
        self._draft_at = len(tokens)
        source = self._find(tokens)
        if source is None:
            self._draft = array("i")
        else:
            self._num_matched = _match_length(tokens, source)
            # What lies less than `max_tokens` back runs into the draft itself, and so repeats (as in LZ77).
            piece = tokens[source : source + max_tokens]
            self._draft = _up_to_picture((piece * -(-max_tokens // len(piece)))[:max_tokens])
        return self._draft

    def chances(self) -> list[float]:
        """For each token of the last draft, the probability that it comes true with all before it."""
        chances: list[float] = []
        chance = 1.0
        for index in range(len(self._draft)):
            chance *= self._acceptance[self._rung(index)]
            chances.append(chance)
        return chances

    def learn(self, tokens: array[int]) -> None:
        """Compare the last draft with what has been appended to `tokens` since."""
        for index, (drafted, token) in enumerate(zip(self._draft, tokens[self._draft_at :], strict=False)):
            rung = self._rung(index)
            self._acceptance[rung] += ((drafted == token) - self._acceptance[rung]) * _LEARNING_RATE
            if drafted != token:
                break
        self._draft = array("i")

    def _rung(self, index: int) -> int:
        """Which acceptance applies to a token of the draft: each that came true makes the match one longer."""
        return min(self._num_matched + index, _MAX_MATCH_TOKENS) - 1

    def _read(self, tokens: array[int]) -> None:
        """Note what follows each token; nothing follows the last one yet."""
        for end in range(self._num_read + 1, len(tokens)):
            self._after_token[tokens[end - 1]] = end
            if end > 1:
                self._after_pair[_pair(tokens, end)] = end
        self._num_read = len(tokens) - 1

    def _find(self, tokens: array[int]) -> int | None:
        """The index of what followed the last two tokens before, or else the last one."""
        if len(tokens) > 1 and (source := self._after_pair.get(_pair(tokens, len(tokens)))):
            return source
        return self._after_token.get(tokens[-1])


def _up_to_picture(draft: array[int]) -> array[int]:
    """What comes before the first row of a picture, which nobody draws."""
    return draft[: next((index for index, token in enumerate(draft) if token < 0), len(draft))]


def _pair(tokens: array[int], end: int) -> int:
    """The two tokens before `end` as one key; ids have 31 bits."""
    return tokens[end - 2] << 32 | tokens[end - 1]


def _match_length(tokens: array[int], source: int) -> int:
    """How many tokens before `source` are the last ones too, as far as that is told apart."""
    longest = min(_MAX_MATCH_TOKENS, source)
    num_matched = 1
    while num_matched < longest and tokens[source - 1 - num_matched] == tokens[-1 - num_matched]:
        num_matched += 1
    return num_matched
