"""Sentences: nothing lost, nothing twice, and the common cases right."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.documents.sentences import sentences

TEXTS = st.text(alphabet=st.sampled_from("ab A.!?…。\"')\n -1*\t•é"), max_size=200)


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("Dr. Smith paid 3.50 to J. Doe etc. and left.", ["Dr. Smith paid 3.50 to J. Doe etc. and left."]),
        ("今日は晴れ。明日は雨。", ["今日は晴れ。", "明日は雨。"]),
        ("Title\n\nA paragraph\nof two lines", ["Title", "A paragraph\nof two lines"]),
        ("List:\n- one\n- two", ["List:", "- one", "- two"]),
        ("  ", []),
        ("No end", ["No end"]),
    ],
)
def test_common_cases(text: str, expected: list[str]) -> None:
    assert split(text) == expected


@given(TEXTS)
def test_sentences_are_in_order_and_hold_all_that_is_not_blank(text: str) -> None:
    spans = list(sentences(text))
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert all(text[start:end] and text[start:end] == text[start:end].strip() for start, end in spans)
    assert "".join("".join(split(text)).split()) == "".join(text.split())
