"""Documents, search results and images of a request body (wire.md sections 2.3, 12 and 14.1).

Only the form is checked here; what files hold is looked at by the service, which reads them.
"""

from __future__ import annotations

import binascii
from typing import Any

from hokku.api.anthropic.fields import (
    a_boolean,
    a_string,
    a_tagged_object,
    an_array,
    an_object,
    joined,
    one_of,
    refuse,
    refuse_extras,
    required,
)
from hokku.api.anthropic.findings import Findings, note_mark
from hokku.api.anthropic.texts import users_text_block
from hokku.documents.config import IMAGE_TYPES, PDF_TYPE, TEXT_TYPE
from hokku.protocol.messages import (
    Attachment,
    ContentBlocks,
    DocumentPart,
    FileSource,
    ImagePart,
    InlineFile,
    PdfFile,
    PlainText,
    SearchResultPart,
    StoredFile,
    TextPart,
    UrlFile,
)

ATTACHMENT_TYPES = ("document", "image", "search_result")
DOCUMENT_SOURCES = ("base64", "content", "file", "text", "url")
IMAGE_SOURCES = ("base64", "file", "url")
NAMED_SOURCES = ("file", "url")  # whose bytes are somewhere else
MAX_IMAGE_CHARS = 10_485_760  # of base64, as today's hosted service counts
MAX_TITLE_CHARS = 500
_CHUNK_CHARS = 1 << 20  # 3 ms of decoding, between which other threads get their turn; a multiple of 4


def attachment_block(block: dict[str, Any], path: str, findings: Findings, *, mark_path: str) -> Attachment:
    """A block of one of `ATTACHMENT_TYPES`. A mark inside it counts as one on the whole block."""
    match block["type"]:
        case "document":
            return _document(block, path, findings, mark_path)
        case "image":
            return _image(block, path, findings, mark_path)
        case _:
            return _search_result(block, path, findings, mark_path)


def refuse_mixed_citations(attachments: list[Attachment]) -> None:
    """Citations are on for all documents or none, and for all search results or none (14.1)."""
    documents = [part for part in attachments if isinstance(part, DocumentPart)]
    for document in documents:
        if document.is_cited != documents[0].is_cited:
            refuse(
                joined(document.place, "citations"), "citations must be enabled on all documents, or on none"
            )
    results = [part for part in attachments if isinstance(part, SearchResultPart)]
    if len({result.is_cited for result in results}) > 1:
        refuse("messages", "citations must be enabled on all search results, or on none")


def _document(block: dict[str, Any], path: str, findings: Findings, mark_path: str) -> DocumentPart:
    source, kind = _source(block, path, DOCUMENT_SOURCES, findings)
    source_path = f"{path}.source.{kind}"
    body: PlainText | PdfFile | ContentBlocks
    match kind:
        case "text":
            body = _plain_text(source, source_path)
        case "content":
            body = _content_blocks(source, source_path, findings)
        case "base64":
            body = PdfFile(_inline_pdf(source, source_path, mark_path))
        case _:
            body = PdfFile(_named_file(source, source_path))
    title = _optional_text(block, "title", path, MAX_TITLE_CHARS)
    context = _optional_text(block, "context", path, None)
    is_cited = _is_cited(block, path)
    inner = [part.cache_secs or 0 for part in body.parts] if isinstance(body, ContentBlocks) else []
    cache_secs = max(note_mark(block, path, findings, mark_path) or 0, *inner, 0) or None
    refuse_extras(block, ("type", "source", "title", "context", "citations", "cache_control"), path)
    return DocumentPart(body, path, title, context, is_cited, cache_secs)


def _image(block: dict[str, Any], path: str, findings: Findings, mark_path: str) -> ImagePart:
    source, kind = _source(block, path, IMAGE_SOURCES, findings)
    source_path = f"{path}.source.{kind}"
    file = _inline_image(source, source_path) if kind == "base64" else _named_file(source, source_path)
    may_shrink = _may_shrink(block.get("transformations"), joined(path, "transformations"))
    cache_secs = note_mark(block, path, findings, mark_path)
    refuse_extras(block, ("type", "source", "transformations", "cache_control"), path)
    return ImagePart(file, path, may_shrink, cache_secs)


def _search_result(block: dict[str, Any], path: str, findings: Findings, mark_path: str) -> SearchResultPart:
    source = a_string(required(block, "source", path), joined(path, "source"))
    title = a_string(required(block, "title", path), joined(path, "title"))
    content_path = joined(path, "content")
    content = an_array(required(block, "content", path), content_path)
    if not content:
        refuse(content_path, "at least one text block is required")
    parts = tuple(
        _inner_text(value, f"{content_path}.{index}", findings) for index, value in enumerate(content)
    )
    is_cited = _is_cited(block, path)
    inner = [part.cache_secs or 0 for part in parts]
    cache_secs = max(note_mark(block, path, findings, mark_path) or 0, *inner) or None
    refuse_extras(block, ("type", "source", "title", "content", "citations", "cache_control"), path)
    return SearchResultPart(source, title, parts, is_cited, cache_secs)


