"""Documents and search results as the model reads them: written out as text, in the place where they were attached.

No template of the families served knows documents inside a turn, so the form is the same for all of them: tags, which
models of every family have seen a lot of, and a number by which the reply can name the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NoReturn

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

_BLOCK_BREAK = "\n\n"


def written_out(conversation: Conversation) -> Conversation:
    """The same conversation with each attachment as one part of text, which ends where the attachment did.

    Raises:
        InvalidRequest: an image, which text cannot say.
        ValueError: a PDF that nobody has read.
    """
    if next(conversation.attachments, None) is None:
        return conversation
    writer = _Writer()
    turns = (replace(turn, parts=tuple(map(writer.part, turn.parts))) for turn in conversation.turns)
    return replace(conversation, turns=tuple(turns))


class _Writer:
    """Numbers documents and search results from 1, as people count."""

    def __init__(self) -> None:
        self._num_documents = 0
        self._num_results = 0

    def part(self, part: Part) -> Part:
        match part:
            case ToolResultPart(parts=parts):
                return replace(part, parts=tuple(map(self._inner, parts)))
            case ImagePart() | DocumentPart() | SearchResultPart():
                return self._inner(part)
        return part

    def _inner(self, part: TextPart | Attachment) -> TextPart:
        match part:
            case TextPart():
                return part
            case DocumentPart():
                self._num_documents += 1
                text = _tagged("document", self._num_documents, _document_lines(part))
            case SearchResultPart():
                self._num_results += 1
                text = _tagged("search_result", self._num_results, _result_lines(part))
            case ImagePart():
                _refuse(part)
        return TextPart(text, part.cache_secs)


def _tagged(tag: str, number: int, lines: Iterable[str]) -> str:
    return "\n".join([f'<{tag} index="{number}">', *lines, f"</{tag}>"])


def _document_lines(document: DocumentPart) -> Iterator[str]:
    if document.title:
        yield f"<title>{document.title}</title>"
    if document.context:
        yield f"<context>{document.context}</context>"
    match document.body:
        case PlainText(text=text):
            yield text
        case PdfFile(pages=None):
            raise ValueError("a PDF has to be read before it is written out")
        case PdfFile(pages=pages):
            for number, page in enumerate(pages or (), 1):
                yield f'<page number="{number}">\n{page}\n</page>'
        case ContentBlocks(parts=parts):
            yield _BLOCK_BREAK.join(
                part.text if isinstance(part, TextPart) else _refuse(part) for part in parts
            )


def _result_lines(result: SearchResultPart) -> Iterator[str]:
    yield f"<source>{result.source}</source>"
    yield f"<title>{result.title}</title>"
    yield _BLOCK_BREAK.join(part.text for part in result.parts)


def _refuse(image: ImagePart) -> NoReturn:
    raise InvalidRequest("this model reads text only", place=image.place)
