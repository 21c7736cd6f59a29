"""Citations as JSON objects: those of a reply, and the same sent back in a later turn (wire.md section 14.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hokku.api.anthropic.fields import (
    a_string,
    a_tagged_object,
    an_array,
    an_integer,
    joined,
    refuse,
    refuse_extras,
    required,
)
from hokku.protocol.citations import (
    BlockLocation,
    CharLocation,
    Citation,
    PageLocation,
    SearchResultLocation,
)

# The document's own limit: whatever title a citation of ours has is taken back.
MAX_TITLE_CHARS = 500
_RANGES = {
    "char_location": ("start_char_index", "end_char_index"),
    "content_block_location": ("start_block_index", "end_block_index"),
    "page_location": ("start_page_number", "end_page_number"),
    "search_result_location": ("start_block_index", "end_block_index"),
}
LOCATION_TYPES = sorted({*_RANGES, "web_search_result_location"})


def citation_object(citation: Citation) -> dict[str, Any]:
    """Where a cited passage stands."""
    match citation:
        case CharLocation():
            return _document_location("char_location", citation)
        case PageLocation():
            return _document_location("page_location", citation)
        case BlockLocation():
            return _document_location("content_block_location", citation)
        case SearchResultLocation():
            kind = "search_result_location"
            return {
                "type": kind,
                "cited_text": citation.cited_text,
                "source": citation.source,
                "title": citation.title,
                "search_result_index": citation.search_result_index,
                **dict(zip(_RANGES[kind], (citation.start, citation.end), strict=True)),
            }


def _document_location(kind: str, citation: CharLocation | PageLocation | BlockLocation) -> dict[str, Any]:
    return {
        "type": kind,
        "cited_text": citation.cited_text,
        "document_index": citation.document_index,
        "document_title": citation.document_title,
        "file_id": None,
        **dict(zip(_RANGES[kind], (citation.start, citation.end), strict=True)),
    }


def check_citations(value: object, path: str) -> None:
    """Check the `citations` of a text block that is sent back."""
    if value is None:
        return
    for index, citation in enumerate(an_array(value, path)):
        location, kind = a_tagged_object(citation, f"{path}.{index}", LOCATION_TYPES)
        _check_location(location, kind, f"{path}.{index}.{kind}")


def _check_location(location: dict[str, Any], kind: str, path: str) -> None:
    known = _CHECKS[kind]
    for name, check in known.items():
        check(required(location, name, path), joined(path, name))
    if kind in _RANGES:
        start, end = _RANGES[kind]
        if location[start] >= location[end]:
            refuse(joined(path, end), f"Input should be greater than {location[start]}")
    # What a reply says of a file is null or its id; sent back, it says nothing that the index does not.
    file_id = location.get("file_id")
    if file_id is not None:
        a_string(file_id, joined(path, "file_id"))
    refuse_extras(location, ("type", *known, *(["file_id"] if "document_index" in known else [])), path)


def _an_index(value: object, path: str, least: int = 0) -> None:
    if an_integer(value, path) < least:
        refuse(path, f"Input should be greater than or equal to {least}")


def _a_page_number(value: object, path: str) -> None:
    _an_index(value, path, least=1)


def _a_title(value: object, path: str) -> None:
    if value is not None and len(a_string(value, path)) > MAX_TITLE_CHARS:
        refuse(path, f"String should have at most {MAX_TITLE_CHARS} characters")


_Checks = dict[str, Callable[[object, str], object]]


def _checks_of_document(kind: str, number: Callable[[object, str], object]) -> _Checks:
    named: _Checks = {"cited_text": a_string, "document_index": _an_index, "document_title": _a_title}
    return {**named, **dict.fromkeys(_RANGES[kind], number)}


_CHECKS: dict[str, _Checks] = {
    "char_location": _checks_of_document("char_location", _an_index),
    "content_block_location": _checks_of_document("content_block_location", _an_index),
    "page_location": _checks_of_document("page_location", _a_page_number),
    "search_result_location": {
        "cited_text": a_string,
        "source": a_string,
        "title": _a_title,
        "search_result_index": _an_index,
        **dict.fromkeys(_RANGES["search_result_location"], _an_index),
    },
    "web_search_result_location": {
        "cited_text": a_string,
        "encrypted_index": a_string,
        "title": _a_title,
        "url": a_string,
    },
}
