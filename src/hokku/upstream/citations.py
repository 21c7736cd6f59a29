"""Citations as the Messages API tells them, as values of ours."""

from __future__ import annotations

from hokku.protocol.citations import (
    BlockLocation,
    CharLocation,
    Citation,
    PageLocation,
    SearchResultLocation,
)
from hokku.upstream.fields import Json, index_in, text_in


def citation_of(said: Json) -> Citation | None:
    """One citation; None for one of a kind that requests of ours cannot ask for, or without its place."""
    text, title = text_in(said, "cited_text"), text_in(said, "document_title") or None
    match text_in(said, "type"):
        case "char_location":
            place = _place(said, "document_index", "start_char_index", "end_char_index")
            return place and CharLocation(text, place[0], title, place[1], place[2])
        case "page_location":
            place = _place(said, "document_index", "start_page_number", "end_page_number")
            return place and PageLocation(text, place[0], title, place[1], place[2])
        case "content_block_location":
            place = _place(said, "document_index", "start_block_index", "end_block_index")
            return place and BlockLocation(text, place[0], title, place[1], place[2])
        case "search_result_location":
            place = _place(said, "search_result_index", "start_block_index", "end_block_index")
            source, title = text_in(said, "source"), text_in(said, "title")
            return place and SearchResultLocation(text, place[0], source, title, place[1], place[2])
    return None


def _place(said: Json, *names: str) -> tuple[int, int, int] | None:
    which, start, end = (index_in(said, name) for name in names)
    return None if which is None or start is None or end is None else (which, start, end)
