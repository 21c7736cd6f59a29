"""Documents and search results as the model reads them: written out as text, in the place where they were attached.

No template of the families served knows documents inside a turn, so the form is the same for all of them: tags, which
models of every family have seen a lot of, and a number by which the reply can name the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import zip_longest

from hokku.chat.pictures import picture_mark, without_marks
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import (
    Attachment,
    ContentBlocks,
    Conversation,
    DocumentPart,
    ImagePart,
    Part,
    PdfFile,
    PlainText,
    SearchResultPart,
    TextPart,
    ToolResultPart,
)
from hokku.protocol.pictures import Picture

_BLOCK_BREAK = "\n\n"


def written_out(conversation: Conversation) -> Conversation:
    """The same conversation with each attachment as one part of text, which ends where the attachment did. Pictures
    that have been read are marks in it (`pictures.py`), numbered as `Conversation.pictures` has them.

    Raises:
        InvalidRequest: an image that nobody has read, which text cannot say.
        ValueError: a PDF that nobody has read.
    """
    if next(conversation.attachments, None) is None:
        return conversation
    writer = _Writer(has_pictures=bool(conversation.pictures))
    system = tuple(map(writer.text, conversation.system))
    turns = (replace(turn, parts=tuple(map(writer.part, turn.parts))) for turn in conversation.turns)
    return replace(conversation, system=system, turns=tuple(turns))


class _Writer:
    """Numbers documents and search results from 1, as people count, and pictures from 0."""

    def __init__(self, *, has_pictures: bool) -> None:
        self._has_pictures = has_pictures
        self._num_documents = 0
        self._num_results = 0
        self._num_pictures = 0

    def text(self, part: TextPart) -> TextPart:
        """The part itself, in whose words no picture is meant."""
        return replace(part, text=without_marks(part.text)) if self._has_pictures else part

    def part(self, part: Part) -> Part:
        """What is written in place of a part."""
        match part:
            case TextPart():
                return self.text(part)
            case ToolResultPart(parts=parts):
                return replace(part, parts=tuple(map(self._inner, parts)))
            case ImagePart() | DocumentPart() | SearchResultPart():
                return self._inner(part)
        return part

    def _inner(self, part: TextPart | Attachment) -> TextPart:
        match part:
            case TextPart():
                return self.text(part)
            case DocumentPart():
                self._num_documents += 1
                text = _tagged("document", self._num_documents, self._document_lines(part))
            case SearchResultPart():
                self._num_results += 1
                text = _tagged("search_result", self._num_results, map(self._words, _result_lines(part)))
            case ImagePart():
                text = self._image(part)
        return TextPart(text, part.cache_secs)

    def _document_lines(self, document: DocumentPart) -> Iterator[str]:
        if document.title:
            yield self._words(f"<title>{document.title}</title>")
        if document.context:
            yield self._words(f"<context>{document.context}</context>")
        match document.body:
            case PlainText(text=text):
                yield self._words(text)
            case PdfFile(pages=None):
                raise ValueError("a PDF has to be read before it is written out")
            case PdfFile(pages=pages, pictures=pictures):
                for number, (page, picture) in enumerate(zip_longest(pages or (), pictures), 1):
                    seen = f"{self._mark(picture)}\n" if picture else ""
                    yield f'<page number="{number}">\n{seen}{self._words(page)}\n</page>'
            case ContentBlocks(parts=parts):
                yield _BLOCK_BREAK.join(
                    self._words(part.text) if isinstance(part, TextPart) else self._image(part)
                    for part in parts
                )

    def _image(self, image: ImagePart) -> str:
        if image.picture is None:
            raise InvalidRequest("this model reads text only", place=image.place)
        return self._mark(image.picture)

    def _mark(self, _: Picture) -> str:
        self._num_pictures += 1
        return picture_mark(self._num_pictures - 1)

    def _words(self, text: str) -> str:
        return without_marks(text) if self._has_pictures else text


def _tagged(tag: str, number: int, lines: Iterable[str]) -> str:
    return "\n".join([f'<{tag} index="{number}">', *lines, f"</{tag}>"])


def _result_lines(result: SearchResultPart) -> Iterator[str]:
    yield f"<source>{result.source}</source>"
    yield f"<title>{result.title}</title>"
    yield _BLOCK_BREAK.join(part.text for part in result.parts)
