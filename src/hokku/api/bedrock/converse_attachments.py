"""Images, documents and search results of a Converse request, as blocks of the model's own body (wire.md 16.4)."""

from __future__ import annotations

import base64
from typing import Any, NoReturn

from hokku.api.bedrock.converse_fields import (
    a_choice,
    a_flag,
    a_list,
    a_structure,
    a_text,
    a_union,
    joined,
    needed,
    not_served,
    refuse_member,
)
from hokku.documents.config import PDF_TYPE, TEXT_TYPE
from hokku.protocol.errors import InvalidRequest

Block = dict[str, Any]

IMAGE_FORMATS = ("png", "jpeg", "gif", "webp")
TEXT_FORMATS = ("csv", "html", "txt", "md")  # shown to the model as they are
DOCUMENT_FORMATS = ("pdf", *TEXT_FORMATS, "doc", "docx", "xls", "xlsx")
MAX_DOCUMENT_NAME_CHARS = 200


def text_block(text: str) -> Block:
    """A block of prose."""
    return {"type": "text", "text": text}


def texts(value: object, path: str) -> list[str]:
    """A list of unions, or structures, that know texts only."""
    there = [a_union(each, f"{path}.{index}", ("text",)) for index, each in enumerate(a_list(value, path))]
    return [a_text(text, f"{path}.{index}.text") for index, (_, text) in enumerate(there)]


def image_block(value: object, path: str, formats: tuple[str, ...] = IMAGE_FORMATS) -> Block:
    """A picture, which comes as bytes."""
    image = a_structure(value, path, ("format", "source", "error"))
    if "error" in image:
        not_served(joined(path, "error"), "replies' images, which this is the failure of")
    image_format = a_choice(needed(image, "format", path), joined(path, "format"), formats)
    place = joined(path, "source")
    kind, data = a_union(needed(image, "source", path), place, ("bytes", "s3Location"))
    if kind == "s3Location":
        _refuse_s3(data, joined(place, kind))
    data = a_text(data, joined(place, "bytes"), least=1)
    return {"type": "image", "source": _base64_source(f"image/{image_format}", data)}


def document_block(value: object, path: str) -> Block:
    """A document; its name is its title."""
    document = a_structure(value, path, ("format", "name", "source", "context", "citations"))
    document_format = document.get("format")
    if document_format is not None:
        a_choice(document_format, joined(path, "format"), DOCUMENT_FORMATS)
    name = a_text(needed(document, "name", path), joined(path, "name"), least=1, most=MAX_DOCUMENT_NAME_CHARS)
    source = _document_source(needed(document, "source", path), path, document_format)
    block: Block = {"type": "document", "source": source, "title": name, **_citations(document, path)}
    context = a_text(document.get("context", ""), joined(path, "context"))
    return {**block, "context": context} if context else block


def search_result_block(value: object, path: str) -> Block:
    """What the client's own search has found."""
    result = a_structure(value, path, ("source", "title", "content", "citations"))
    named = {name: a_text(needed(result, name, path), joined(path, name)) for name in ("source", "title")}
    content = list(map(text_block, texts(needed(result, "content", path), joined(path, "content"))))
    return {"type": "search_result", **named, "content": content, **_citations(result, path)}


def _document_source(value: object, path: str, document_format: str | None) -> Block:
    place = joined(path, "source")
    kind, member = a_union(value, place, ("bytes", "s3Location", "text", "content"))
    place = joined(place, kind)
    if kind == "s3Location":
        _refuse_s3(member, place)
    if kind == "bytes":
        if document_format is None:
            refuse_member(joined(path, "format"), "not be null")
        return _document_bytes(a_text(member, place, least=1), place, document_format)
    if document_format not in (None, *TEXT_FORMATS):
        raise InvalidRequest(f"a document of the format {document_format} comes as bytes", place=place)
    if kind == "text":
        return _text_source(a_text(member, place))
    return {"type": "content", "content": list(map(text_block, texts(member, place)))}


def _document_bytes(data: str, path: str, document_format: str) -> Block:
    if document_format == "pdf":
        return _base64_source(PDF_TYPE, data)
    if document_format in TEXT_FORMATS:
        return _text_source(_decoded_text(data, path))
    served = ", ".join(["pdf", *TEXT_FORMATS])
    return not_served(path, f"documents of the format {document_format}; it serves {served}")


def _decoded_text(data: str, path: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode("utf-8-sig")
    except UnicodeDecodeError:
        sentence = "the file is not text in UTF-8"
    except ValueError:
        sentence = "invalid base64 data"
    raise InvalidRequest(sentence, place=path)


def _citations(fields: dict[str, Any], path: str) -> Block:
    if "citations" not in fields:
        return {}
    place = joined(path, "citations")
    config = a_structure(fields["citations"], place, ("enabled",))
    return {"citations": {"enabled": a_flag(needed(config, "enabled", place), joined(place, "enabled"))}}


def _refuse_s3(value: object, path: str) -> NoReturn:
    needed(a_structure(value, path, ("uri", "bucketOwner")), "uri", path)
    not_served(path, "files by their place in S3; send their bytes")


def _base64_source(media_type: str, data: str) -> Block:
    return {"type": "base64", "media_type": media_type, "data": data}


def _text_source(text: str) -> Block:
    return {"type": "text", "media_type": TEXT_TYPE, "data": text}
