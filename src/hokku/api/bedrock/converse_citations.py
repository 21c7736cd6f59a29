"""Citations as Converse writes them: those of a reply, and the same sent back in a later turn (wire.md 14.2, 16.4)."""

from __future__ import annotations

from typing import Any

from hokku.api.bedrock.converse_attachments import texts
from hokku.api.bedrock.converse_fields import (
    a_structure,
    a_text,
    a_union,
    a_whole_number,
    joined,
    needed,
    not_served,
)
from hokku.protocol.citations import (
    BlockLocation,
    CharLocation,
    Citation,
    PageLocation,
    SearchResultLocation,
)

_DOCUMENT_LOCATIONS: dict[type, str] = {
    CharLocation: "documentChar",
    PageLocation: "documentPage",
    BlockLocation: "documentChunk",
}
# The same in the model's own body: a location's type, and the names of its ends.
_MODEL_LOCATIONS = {
    "documentChar": ("char_location", "start_char_index", "end_char_index"),
    "documentPage": ("page_location", "start_page_number", "end_page_number"),
    "documentChunk": ("content_block_location", "start_block_index", "end_block_index"),
    "searchResultLocation": ("search_result_location", "start_block_index", "end_block_index"),
}


def citation_object(citation: Citation) -> dict[str, Any]:
    """A passage that a reply rests on, and where it stands."""
    passage = [{"text": citation.cited_text}]
    ends = {"start": citation.start, "end": citation.end}
    if isinstance(citation, SearchResultLocation):
        location = {"searchResultLocation": {"searchResultIndex": citation.search_result_index, **ends}}
        named = {"title": citation.title, "source": citation.source}
        return {**named, "sourceContent": passage, "location": location}
    location = {_DOCUMENT_LOCATIONS[type(citation)]: {"documentIndex": citation.document_index, **ends}}
    title = {} if citation.document_title is None else {"title": citation.document_title}
    return {**title, "sourceContent": passage, "location": location}


def read_citation(value: object, path: str) -> dict[str, Any]:
    """A citation that is sent back, as the model's own body has it."""
    citation = a_structure(value, path, ("title", "source", "sourceContent", "location"))
    title, source = (
        a_text(citation[name], joined(path, name)) if name in citation else None
        for name in ("title", "source")
    )
    passages = texts(citation.get("sourceContent", []), joined(path, "sourceContent"))
    place = joined(path, "location")
    kind, location = a_union(needed(citation, "location", path), place, ("web", *_MODEL_LOCATIONS))
    if kind == "web":
        not_served(joined(place, kind), "citations of the web")
    located = _located(kind, location, joined(place, kind))
    named = (
        {"title": title, "source": source or ""}
        if kind == "searchResultLocation"
        else {"document_title": title}
    )
    return {**located, **named, "cited_text": "".join(passages)}


def _located(kind: str, value: object, path: str) -> dict[str, Any]:
    of_results = kind == "searchResultLocation"
    index = "searchResultIndex" if of_results else "documentIndex"
    location = a_structure(value, path, (index, "start", "end"))
    numbers = (
        a_whole_number(needed(location, name, path), joined(path, name), least=0)
        for name in (index, "start", "end")
    )
    model_type, *ends = _MODEL_LOCATIONS[kind]
    names = ("search_result_index" if of_results else "document_index", *ends)
    return {"type": model_type, **dict(zip(names, numbers, strict=True))}
