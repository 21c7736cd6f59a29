"""Which passages of the given documents a sentence of a reply rests on.

The model is not asked to name its sources: a small one does not, and could make them up. Instead each sentence it has
written is compared with every passage, after the fact, by the words they share, rare words counting more (inverse
document frequency, Spärck Jones 1972). A passage is cited when it covers enough of the sentence's weight. So a citation
is always verbatim and in its place, and says "this passage speaks of the same things", not "the model looked here".
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import log
from typing import Final

from hokku.documents.sentences import Span, pieces, sentences

# A number is one word with its points and commas: 1.50 has nothing to do with 50.
_WORD = re.compile(r"\d+(?:[.,:]\d+)+(?!\w)|\w+")
# Scripts that write no spaces are compared by pairs of characters.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_MAX_PASSAGE_CHARS: Final = 600  # a table or code has no sentences, and is not cited as a whole
LEAST_COVERAGE: Final = 0.5  # of the weight of a sentence's words by the passages cited for it
_LEAST_GAIN: Final = 0.2  # by each passage after the first
_LEAST_SHARED_WORDS: Final = 2  # one is no evidence
_LEAST_NEW_WORDS: Final = 3  # by each passage after the first; two are often "are" and "not"
_MOST_PASSAGES: Final = 3
# A sentence's rarest words are looked up until they lead to this many passages, which takes about a millisecond; words
# of more passages say nearly nothing.
_MOST_FOUND: Final = 5_000


@dataclass(frozen=True, slots=True)
class Source:
    """A text that passages are taken from: a plain document, a page, or a block that is cited as a whole."""

    text: str
    is_indivisible: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """`sources[source].text[start:end]`, word for word: neighbouring sentences, or a whole source."""

    source: int
    start: int
    end: int


class CitationFinder:
    """Finds passages for sentences. Made once a request; its cost is linear in the sources' words."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._passages: list[Passage] = []
        self._passages_of_word: defaultdict[str, list[int]] = defaultdict(list)
        for number, source in enumerate(sources):
            for span in _passages_of(source):
                for word in _words(source.text[span.start : span.end]):
                    self._passages_of_word[word].append(len(self._passages))
                self._passages.append(Passage(number, *span))

    def cite(self, sentence: str) -> tuple[Passage, ...]:
        """What the sentence rests on, in the documents' order; nothing where too little is shared.

        Passages next to each other in one source become one.
        """
        weights = {word: self._weight(word) for word in _words(sentence)}
        total = sum(weights.values())
        chosen: list[int] = []
        covered = 0.0
        missing = self._telling(weights)
        while missing and len(chosen) < _MOST_PASSAGES:
            best, shared = self._best(missing, weights)
            gain = sum(weights[word] for word in shared)
            most_covered = covered + gain * (_MOST_PASSAGES - len(chosen))  # later passages never gain more
            if (
                len(shared) < (_LEAST_NEW_WORDS if chosen else _LEAST_SHARED_WORDS)
                or gain < _LEAST_GAIN * total
                or most_covered < LEAST_COVERAGE * total
            ):
                break
            chosen.append(best)
            covered += gain
            missing -= shared
        if covered < LEAST_COVERAGE * total:
            return ()
        return self._merged(sorted(chosen))

    def _telling(self, words: Iterable[str]) -> set[str]:
        """The words that passages have, without the most frequent if they are many."""
        found = {word: len(self._found(word)) for word in words}
        ascending = sorted(filter(found.get, found), key=found.__getitem__)
        num_found = accumulate(map(found.__getitem__, ascending))
        return {word for word, total in zip(ascending, num_found, strict=True) if total <= _MOST_FOUND}

    def _weight(self, word: str) -> float:
        """Rare words say most; a word that no passage has counts as if one had."""
        return log(1 + len(self._passages) / max(1, len(self._found(word))))

    def _found(self, word: str) -> Sequence[int]:
        return self._passages_of_word.get(word, ())

    def _best(self, words: set[str], weights: dict[str, float]) -> tuple[int, set[str]]:
        """The passage that covers most of the words, the first among equals, and which ones."""
        scores: defaultdict[int, float] = defaultdict(float)
        for word in sorted(words):
            for passage in self._passages_of_word[word]:
                scores[passage] += weights[word]
        best = max(scores, key=lambda passage: (scores[passage], -passage))
        return best, {word for word in words if _holds(self._passages_of_word[word], best)}

    def _merged(self, chosen: Sequence[int]) -> tuple[Passage, ...]:
        merged: list[Passage] = []
        last = -2
        for number in chosen:
            passage = self._passages[number]
            if number == last + 1 and passage.source == merged[-1].source:
                merged[-1] = Passage(passage.source, merged[-1].start, passage.end)
            else:
                merged.append(passage)
            last = number
        return tuple(merged)


def _passages_of(source: Source) -> list[Span]:
    text = source.text
    if source.is_indivisible:
        return [Span(0, len(text))] if text.strip() else []
    return [piece for sentence in sentences(text) for piece in pieces(text, sentence, _MAX_PASSAGE_CHARS)]


def _holds(ascending: Sequence[int], number: int) -> bool:
    place = bisect_left(ascending, number)
    return place < len(ascending) and ascending[place] == number


def _words(text: str) -> dict[str, None]:
    """The different words of a text, folded, in order."""
    found: dict[str, None] = {}
    for match in _WORD.finditer(text.casefold()):
        word = match[0]
        if _UNSPACED.search(word):
            found.update(dict.fromkeys(map("".join, pairwise(word))))
        else:
            found[word] = None
    return found