def _source(
    block: dict[str, Any], path: str, kinds: tuple[str, ...], findings: Findings
) -> tuple[dict[str, Any], str]:
    """The `source` of a block, and its `type`."""
    served = kinds if findings.takes_named_files else [kind for kind in kinds if kind not in NAMED_SOURCES]
    return a_tagged_object(required(block, "source", path), joined(path, "source"), served)


def _plain_text(source: dict[str, Any], path: str) -> PlainText:
    _media_type(source, path, (TEXT_TYPE,))
    text = a_string(required(source, "data", path), joined(path, "data"))
    refuse_extras(source, ("type", "media_type", "data"), path)
    return PlainText(text)


def _content_blocks(source: dict[str, Any], path: str, findings: Findings) -> ContentBlocks:
    content_path = joined(path, "content")
    content = required(source, "content", path)
    refuse_extras(source, ("type", "content"), path)
    if isinstance(content, str):
        return ContentBlocks((TextPart(content),))
    return ContentBlocks(
        tuple(
            _inner_block(value, f"{content_path}.{index}", findings)
            for index, value in enumerate(an_array(content, content_path))
        )
    )


def _inner_block(value: object, path: str, findings: Findings) -> TextPart | ImagePart:
    block, kind = a_tagged_object(value, path, ("image", "text"))
    if kind == "image":
        return _image(block, f"{path}.image", findings, path)
    return users_text_block(block, f"{path}.text", findings, mark_path=path)


def _inner_text(value: object, path: str, findings: Findings) -> TextPart:
    block, _ = a_tagged_object(value, path, ("text",))
    return users_text_block(block, f"{path}.text", findings, mark_path=path)


def _inline_pdf(source: dict[str, Any], path: str, block_path: str) -> InlineFile:
    _media_type(source, path, (PDF_TYPE,))
    data = decoded_base64(a_string(required(source, "data", path), joined(path, "data")), path)
    refuse_extras(source, ("type", "media_type", "data"), path)
    if not data:
        refuse(path, "PDF cannot be empty")
    # What is wrong inside a PDF the hosted service reports under another name of the block.
    return InlineFile(PDF_TYPE, data, f"{block_path}.pdf.source.base64.data")


def _inline_image(source: dict[str, Any], path: str) -> InlineFile:
    media_type = _media_type(source, path, IMAGE_TYPES)
    text = a_string(required(source, "data", path), joined(path, "data"))
    if len(text) > MAX_IMAGE_CHARS:
        refuse(path, f"image exceeds 10 MB maximum: {len(text)} bytes > {MAX_IMAGE_CHARS} bytes")
    data = decoded_base64(text, path)
    refuse_extras(source, ("type", "media_type", "data"), path)
    if not data:
        refuse(path, "image cannot be empty")
    return InlineFile(media_type, data, joined(path, "data"))


def _named_file(source: dict[str, Any], path: str) -> FileSource:
    """A file that has to be brought first: `url` or `file`."""
    if source["type"] == "url":
        url = a_string(required(source, "url", path), joined(path, "url"))
        refuse_extras(source, ("type", "url"), path)
        return UrlFile(url, path)
    file_id = a_string(required(source, "file_id", path), joined(path, "file_id"))
    refuse_extras(source, ("type", "file_id"), path)
    return StoredFile(file_id, path)


def _media_type(source: dict[str, Any], path: str, known: tuple[str, ...]) -> str:
    media_type = required(source, "media_type", path)
    if media_type not in known:
        refuse(joined(path, "media_type"), one_of(known))
    return str(media_type)


def decoded_base64(text: str, path: str) -> bytes:
    """The bytes of standard base64: padded, without line breaks or anything else between."""
    if (
        0 <= text.find("=") < len(text) - 2
    ):  # the pieces are decoded one by one, and only the last may be padded
        refuse(path, "invalid base64 data")
    pieces = (text[start : start + _CHUNK_CHARS] for start in range(0, len(text), _CHUNK_CHARS))
    try:
        return b"".join([binascii.a2b_base64(piece, strict_mode=True) for piece in pieces])
    except ValueError:
        refuse(path, "invalid base64 data")


def _optional_text(block: dict[str, Any], name: str, path: str, most_chars: int | None) -> str | None:
    if block.get(name) is None:
        return None
    text = a_string(block[name], joined(path, name))
    if not text:
        refuse(joined(path, name), "String should have at least 1 character")
    if most_chars is not None and len(text) > most_chars:
        refuse(joined(path, name), f"String should have at most {most_chars} characters")
    return text


def _is_cited(block: dict[str, Any], path: str) -> bool:
    if block.get("citations") is None:
        return False
    citations_path = joined(path, "citations")
    citations = an_object(block["citations"], citations_path)
    enabled = a_boolean(citations.get("enabled", False), joined(citations_path, "enabled"))
    refuse_extras(citations, ("enabled",), citations_path)
    return enabled


def _may_shrink(value: object, path: str) -> bool:
    if value is None:
        return True
    transformations = an_object(value, path)
    oversized = transformations.get("oversized_image", "downsize")
    if oversized not in ("downsize", "error"):
        refuse(joined(path, "oversized_image"), one_of(["downsize", "error"]))
    refuse_extras(transformations, ("oversized_image",), path)
    return bool(oversized == "downsize")
