"""Remembered runs of text: the same tokens as without, and no more memory than agreed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hokku.chat.run_cache import RunCache
from hokku.chat.tokenizer import Tokenizer
from hokku.chat.typed import BLOCK_MARKS, LAST_MARK
from tests.chat.house import byte_level_spec, sentencepiece_spec

LONG = "A remembered run of text, long enough to be worth it. " * 10
TOKENIZERS = [Tokenizer(byte_level_spec()), Tokenizer(sentencepiece_spec())]


class CountingEncoder:
    """One token a character; counts its calls."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, text: str, first: bool) -> list[int]:
        self.num_calls += 1
        return [int(first), *map(ord, text)]


def test_a_long_run_is_encoded_once() -> None:
    cache, encode = RunCache[list[int]](), CountingEncoder()
    assert [list(cache.made(LONG, True, encode)) for _ in range(3)] == [[1, *map(ord, LONG)]] * 3
    assert encode.num_calls == 1


def test_the_first_run_of_a_prompt_is_another_one() -> None:
    cache, encode = RunCache[list[int]](), CountingEncoder()
    assert cache.made(LONG, True, encode)[0] == 1
    assert cache.made(LONG, False, encode)[0] == 0


def test_short_runs_are_not_remembered() -> None:
    cache, encode = RunCache[list[int]](), CountingEncoder()
    for _ in range(2):
        cache.made("short", False, encode)
    assert encode.num_calls == 2


def test_the_run_used_longest_ago_goes_first() -> None:
    cache, encode = RunCache[list[int]](max_characters=1000), CountingEncoder()
    runs = [letter * 300 for letter in "abcd"]
    for run in [*runs[:3], runs[0], runs[3]]:  # there is room for three
        cache.made(run, False, encode)
    assert encode.num_calls == 4
    cache.made(runs[0], False, encode)
    assert encode.num_calls == 4
    cache.made(runs[1], False, encode)
    assert encode.num_calls == 5


def test_a_run_beyond_the_whole_room_pushes_nobody_out() -> None:
    cache, encode = RunCache[list[int]](max_characters=1000), CountingEncoder()
    for run in ["a" * 900, "b" * 1001, "a" * 900]:
        cache.made(run, False, encode)
    assert encode.num_calls == 2


@given(
    runs=st.lists(st.tuples(st.text(max_size=40), st.integers(1, 40)).map(lambda p: p[0] * p[1]), max_size=4)
)
def test_rendered_text_has_the_same_tokens_again(runs: list[str]) -> None:
    for tokenizer in TOKENIZERS:
        marker = next(iter(tokenizer.spec.control_tokens)).text
        rendered = marker.join(tokenizer.typed_alphabet.typed(run) for run in runs)
        fresh = Tokenizer(tokenizer.spec).encode_rendered(rendered)
        assert tokenizer.encode_rendered(rendered) == fresh
        assert tokenizer.encode_rendered(rendered) == fresh


def test_marks_are_meant_where_they_are_kept_and_nowhere_else() -> None:
    for tokenizer in TOKENIZERS:
        alphabet = tokenizer.typed_alphabet
        text = LONG + LAST_MARK
        for _ in range(2):
            assert alphabet.plain(alphabet.typed(text)) == LONG + "\ufffd"
            assert alphabet.plain(alphabet.meaning(BLOCK_MARKS).typed(text)) == text


@given(
    text=st.text(min_size=1, max_size=30).map(lambda text: text * 300), places=st.lists(st.integers(0, 400))
)
def test_places_in_a_remembered_run_are_where_they_were(text: str, places: list[int]) -> None:
    for tokenizer in TOKENIZERS:
        rendered = tokenizer.typed_alphabet.typed(text)
        fresh = Tokenizer(tokenizer.spec).encode_to_places(rendered, places)
        assert tokenizer.encode_to_places(rendered, places[:1])[0] == fresh[0]
        assert tokenizer.encode_to_places(rendered, places) == fresh
