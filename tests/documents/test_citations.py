"""Passages are whole and in order, whatever the texts; and found where they should be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hokku.documents.citations import CitationFinder, Passage, Source
from hokku.documents.sentences import sentences

GRASS = "The grass is green because of chlorophyll. The sky is blue. Water boils at 100 degrees Celsius at sea level."
SPACE = "Jupiter is the largest planet. It has 95 known moons. Saturn's rings are made of ice."
SOURCES = [Source(GRASS), Source(SPACE), Source("A block about whales and krill.", is_indivisible=True)]
WORDS = st.sampled_from(
    ["tin", "gold", "iron", "zinc", "neon", "argon.", "helium!", "boron?", "a", "the", "of\n"]
)
TEXTS = st.lists(WORDS, max_size=60).map(" ".join)


def cited(sentence: str) -> list[str]:
    found = CitationFinder(SOURCES).cite(sentence)
    return [SOURCES[one.source].text[one.start : one.end] for one in found]


def test_a_sentence_in_other_words_is_led_back_to_its_passage() -> None:
    assert cited("Grass looks green because chlorophyll is in it.") == [
        "The grass is green because of chlorophyll."
    ]
    assert cited("It has 95 known moons, and Jupiter is the largest planet.") == [
        "Jupiter is the largest planet. It has 95 known moons."
    ]
    assert cited("Whales eat krill.") == ["A block about whales and krill."]


def test_a_number_is_one_word() -> None:
    prices = CitationFinder(
        [Source("It takes 50 minutes and more. The fare is 1.50 crowns. We saw 410,000 birds.")]
    )
    assert prices.cite("It takes 1.50 or 1,000.") == ()
    assert prices.cite("There were 410,000 birds.") == (Passage(0, 55, 76),)


def test_a_second_passage_brings_more_than_small_words() -> None:
    finder = CitationFinder(
        [Source("Electric cars may be charged on board. Dogs are not allowed. Cats are.")]
    )
    assert finder.cite("Electric cars are not charged.") == (Passage(0, 0, 38),)


def test_what_no_document_says_is_not_cited() -> None:
    assert cited("I am happy to help you with that!") == []
    assert cited("") == []
    assert cited("Jupiter") == [], "one word is no evidence"


def test_one_sentence_may_rest_on_passages_of_several_documents() -> None:
    found = CitationFinder(SOURCES).cite("Saturn's rings are made of ice, and water boils at 100 degrees.")
    assert [one.source for one in found] == [0, 1]


def test_unspaced_scripts_are_compared_by_pairs_of_characters() -> None:
    finder = CitationFinder([Source("東京は日本の首都です。富士山は高い山です。")])
    assert finder.cite("日本の首都は東京です") == (Passage(0, 0, 11),)


@given(st.lists(TEXTS, max_size=4), TEXTS)
def test_passages_are_whole_and_in_order(texts: list[str], sentence: str) -> None:
    found = CitationFinder([Source(text) for text in texts]).cite(sentence)
    assert list(found) == sorted(found, key=lambda one: (one.source, one.start))
    for one in found:
        spans = list(sentences(texts[one.source]))
        assert one.start in [span.start for span in spans]
        assert one.end in [span.end for span in spans]
        assert one.start < one.end


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30, unique=True), st.data())
def test_a_passage_quoted_word_for_word_is_found(numbers: list[int], data: st.DataObject) -> None:
    passages = [f"Item n{number} costs c{number} coins." for number in numbers]
    chosen = data.draw(st.sampled_from(passages))
    text = " ".join(passages)
    found = CitationFinder([Source(text)]).cite(chosen)
    assert any(chosen in text[one.start : one.end] for one in found)


def test_a_long_document_of_one_word_costs_no_more_than_its_length() -> None:
    finder = CitationFinder([Source("spam eggs. " * 50_000)])
    assert finder.cite("spam eggs " * 1_000) == ()


def test_what_has_no_sentences_is_not_cited_as_a_whole() -> None:
    table = "\n".join(f"item{number}, {number} coins, shelf{number}" for number in range(500))
    (found,) = CitationFinder([Source(table)]).cite("The item250 is on shelf250: 250 coins.")
    assert "item250, 250 coins, shelf250" in table[found.start : found.end]
    assert found.end - found.start <= 600
    assert table[found.end] == "\n"
