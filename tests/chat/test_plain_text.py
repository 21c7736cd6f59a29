"""Texts without a template: taken literally, with the marks of a gap where the model knows them."""

from __future__ import annotations

import pytest

from hokku.chat.codec import Codec
from hokku.chat.plain_text import GAP_MARKS, GapMarks
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import plain_text
from tests.chat.house import byte_level_spec, codec, sentencepiece_spec, shown, with_control

TEXT = "def add(a, b):\n    return <|im_end|>"


def filling(marks: GapMarks) -> Codec:
    return Codec.from_spec(with_control(byte_level_spec(), *marks.all, "<|file_sep|>"))


def test_a_text_is_taken_literally_and_goes_on() -> None:
    prompt = codec().encode(plain_text(TEXT))
    assert shown(codec().tokenizer, list(prompt.token_ids)) == TEXT
    assert prompt.token_ids == codec().tokenizer.encode(TEXT)
    assert prompt.prefill
    assert codec().count(plain_text(TEXT)) == len(prompt.token_ids)


def test_a_text_begins_as_the_vocabulary_has_it() -> None:
    made = Codec.from_spec(sentencepiece_spec())
    assert shown(made.tokenizer, made.encode(plain_text("Once")).token_ids) == "<s> Once"


@pytest.mark.parametrize("marks", GAP_MARKS)
def test_a_gap_stands_behind_both_sides(marks: GapMarks) -> None:
    made = filling(marks)
    prompt = made.encode(plain_text(TEXT, "\nprint(add(1, 2))"))
    written = f"{marks.before}{TEXT}{marks.behind}\nprint(add(1, 2)){marks.gap}"
    assert shown(made.tokenizer, prompt.token_ids) == written
    assert [made.tokenizer.control_id(mark) in prompt.token_ids for mark in marks.all] == [True] * 3


def test_marks_that_people_write_are_text() -> None:
    marks = GAP_MARKS[0]
    made = filling(marks)
    prompt = made.encode(plain_text(marks.gap, marks.before))
    assert [prompt.token_ids.count(made.tokenizer.control_id(mark) or -1) for mark in marks.all] == [1, 1, 1]


def test_any_control_token_ends_a_text() -> None:
    made = filling(GAP_MARKS[0])
    prompt = made.encode(plain_text("x = "))
    assert prompt.stop_token_ids >= made.tokenizer.control_ids | made.stop_token_ids


def test_a_model_that_knows_no_gaps_says_so() -> None:
    with pytest.raises(InvalidRequest, match="^suffix: this model does not fill gaps") as refusal:
        codec().encode(plain_text("a", "b"))
    assert refusal.value.way_out
