"""Parts of a message's content (wire.md section 15, "Message")."""

from __future__ import annotations

from typing import Any

from hokku.api.anthropic.attachments import MAX_IMAGE_CHARS, MAX_TITLE_CHARS, decoded_base64
from hokku.api.anthropic.fields import (
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
from hokku.api.config import Compatibility
from hokku.documents.config import IMAGE_TYPES, PDF_TYPE
from hokku.protocol.messages import (
    DocumentPart,
    FileSource,
    ImagePart,
    InlineFile,
    PdfFile,
    StoredFile,
    TextPart,
    UrlFile,
)

Said = TextPart | ImagePart | DocumentPart

USER_TYPES = ("text", "image_url", "input_audio", "file")
DETAILS = ("auto", "low", "high", "original")
_DROPPED_WHERE_HOSTED = ("input_audio", "file")
_ALIASES = {"image/jpg": "image/jpeg"}  # what many clients write


def read_texts(content: object, path: str, types: tuple[str, ...] = ("text",)) -> tuple[TextPart, ...]:
    """Content of text alone: a string, or parts of these types, each of which holds its text under its own name. Empty
    ones are left out."""
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    texts = []
    for index, value in enumerate(an_array(content, path)):
        part, kind = a_tagged_object(value, f"{path}[{index}]", types)
        texts.append(_text(part, kind, f"{path}[{index}]"))
    return tuple(TextPart(text) for text in texts if text)


def read_parts(content: object, path: str, compatibility: Compatibility) -> tuple[Said, ...]:
    """What a user says and shows. Empty texts are left out, and blank ones refused."""
    if isinstance(content, str):
        parts: list[Said | None] = [TextPart(content)]
    else:
        values = enumerate(an_array(content, path))
        parts = [_part(value, f"{path}[{index}]", compatibility) for index, value in values]
    said = tuple(part for part in parts if part is not None and part != TextPart(""))
    if not said:
        refuse(path, "user messages must have non-empty content")
    refuse_blank(said, path)
    return said


def refuse_blank(parts: tuple[Said, ...], path: str) -> None:
    """Refuse texts of white space."""
    if any(isinstance(part, TextPart) and not part.text.strip() for part in parts):
        refuse(path, "text must contain non-whitespace characters")


def _part(value: object, path: str, compatibility: Compatibility) -> Said | None:
    """One part; None where it is dropped."""
    part, kind = a_tagged_object(value, path, USER_TYPES)
    if kind in _DROPPED_WHERE_HOSTED and compatibility is Compatibility.HOSTED:
        return None
    match kind:
        case "text":
            return TextPart(_text(part, "text", path))
        case "image_url":
            return _image(part, path)
        case "file":
            return _file(part, path)
        case _:
            return refuse(path, "this model does not hear: `input_audio` is not supported")


def _text(part: dict[str, Any], name: str, path: str) -> str:
    text = a_string(required(part, name, path), joined(path, name))
    refuse_extras(part, ("type", name), path)
    return text


def _image(part: dict[str, Any], path: str) -> ImagePart:
    place = joined(path, "image_url")
    image = an_object(required(part, "image_url", path), place)
    url = a_string(required(image, "url", place), joined(place, "url"))
    # A model that sees is shown a picture at its own detail, whichever is named.
    if image.get("detail") not in (None, *DETAILS):
        refuse(joined(place, "detail"), one_of(DETAILS))
    refuse_extras(image, ("url", "detail"), place)
    refuse_extras(part, ("type", "image_url"), path)
    return ImagePart(_image_source(url, joined(place, "url")), path)


def _image_source(url: str, path: str) -> FileSource:
    if url.startswith(("http://", "https://")):
        return UrlFile(url, path)
    media_type, data = _data_url(url, path)
    media_type = _ALIASES.get(media_type, media_type)
    if media_type not in IMAGE_TYPES:
        refuse(path, f"the type of an image: {one_of(IMAGE_TYPES)}")
    if len(data) > MAX_IMAGE_CHARS:
        refuse(path, f"image exceeds 10 MB maximum: {len(data)} bytes > {MAX_IMAGE_CHARS} bytes")
    return _inline(media_type, data, path, "image cannot be empty")


def _file(part: dict[str, Any], path: str) -> DocumentPart:
    """A PDF in the request, or a file that was uploaded before."""
    place = joined(path, "file")
    file = an_object(required(part, "file", path), place)
    refuse_extras(file, ("file_data", "file_id", "filename"), place)
    refuse_extras(part, ("type", "file"), path)
    title = None if file.get("filename") is None else a_string(file["filename"], joined(place, "filename"))
    if title and len(title) > MAX_TITLE_CHARS:
        refuse(joined(place, "filename"), f"String should have at most {MAX_TITLE_CHARS} characters")
    if (file.get("file_id") is None) == (file.get("file_data") is None):
        refuse(place, "either file_id or file_data is needed")
    if file.get("file_id") is not None:
        source: FileSource = StoredFile(a_string(file["file_id"], joined(place, "file_id")), place)
    else:
        source = _pdf(a_string(file["file_data"], joined(place, "file_data")), joined(place, "file_data"))
    return DocumentPart(PdfFile(source), path, title or None)


def _pdf(url: str, path: str) -> InlineFile:
    media_type, data = _data_url(url, path)
    if media_type != PDF_TYPE:
        refuse(path, f"the type of a file: {one_of([PDF_TYPE])}")
    return _inline(media_type, data, path, "PDF cannot be empty")


def _inline(media_type: str, text: str, path: str, if_empty: str) -> InlineFile:
    data = decoded_base64(text, path)
    return InlineFile(media_type, data, path) if data else refuse(path, if_empty)


def _data_url(url: str, path: str) -> tuple[str, str]:
    """Media type and base64 text of a `data:` URL (RFC 2397)."""
    head, comma, data = url.partition(",")
    media_type, _, encoding = head.removeprefix("data:").rpartition(";")
    if not head.startswith("data:") or not comma or encoding.strip().lower() != "base64":
        refuse(path, "Input should be a URL with http, https, or data:<media type>;base64,<data>")
    return media_type.partition(";")[0].strip().lower(), data
