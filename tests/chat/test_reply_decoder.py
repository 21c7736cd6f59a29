"""Tokens to text: whole characters only, stop sequences exact wherever the cuts fall, nothing held without need."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hokku.chat.codec import Codec, ReplyDecoder
from hokku.chat.stops import StopMatcher
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.events import ReplyPiece
from tests.chat.house import codec, conversation, sentencepiece_spec
from tests.chat.test_codec import MISTRAL

NUM_TOKENS = 520
token_streams = st.lists(st.integers(0, NUM_TOKENS), max_size=40)
# Few letters, so that sequences overlap, nest and repeat.
abc = st.text("abc", max_size=30)
sequences = st.lists(st.text("abc", min_size=1, max_size=5), max_size=4)
cuts = st.lists(st.integers(0, 30))


def prose(pieces: Sequence[ReplyPiece]) -> str:
    """The text of pieces that are prose and nothing else."""
    assert all(isinstance(piece, str) for piece in pieces)
    return "".join(map(str, pieces))


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(cuts), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


def earliest(text: str, stop_sequences: list[str]) -> tuple[int, str] | None:
    """The slow, plain definition."""
    found = [(text.find(stop), -len(stop), stop) for stop in stop_sequences if stop in text]
    return (min(found)[0], min(found)[2]) if found else None


@given(token_ids=token_streams, cuts=cuts)
def test_any_cut_gives_the_text_of_the_whole(token_ids: list[int], cuts: list[int]) -> None:
    decoder = ReplyDecoder(codec())
    places = [0, *sorted(min(cut, len(token_ids)) for cut in cuts), len(token_ids)]
    fed = [prose(decoder.feed(token_ids[a:b])) for a, b in pairwise(places)]
    assert "".join(fed) + prose(decoder.finish()) == codec().tokenizer.decode(token_ids)


@given(text=st.text())
def test_no_half_character_and_no_needless_wait(text: str) -> None:
    decoder = ReplyDecoder(codec())
    fed = b""
    out = ""
    for token_id in codec().tokenizer.encode(text):
        fed += codec().tokenizer.token_bytes(token_id)
        out += prose(decoder.feed([token_id]))
        assert out == fed.decode("utf-8", "ignore")
    assert prose(decoder.finish()) == ""


def test_bytes_that_are_no_character_become_u_fffd_only_when_sure() -> None:
    decoder = ReplyDecoder(codec())
    first, *_ = codec().tokenizer.encode("☃")
    lead = next(i for i in range(NUM_TOKENS) if codec().tokenizer.token_bytes(i) == b"\xe2")
    (plain,) = codec().tokenizer.encode("x")
    assert prose(decoder.feed([lead])) == ""
    assert prose(decoder.feed([plain])) == "\ufffdx"
    assert prose(decoder.feed([lead])) == ""
    assert prose(decoder.finish()) == "\ufffd"
    assert first != plain


@given(text=abc, stop_sequences=sequences, cuts=cuts)
@example("abcab", ["abcabc", "ca", "b"], [])
@example("ab", ["ab", "abc"], [1])
@example("abcd", ["bc", "abcc"], [3])
def test_stop_sequences_match_the_plain_definition(
    text: str, stop_sequences: list[str], cuts: list[int]
) -> None:
    matcher = StopMatcher(stop_sequences)
    out = "".join(matcher.feed(piece) for piece in pieces(text, cuts)) + matcher.finish()
    match = earliest(text, stop_sequences)
    assert (out, matcher.stop_sequence) == ((text, None) if match is None else (text[: match[0]], match[1]))


@given(text=abc, stop_sequences=sequences)
def test_only_what_may_become_a_stop_sequence_waits(text: str, stop_sequences: list[str]) -> None:
    matcher = StopMatcher(stop_sequences)
    out = ""
    for end in range(1, len(text) + 1):
        out += matcher.feed(text[end - 1])
        if earliest(text[:end], stop_sequences) is not None:
            break
        begins = [
            size
            for stop in stop_sequences
            for size in range(1, len(stop))
            if text[:end].endswith(stop[:size])
        ]
        assert len(out) == end - max(begins, default=0)


def test_a_lone_stop_sequence_ends_the_text_at_its_last_character() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.feed("the E") == "the "
    assert matcher.feed("ND and more") == ""
    assert matcher.stop_sequence == "END"
    assert matcher.feed("ignored") + matcher.finish() == ""


def test_stop_sequences_cross_token_borders() -> None:
    decoder = codec().decoder(["\n\nHuman:"], prefill=False)
    out = [prose(decoder.feed([token_id])) for token_id in codec().tokenizer.encode("Sure.\n\nHuman: what")]
    assert "".join(out) + prose(decoder.finish()) == "Sure."
    assert decoder.stop_sequence == "\n\nHuman:"


@pytest.mark.parametrize("stop_sequences", [[""], ["a", ""], ["x" * 70_000]])
def test_stop_sequences_we_cannot_honour_are_refused(stop_sequences: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        ReplyDecoder(codec(), stop_sequences)
    assert refusal.value.place == "stop_sequences"


def test_sentencepiece_s_dummy_space_is_dropped_once_and_not_after_a_prefill() -> None:
    mistral = Codec.from_spec(sentencepiece_spec(MISTRAL))
    reply = mistral.tokenizer.encode("to you")
    decoder = mistral.decoder()
    assert (
        "".join(prose(decoder.feed([token_id])) for token_id in reply) + prose(decoder.finish()) == "to you"
    )
    assert prose(mistral.decoder(prefill=True).feed(reply)) == " to you"


@given(prefill=st.text(min_size=1), rest=st.text())
def test_prefill_and_reply_join_without_a_seam(prefill: str, rest: str) -> None:
    prompt = codec().encode(conversation("Hi", prefill))
    decoder = codec().decoder(prefill=prompt.prefill)
    reply = prose(decoder.feed(codec().tokenizer.encode(rest))) + prose(decoder.finish())
    assert codec().tokenizer.decode(prompt.token_ids).endswith(prefill)
    assert reply == rest
