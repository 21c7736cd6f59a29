"""Citations on the wire: as a reply has them, and as they come back."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.api.anthropic.citations import check_citations
from hokku.api.anthropic.messages_body import parse_count_body
from hokku.api.anthropic.sse import event_frames, message_object
from hokku.chat.messages import text_of
from hokku.protocol.citations import (
    BlockLocation,
    CharLocation,
    Citation,
    PageLocation,
    SearchResultLocation,
)
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.events import CitationDelta, Reply, TextBlock, Usage
from tests.api.conftest import HEADERS
from tests.api.test_body_errors import GOOD, assistant, call, calls, result, text, user
from tests.api.test_fuzz import DIALECT, json_values
from tests.api.test_replies import read_events
from tests.documents.pdfs import pdf
from tests.fakes import FakeEngine, says

# A citation, and the object of section 14.2 that it is on the wire.
CITED: list[tuple[Citation, dict[str, Any]]] = [
    (
        CharLocation("It rains.", 1, None, 3, 12),
        {
            "type": "char_location",
            "cited_text": "It rains.",
            "document_index": 1,
            "document_title": None,
            "file_id": None,
            "start_char_index": 3,
            "end_char_index": 12,
        },
    ),
    (
        PageLocation("It rains.", 0, "Weather", 4, 5),
        {
            "type": "page_location",
            "cited_text": "It rains.",
            "document_index": 0,
            "document_title": "Weather",
            "file_id": None,
            "start_page_number": 4,
            "end_page_number": 5,
        },
    ),
    (
        BlockLocation("It rains.", 0, "Weather", 0, 2),
        {
            "type": "content_block_location",
            "cited_text": "It rains.",
            "document_index": 0,
            "document_title": "Weather",
            "file_id": None,
            "start_block_index": 0,
            "end_block_index": 2,
        },
    ),
    (
        SearchResultLocation("It rains.", 2, "https://a.example", "Weather", 0, 1),
        {
            "type": "search_result_location",
            "cited_text": "It rains.",
            "source": "https://a.example",
            "title": "Weather",
            "search_result_index": 2,
            "start_block_index": 0,
            "end_block_index": 1,
        },
    ),
]
CHAR, PAGE, BLOCK, RESULT = [location for _, location in CITED]
WEB = {
    "type": "web_search_result_location",
    "cited_text": "It rains.",
    "url": "https://a.example",
    "title": None,
    "encrypted_index": "x",
}
TAGS = (
    "'char_location', 'content_block_location', 'page_location', 'search_result_location', "
    "'web_search_result_location'"
)


def without(location: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in location.items() if key != name}


@pytest.mark.parametrize(("citation", "location"), CITED)
def test_a_citation_is_a_delta_of_its_own(citation: Citation, location: dict[str, Any]) -> None:
    delta = {"type": "citations_delta", "citation": location}
    head, _, data = event_frames(CitationDelta(7, citation)).partition("\ndata: ")
    assert head == "event: content_block_delta"
    assert json.loads(data) == {"type": "content_block_delta", "index": 7, "delta": delta}


def test_a_block_speaks_of_citations_only_where_there_are_some() -> None:
    content = (TextBlock("Hm."), TextBlock("Rain.", tuple(citation for citation, _ in CITED)))
    plain, cited = message_object(Reply("", "", content, "end_turn", None, Usage(1, 1)))["content"]
    assert plain == {"type": "text", "text": "Hm."}
    assert cited == {"type": "text", "text": "Rain.", "citations": [location for _, location in CITED]}


def test_a_cited_reply_that_is_sent_back_reads_as_it_was_written() -> None:
    said = [text("Hm."), text(" Rain.", citations=[CHAR, PAGE, WEB]), text("\nSun."), text("More.")]
    prompt = parse_count_body(without(GOOD, "max_tokens") | assistant(said), DIALECT)
    assert text_of(prompt.conversation.turns[1].parts) == "Hm. Rain.\nSun.\n\nMore."


@pytest.mark.parametrize("location", [CHAR, without(CHAR, "file_id"), PAGE, BLOCK, RESULT, WEB])
async def test_citations_that_are_sent_back_cost_nothing(
    client: httpx.AsyncClient, location: dict[str, Any]
) -> None:
    counts = []
    for citations in ([location], [], None):
        body = without(GOOD, "max_tokens") | assistant([text("Rain.", citations=citations)])
        counts.append((await client.post("/v1/messages/count_tokens", json=body)).json())
    assert counts[0] == counts[1] == counts[2]
    assert counts[0]["input_tokens"]


@pytest.mark.parametrize(
    ("citations", "sentence"),
    [
        (7, ": Input should be a valid array"),
        ([7], ".0: Input should be an object"),
        ([{}], ".0.type: Field required"),
        (
            [{"type": "x"}],
            f".0: Input tag 'x' found using 'type' does not match any of the expected tags: {TAGS}",
        ),
        ([without(CHAR, "cited_text")], ".0.char_location.cited_text: Field required"),
        ([without(CHAR, "document_title")], ".0.char_location.document_title: Field required"),
        ([CHAR | {"document_title": 1}], ".0.char_location.document_title: Input should be a valid string"),
        (
            [CHAR | {"document_title": "x" * 501}],
            ".0.char_location.document_title: String should have at most 500 characters",
        ),
        ([CHAR | {"file_id": 1}], ".0.char_location.file_id: Input should be a valid string"),
        ([CHAR | {"source": "x"}], ".0.char_location.source: Extra inputs are not permitted"),
        ([RESULT | {"file_id": None}], ".0.search_result_location.file_id: Extra inputs are not permitted"),
        (
            [CHAR, BLOCK | {"start_block_index": -1}],
            ".1.content_block_location.start_block_index: Input should be greater than or equal to 0",
        ),
        (
            [PAGE | {"start_page_number": 0}],
            ".0.page_location.start_page_number: Input should be greater than or equal to 1",
        ),
        ([CHAR | {"end_char_index": 3}], ".0.char_location.end_char_index: Input should be greater than 3"),
        (
            [CHAR | {"end_char_index": "3"}],
            ".0.char_location.end_char_index: Input should be a valid integer",
        ),
        ([without(WEB, "url")], ".0.web_search_result_location.url: Field required"),
    ],
)
async def test_citations_that_no_reply_has(client: httpx.AsyncClient, citations: Any, sentence: str) -> None:
    body = GOOD | assistant([text("Rain.", citations=citations)])
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == f"messages.1.content.0.text.citations{sentence}"


SKY = "Jupiter is the largest planet. It has 95 known moons. 😀 Saturn's rings are made of ice."
SAID = "Well. Jupiter has 95 known moons. Bye."


def document(**fields: Any) -> dict[str, Any]:
    source = {"type": "text", "media_type": "text/plain", "data": SKY}
    return {"type": "document", "source": source, "citations": {"enabled": True}} | fields


def search_result(**fields: Any) -> dict[str, Any]:
    return {
        "type": "search_result",
        "source": "https://a.example",
        "title": "Sky",
        "content": [text("Jupiter is a planet."), text("It has 95 known moons.")],
        "citations": {"enabled": True},
    } | fields


async def test_a_cited_reply_whole_and_streamed(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says(SAID)
    body = GOOD | {"max_tokens": 100} | user([document(title="Sky"), text("Moons?")])
    reply = (await client.post("/v1/messages", json=body)).json()
    location = CHAR | {
        "cited_text": "It has 95 known moons.",
        "document_index": 0,
        "document_title": "Sky",
        "start_char_index": 31,
        "end_char_index": 53,
    }
    cited = text(" Jupiter has 95 known moons.")
    assert reply["content"] == [text("Well."), cited | {"citations": [location]}, text(" Bye.")]
    response = await client.post("/v1/messages", json=body | {"stream": True})
    events = [event for event in read_events(response.text) if event.get("index") == 1]
    assert events[0] == {"type": "content_block_start", "index": 1, "content_block": text("")}
    deltas = [event["delta"] for event in events[1:-1]]
    assert "".join(delta["text"] for delta in deltas[:-1]) == cited["text"]
    assert deltas[-1] == {"type": "citations_delta", "citation": location}


async def test_a_pdf_that_was_read_here_is_cited_by_page(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = says(SAID)
    data = base64.b64encode(
        pdf(["Jupiter is the largest planet.", "", "Hm. It has 95 known moons. Yes."])
    ).decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    body = GOOD | {"max_tokens": 100} | user([document(source=source), text("Moons?")])
    _, cited, _ = (await client.post("/v1/messages", json=body)).json()["content"]
    assert cited["citations"] == [
        PAGE
        | {
            "cited_text": "It has 95 known moons.",
            "document_title": None,
            "start_page_number": 3,
            "end_page_number": 4,
        }
    ]


async def test_search_results_in_a_result_of_a_tool_are_cited(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = says(SAID)
    body = (
        GOOD
        | {"max_tokens": 100}
        | calls([call()], result(content=[search_result(), search_result(source="b")]))
    )
    _, cited, _ = (await client.post("/v1/messages", json=body)).json()["content"]
    assert cited["citations"] == [
        RESULT
        | {
            "cited_text": "It has 95 known moons.",
            "source": "https://a.example",
            "title": "Sky",
            "search_result_index": 0,
            "start_block_index": 1,
            "end_block_index": 2,
        }
    ]


@pytest.mark.parametrize("attachment", [document(), search_result()])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_citations_and_a_schema_exclude_each_other(
    client: httpx.AsyncClient, attachment: dict[str, Any], path: str
) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    body = user([attachment, text("Moons?")]) | {
        "output_config": {"format": {"type": "json_schema", "schema": schema}}
    }
    body = (GOOD if path == "/v1/messages" else without(GOOD, "max_tokens")) | body
    response = await client.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "output_config.format: cannot be combined with citations"
    uncited = body | user([attachment | {"citations": None}, text("Moons?")])
    assert (await client.post(path, json=uncited)).status_code == 200


async def test_a_prefill_is_continued_in_the_first_block(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = says(" has 95 known moons. Bye.")
    messages = [*user([document(), text("Moons?")])["messages"], {"role": "assistant", "content": "Jupiter"}]
    reply = (await client.post("/v1/messages", json=GOOD | {"max_tokens": 100, "messages": messages})).json()
    assert [(block["text"], "citations" in block) for block in reply["content"]] == [
        (" has 95 known moons.", True),
        (" Bye.", False),
    ]


@pytest.mark.parametrize(("version", "status"), [("2023-06-01", 200), ("2026-10-21", 400)])
async def test_users_cite_in_the_old_dialect_only(
    client: httpx.AsyncClient, version: str, status: int
) -> None:
    headers = HEADERS | {"anthropic-version": version}
    asked = GOOD | user([text("Rain.", citations=[CHAR])])
    answered = await client.post("/v1/messages", json=asked, headers=headers)
    assert answered.status_code == status
    found = search_result(content=[text("Rain.", citations=[CHAR])])
    answered = await client.post("/v1/messages", json=GOOD | user([found, text("Hi")]), headers=headers)
    assert answered.status_code == status
    quiet = GOOD | user([text("Rain.", citations=[])])
    assert (await client.post("/v1/messages", json=quiet, headers=headers)).status_code == 200


@given(st.sampled_from([CHAR, PAGE, BLOCK, RESULT, WEB]), st.data())
def test_any_other_json_in_a_citation_is_refused_or_fine(
    location: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([*location, "x"]))
    changed = location | {name: data.draw(json_values)}
    with suppress(InvalidRequest):
        check_citations([changed], "citations")
