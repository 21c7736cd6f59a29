"""Sentences: nothing lost, nothing twice, and the common cases right."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.documents.sentences import Span, first_sentence, pieces, sentences

TEXTS = st.text(alphabet=st.sampled_from("ab A.!?…。\"')\n\r -1*\t•é"), max_size=200)


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
        ("Title\r\n\r\nA paragraph\r\nof two lines", ["Title", "A paragraph\r\nof two lines"]),
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


@given(TEXTS)
def test_cut_off_behind_its_first_sentence_a_text_has_the_same_sentences(text: str) -> None:
    rest, found = text, []
    while sentence := first_sentence(rest):
        found.append(rest[sentence.start : sentence.end])
        rest = rest[sentence.end :]
    assert [*found, *split(rest)] == split(text)


@given(TEXTS, TEXTS)
def test_what_comes_does_not_change_where_a_first_sentence_ends(text: str, more: str) -> None:
    sentence = first_sentence(text)
    assert sentence is None or first_sentence(text + more) == sentence


@given(TEXTS, st.integers(1, 30))
def test_pieces_hold_all_that_is_not_blank_and_are_no_longer_than_they_may_be(text: str, most: int) -> None:
    found = list(pieces(text, Span(0, len(text)), most))
    assert all(before.end <= after.start for before, after in pairwise(found))
    assert all(end - start <= most for start, end in found)
    assert "".join("".join(text[start:end] for start, end in found).split()) == "".join(text.split())


def test_lines_are_kept_whole_where_they_can_be() -> None:
    table = "a, b c\nd, e f\ng, h i"
    assert [table[start:end] for start, end in pieces(table, Span(0, len(table)), 9)] == [
        "a, b c",
        "d, e f",
        "g, h i",
    ]
    assert [table[start:end] for start, end in pieces(table, Span(0, len(table)), 5)][:2] == ["a, b", "c"]


@pytest.mark.parametrize("run", [".", "?)", "\n ", "。」", "\n1", "1.", " ", '."'])
def test_a_long_run_of_anything_takes_no_more_than_its_length(run: str) -> None:
    text = run * 300_000 + "x"
    assert "".join("".join(split(text)).split()) == "".join(text.split())
