"""Drafts: what followed the same tokens before, most recently, and what that is worth."""

from __future__ import annotations

from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.engine.prompt_lookup import PromptLookup


def drafted(tokens: list[int], max_tokens: int = 4) -> list[int]:
    return PromptLookup().draft(array("i", tokens), max_tokens).tolist()


def test_nothing_is_drafted_after_what_is_new() -> None:
    assert drafted([1]) == []
    assert drafted([1, 2, 3]) == []


def test_a_draft_is_what_followed_before() -> None:
    assert drafted([1, 2, 3, 4, 5, 6, 1, 2]) == [3, 4, 5, 6]


def test_two_matching_tokens_win_over_a_more_recent_single_one() -> None:
    assert drafted([1, 2, 3, 4, 9, 2, 7, 7, 1, 2], 2) == [3, 4]


def test_the_most_recent_of_equal_matches_wins() -> None:
    assert drafted([1, 2, 3, 1, 2, 4, 1, 2], 1) == [4]


def test_a_repetition_goes_on() -> None:
    assert drafted([8, 1, 2, 3, 1, 2], 7) == [3, 1, 2, 3, 1, 2, 3]
    assert drafted([5, 5], 3) == [5, 5, 5]


def slow_draft(tokens: list[int], max_tokens: int) -> list[int]:
    """The definition: the last earlier place of the last two tokens, or else of the last one; and on from there."""
    for size in (2, 1):
        for end in range(len(tokens) - 1, size - 1, -1):
            if len(tokens) > size and tokens[end - size : end] == tokens[-size:]:
                text = list(tokens)
                for index in range(max_tokens):
                    text.append(text[end + index])
                return text[len(tokens) :]
    return []


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 9)
)
def test_drafts_are_as_defined_however_the_tokens_come(pieces: list[list[int]], max_tokens: int) -> None:
    lookup = PromptLookup()
    tokens = array("i")
    for piece in pieces:
        tokens.extend(piece)
        assert lookup.draft(tokens, max_tokens).tolist() == slow_draft(tokens.tolist(), max_tokens)
        chances = lookup.chances()
        assert all(1 > before > after > 0 for before, after in pairwise(chances))
        lookup.learn(tokens)


def test_longer_matches_are_trusted_more() -> None:
    chances = []
    for tokens in ([5, 1, 6, 1], [5, 1, 6, 5, 1], [4, 5, 1, 6, 4, 5, 1]):
        lookup = PromptLookup()
        lookup.draft(array("i", tokens), 1)
        chances.extend(lookup.chances())
    assert chances == [0.25, 0.6, 0.9]


def test_chances_follow_what_comes_true() -> None:
    lookup = PromptLookup()
    tokens = array("i", [1, 2, 3] * 2)
    for _ in range(30):
        lookup.draft(tokens, 3)
        tokens.extend([1, 2, 3])
        lookup.learn(tokens)
    lookup.draft(tokens, 3)
    assert lookup.chances() == pytest.approx([1, 1, 1], abs=0.01)
    for number in range(30):
        lookup.draft(tokens, 3)
        tokens.extend([1, 2, 3, 10 + number])
        lookup.learn(tokens[:-3])  # what really came was 1: the draft was right, and then nothing is known
        tokens = tokens[:-3]
    lookup.draft(tokens, 1)
    assert lookup.chances() == pytest.approx([1], abs=0.01)
