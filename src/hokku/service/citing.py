"""Citations of a reply: its prose sentence by sentence, each with the passages of the attached texts that it rests on.

Between a model's decoder and the reply's blocks, where a request asks for citations. A sentence can be looked up when
it has ended, so prose waits for that; `docs/citations.md` says how passages are chosen and what that is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hokku.documents.citations import CitationFinder, Source
from hokku.documents.sentences import first_sentence
from hokku.protocol.citations import (
    BlockLocation,
    CharLocation,
    Citation,
    PageLocation,
    SearchResultLocation,
)
from hokku.protocol.messages import (
    ContentBlocks,
    Conversation,
    DocumentPart,
    PdfFile,
    PlainText,
    SearchResultPart,
    TextPart,
)
from hokku.service.models import ReplyDecoder
from hokku.service.reply_blocks import BlockPiece, CitedProse

# A sentence that is longer is looked up and sent in pieces: some five lines, two seconds of a slow model's writing.
MAX_SENTENCE_CHARS: Final = 500


class Citer:
    """Says what a sentence rests on, as places in the conversation's attachments. Made once a request.

    Its construction takes time in proportion to the attached texts; a sentence is looked up in about a millisecond.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._origins = list(_origins(conversation))
        self._finder = CitationFinder([origin.source for origin in self._origins])

    def cite(self, sentence: str) -> tuple[Citation, ...]:
        """The passages in the conversation's order, word for word; neighbouring blocks are one passage."""
        cited: list[Citation] = []
        for passage in self._finder.cite(sentence):
            origin = self._origins[passage.source]
            found = origin.located(passage.start, passage.end)
            if cited and (joined := _joined(cited[-1], found)):
                cited[-1] = joined
            else:
                cited.append(found)
        return tuple(cited)


class CitingDecoder:
    """A reply's decoder whose prose comes in sentences, each with what it rests on. The text is the same."""

    def __init__(self, decoder: ReplyDecoder, citer: Citer) -> None:
        self._decoder = decoder
        self._citer = citer
        self._held = ""  # the sentence under way, and the blanks before it

    @property
    def stop_sequence(self) -> str | None:
        """The stop sequence that ended the reply, once one has been met."""
        return self._decoder.stop_sequence

    def feed(self, token_ids: Sequence[int]) -> list[BlockPiece]:
        """Take the next tokens; return the sentences that have ended, and calls."""
        pieces = self._through(self._decoder.feed(token_ids))
        return pieces if self.stop_sequence is None else [*pieces, *self._flushed()]

    def finish(self) -> list[BlockPiece]:
        """No more tokens come: return what was held back."""
        return [*self._through(self._decoder.finish()), *self._flushed()]

    def _through(self, pieces: Sequence[BlockPiece]) -> list[BlockPiece]:
        passed: list[BlockPiece] = []
        for piece in pieces:
            if isinstance(piece, str):
                self._held += piece
                while ended := self._ended():
                    passed.append(self._cited(ended))
            else:
                passed += [*self._flushed(), piece]
        return passed

    def _flushed(self) -> list[BlockPiece]:
        rest, self._held = self._held, ""
        return [self._cited(rest)] if rest else []

    def _ended(self) -> str:
        """The first sentence held, taken out, if what comes cannot change where it ends; else ""."""
        end = _end_of_sentence(self._held)
        ended, self._held = self._held[:end], self._held[end:]
        return ended

    def _cited(self, text: str) -> BlockPiece:
        citations = self._citer.cite(text)
        return CitedProse(text, citations) if citations else text


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a source comes from: which of the documents or search results, and which page or block of it."""

    source: Source
    attachment: DocumentPart | SearchResultPart
    index: int  # among its kind, from 0
    number: int = 0  # of the page, from 1, or of the block, from 0

    def located(self, start: int, end: int) -> Citation:
        """The characters from `start` to `end` of the source, as a citation."""
        text, number = self.source.text[start:end], self.number
        attachment = self.attachment
        if isinstance(attachment, SearchResultPart):
            names = (attachment.source, attachment.title)
            return SearchResultLocation(text, self.index, *names, number, number + 1)
        match attachment.body:
            case PlainText():
                return CharLocation(text, self.index, attachment.title, start, end)
            case PdfFile():
                return PageLocation(text, self.index, attachment.title, number, number + 1)
            case ContentBlocks():
                return BlockLocation(text, self.index, attachment.title, number, number + 1)


def _origins(conversation: Conversation) -> Iterator[_Origin]:
    """Everything that may be cited. Documents and search results are counted whether they may or not."""
    num_documents = num_results = 0
    for attachment in conversation.attachments:
        match attachment:
            case DocumentPart():
                if attachment.is_cited:
                    yield from _origins_of_document(attachment, num_documents)
                num_documents += 1
            case SearchResultPart():
                if attachment.is_cited:
                    for number, part in enumerate(attachment.parts):
                        yield _Origin(_block(part), attachment, num_results, number)
                num_results += 1


def _origins_of_document(document: DocumentPart, index: int) -> Iterator[_Origin]:
    match document.body:
        case PlainText(text=text):
            yield _Origin(Source(text), document, index)
        case PdfFile(pages=pages):
            for number, page in enumerate(pages or (), 1):
                yield _Origin(Source(page), document, index, number)
        case ContentBlocks(parts=parts):
            for number, part in enumerate(parts):
                if isinstance(part, TextPart):
                    yield _Origin(_block(part), document, index, number)


def _end_of_sentence(text: str) -> int:
    """Where the first sentence of a text that goes on ends, however much of the text is there already; 0 while that is
    open. One that is too long ends between two words."""
    blanks = len(text) - len(text.lstrip())
    beginning = text[: blanks + MAX_SENTENCE_CHARS]
    sentence = first_sentence(beginning)
    if sentence:
        return sentence.end
    if len(beginning) < blanks + MAX_SENTENCE_CHARS:
        return 0
    words = beginning.rsplit(maxsplit=1)
    return len(words[0]) if len(words) > 1 else len(beginning)


def _block(part: TextPart) -> Source:
    return Source(part.text, is_indivisible=True)


def _joined(first: Citation, second: Citation) -> Citation | None:
    """Two blocks as one passage, if they stand next to each other."""
    match first, second:
        case (BlockLocation(document_index=one), BlockLocation(document_index=other)):
            pass
        case (SearchResultLocation(search_result_index=one), SearchResultLocation(search_result_index=other)):
            pass
        case _:
            return None
    if one != other or first.end != second.start:
        return None
    return replace(first, cited_text=first.cited_text + second.cited_text, end=second.end)
