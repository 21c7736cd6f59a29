"""Citations of a reply: a passage of what the request attached, word for word, and where it stands there.

Documents are counted over the whole conversation from 0, search results likewise; both by `Conversation`'s own order
(wire.md section 14.2). Every range excludes its end.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CharLocation:
    """Characters of a plain text; counted from 0."""

    cited_text: str
    document_index: int
    document_title: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PageLocation:
    """Pages of a PDF; counted from 1."""

    cited_text: str
    document_index: int
    document_title: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BlockLocation:
    """Blocks of a document of content blocks; counted from 0."""

    cited_text: str
    document_index: int
    document_title: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SearchResultLocation:
    """Blocks of a search result; counted from 0."""

    cited_text: str
    search_result_index: int
    source: str
    title: str
    start: int
    end: int


Citation = CharLocation | PageLocation | BlockLocation | SearchResultLocation
