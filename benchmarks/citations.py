"""What citing costs beside a document of 100 pages: `python benchmarks/citations.py`.

Making the finder ready, once a request, and looking up one sentence: some altered from the document, and one of the
most frequent words, as long as a sentence can be. The text is random, its words as frequent as Zipf says. Medians in
milliseconds; the last line is JSON.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable
from string import ascii_lowercase
from time import perf_counter

from hokku.documents.citations import CitationFinder, Source
from hokku.service.citing import MAX_SENTENCE_CHARS

NUM_PAGES = 100
PAGE_WORDS = 500
VOCABULARY = 12_000
NUM_SENTENCES = 300
KEPT = 0.7  # of an altered sentence's words


class Writer:
    """Writes random prose."""

    def __init__(self) -> None:
        self._dice = random.Random(1)
        self.words = [
            "".join(self._dice.choices(ascii_lowercase, k=self._dice.randint(2, 10)))
            for _ in range(VOCABULARY)
        ]
        self._weights = [1 / rank for rank in range(3, VOCABULARY + 3)]

    def sentence(self) -> str:
        """A sentence of words, frequent ones mostly."""
        return " ".join(self._dice.choices(self.words, self._weights, k=self._dice.randint(6, 28))) + "."

    def page(self) -> list[str]:
        """The sentences of a page."""
        page = [self.sentence()]
        while sum(len(sentence.split()) for sentence in page) < PAGE_WORDS:
            page.append(self.sentence())
        return page

    def altered(self, sentence: str) -> str:
        """The sentence with some of its words changed for any others."""
        return " ".join(
            word if self._dice.random() < KEPT else self._dice.choice(self.words) for word in sentence.split()
        )


def millisecs(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = perf_counter()
    work()
    return (perf_counter() - started) * 1e3


def main() -> None:
    """Measure and print."""
    writer = Writer()
    pages = [writer.page() for _ in range(NUM_PAGES)]
    sources = [Source(" ".join(page)) for page in pages]
    ready_ms = statistics.median(millisecs(lambda: CitationFinder(sources)) for _ in range(7))
    finder = CitationFinder(sources)
    known = [sentence for page in pages for sentence in page]
    asked = [writer.altered(sentence) for sentence in random.Random(2).sample(known, NUM_SENTENCES)]
    times = [millisecs(lambda sentence=sentence: finder.cite(sentence)) for sentence in asked]  # type: ignore[misc]
    frequent = " ".join(writer.words)[:MAX_SENTENCE_CHARS]
    worst_ms = statistics.median(millisecs(lambda: finder.cite(frequent)) for _ in range(9))
    figures = {
        "characters": sum(len(source.text) for source in sources),
        "ready_ms": round(ready_ms, 1),
        "sentence_ms": round(statistics.median(times), 2),
        "sentence_p95_ms": round(statistics.quantiles(times, n=20)[-1], 2),
        "frequent_words_ms": round(worst_ms, 2),
        "cited": sum(bool(finder.cite(sentence)) for sentence in asked) / NUM_SENTENCES,
    }
    for name, figure in figures.items():
        print(f"{name:>18} {figure:,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
