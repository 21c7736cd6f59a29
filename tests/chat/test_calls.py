"""Calls told apart from prose, whatever the cuts; what is held back, and what only looks like a call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.chat.calls import CallParser, JsonScanner
from hokku.chat.formats.base import CallSyntax
from hokku.chat.formats.hermes import HERMES
from hokku.chat.formats.llama3 import LLAMA3
from hokku.chat.formats.mistral import MISTRAL
from hokku.protocol.events import CallEnd, CallInput, CallStart, ReplyPiece
from hokku.protocol.messages import ToolUsePart
from tests.chat.house import codec

SYNTAXES = {"hermes": HERMES.syntax, "llama3": LLAMA3.syntax, "mistral": MISTRAL.syntax}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(['"', "\\", "}", "</tool_call>", "]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
inputs = st.dictionaries(st.text(), json_values, max_size=3)


def summed(pieces: Sequence[ReplyPiece]) -> list[str | tuple[str, str]]:
    """Prose as one string, each call as its name and JSON."""
    blocks: list[str | tuple[str, str]] = []
    for piece in pieces:
        last = blocks[-1] if blocks else None
        match piece:
            case str() if isinstance(last, str):
                blocks[-1] = last + piece
            case str():
                blocks.append(piece)
            case CallStart(name=name):
                blocks.append((name, ""))
            case CallInput(json=text):
                assert isinstance(last, tuple)
                blocks[-1] = (last[0], last[1] + text)
            case CallEnd():
                pass
    return blocks


def parsed(syntax: CallSyntax, text: str, cuts: Sequence[int] = ()) -> list[str | tuple[str, str]]:
    parser = CallParser(syntax, {"f", "get_weather"})
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [piece for start, end in pairwise(places) for piece in parser.feed(text[start:end])]
    return summed([*pieces, *parser.finish()])


@pytest.mark.parametrize("name", SYNTAXES)
@given(first=inputs, second=inputs, cuts=st.lists(st.integers(0, 200)))
@settings(deadline=None)
def test_calls_survive_any_cut(
    name: str, first: dict[str, object], second: dict[str, object], cuts: list[int]
) -> None:
    syntax = SYNTAXES[name]
    calls = [ToolUsePart("", "f", first), ToolUsePart("", "get_weather", second)]
    calls = calls if syntax.separator else calls[:1]
    prose = "" if syntax.opens_reply_only else "Let me look.\n\n"
    blocks = parsed(syntax, prose + syntax.spell(calls), cuts)
    assert blocks[: len(prose) > 0] == [prose.rstrip()][: len(prose) > 0]
    spoken = [block for block in blocks if isinstance(block, tuple)]
    assert [(call, json.loads(text)) for call, text in spoken] == [(call.name, call.input) for call in calls]


@pytest.mark.parametrize("name", SYNTAXES)
@given(text=st.text(), cuts=st.lists(st.integers(0, 60)))
@settings(deadline=None)
def test_prose_survives_any_cut(name: str, text: str, cuts: list[int]) -> None:
    assert "".join(map(str, parsed(SYNTAXES[name], "x" + text, cuts))) == "x" + text


@pytest.mark.parametrize("end", range(len(HERMES.syntax.head("f")) + 1))
def test_a_call_cut_off_before_its_name_is_nothing(end: int) -> None:
    head = HERMES.syntax.head("f")
    opening = len(HERMES.syntax.opening)
    kept = head[:end] if end < opening else ""
    assert parsed(HERMES.syntax, "Yes. " + head[:end])[0] == ("Yes. " + kept if end < opening else "Yes.")


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "a <tool_call> b",
        '<tool_call>{"name": "f", "arguments": {}}',
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "parameters": {}}',
        "<tool_call>\n</tool_call>",
        "<tool_cal",
    ],
)
def test_what_only_looks_like_a_call_is_prose(text: str) -> None:
    shown = "".join(str(block) for block in parsed(HERMES.syntax, text + " end"))
    assert shown == text + " end"


def test_a_call_behind_something_that_looked_like_one() -> None:
    text = "<tool_call>no. " + HERMES.syntax.spell([ToolUsePart("", "f", {"a": 1})])
    assert parsed(HERMES.syntax, text) == ["<tool_call>no.", ("f", '{"a": 1}')]


def test_a_bare_object_is_a_call_at_the_reply_s_beginning_only() -> None:
    call = LLAMA3.syntax.spell([ToolUsePart("", "f", {})])
    assert parsed(LLAMA3.syntax, "\n" + call) == [("f", "{}")]
    assert parsed(LLAMA3.syntax, "So: " + call) == ["So: " + call]
    continued = CallParser(LLAMA3.syntax, {"f"}, opens=False)
    assert continued.feed(call) == [call]


def test_only_what_may_become_a_call_waits() -> None:
    parser = CallParser(HERMES.syntax, {"f"})
    assert parser.feed("a < b <tool") == ["a < b"]
    assert parser.feed("box> \n") == [" <toolbox>"]
    assert parser.feed("c") == [" \nc"]


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_forced_reply_has_no_prose_however_short_it_is_cut(name: str) -> None:
    head = SYNTAXES[name].head("f")
    for end in range(len(head)):
        parser = CallParser(SYNTAXES[name], {"f"}, is_forced=True)
        assert [*parser.feed(head[:end]), *parser.finish()] == []
    parser = CallParser(SYNTAXES[name], {"f"}, is_forced=True)
    assert parser.feed(head + "{}") == [CallStart("f"), CallInput("{}"), CallEnd()]


def test_the_input_goes_out_as_it_comes() -> None:
    parser = CallParser(HERMES.syntax, {"f"})
    assert parser.feed(HERMES.syntax.head("f")) == [CallStart("f")]
    assert parser.feed('{"a": "x') == [CallInput('{"a": "x')]
    assert parser.feed('}"}}\n</tool') == [CallInput('}"}'), CallEnd()]


def test_blank_text_before_a_call_is_no_block() -> None:
    assert parsed(HERMES.syntax, "\n\n" + HERMES.syntax.spell([ToolUsePart("", "f", {})])) == [("f", "{}")]
    assert parsed(HERMES.syntax, " \n") == []


@given(value=inputs, rest=st.text(), cuts=st.lists(st.integers(0, 200)))
@settings(deadline=None)
def test_the_end_of_an_object_is_found(value: dict[str, object], rest: str, cuts: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    scanner = JsonScanner()
    for start, end in pairwise(places[:-1]):
        assert scanner.scan(text[start:end]) is None or end == len(text)
    if places[-2] < len(text):
        assert scanner.scan(text[places[-2] :] + rest) == len(text) - places[-2]


def test_stop_sequences_are_looked_for_in_prose_only() -> None:
    call = HERMES.syntax.spell([ToolUsePart("", "f", {"a": "END"})])

    def read(text: str) -> tuple[list[str | tuple[str, str]], str | None]:
        decoder = codec().decoder(["END", "ENDE"], tool_names=["f"])
        pieces = [piece for token in codec().tokenizer.encode(text) for piece in decoder.feed([token])]
        return summed([*pieces, *decoder.finish()]), decoder.stop_sequence

    assert read("Now " + call) == (["Now ", ("f", '{"a": "END"}')], None)
    assert read("The END " + call) == (["The "], "END")
    assert read("The END" + call) == (["The "], "END")
    assert read("The EN" + call) == (["The EN", ("f", '{"a": "END"}')], None)
