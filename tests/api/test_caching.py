"""Prompt caching over the wire: breakpoints, what usage says of them, what cannot be combined (wire.md section 6)."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hokku.registry.registry import Registry
from tests.api.conftest import client_of, services_of
from tests.documents.pdfs import pdf
from tests.fakes import ALIAS, FakeEngine

SHORT: dict[str, Any] = {"type": "ephemeral"}
LONG: dict[str, Any] = {"type": "ephemeral", "ttl": "1h"}
WORDS = "a prompt that is well beyond the shortest which is kept"  # with "user: " 61 bytes, a token each
NO_CACHE = {
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
}


def text(words: str, mark: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": mark}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def body_of(*messages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"model": ALIAS, "max_tokens": 20, "messages": list(messages)} | changes


async def usage_of(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == 200, response.text
    usage: dict[str, Any] = response.json()["usage"]
    return usage


async def counts_of(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, int, int, int]:
    """Tokens read, written for an hour, written for five minutes, and not cached."""
    usage = await usage_of(client, body)
    written = usage["cache_creation"]
    assert usage["cache_creation_input_tokens"] == sum(written.values())
    return (
        usage["cache_read_input_tokens"],
        written["ephemeral_1h_input_tokens"],
        written["ephemeral_5m_input_tokens"],
        usage["input_tokens"],
    )


async def refusal_of(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == 400
    message: str = response.json()["error"]["message"]
    return message


async def test_a_second_request_reads_what_the_first_wrote(client: httpx.AsyncClient) -> None:
    body = body_of(user(text(WORDS, SHORT)))
    assert await counts_of(client, body) == (0, 0, 61, 1)
    assert await counts_of(client, body) == (61, 0, 0, 1)


async def test_without_marks_nothing_is_said_to_be_cached(client: httpx.AsyncClient) -> None:
    body = body_of(user(text(WORDS)))
    await usage_of(client, body)
    usage = await usage_of(client, body)
    assert {name: usage[name] for name in NO_CACHE} == NO_CACHE


async def test_usage_is_split_by_lifetime(client: httpx.AsyncClient) -> None:
    body = body_of(user(text(WORDS, LONG), text("more", SHORT), text("rest")))
    assert await counts_of(client, body) == (0, 61, 5, 6)
    other = body_of(user(text(WORDS, LONG), text("else", SHORT), text("rest")))
    assert await counts_of(client, other) == (61, 0, 5, 6)


async def test_a_growing_conversation_reads_what_its_last_request_wrote(client: httpx.AsyncClient) -> None:
    said = {"role": "assistant", "content": "Yes."}
    first = body_of(user(text(WORDS)), cache_control=SHORT)
    assert await counts_of(client, first) == (0, 0, 61, 1)
    second = body_of(user(text(WORDS)), said, user(text("And then?")), cache_control=SHORT)
    written = len("\nassistant: Yes.\nuser: And then?")
    assert await counts_of(client, second) == (61, 0, written, 1)
    assert await counts_of(client, second) == (61 + written, 0, 0, 1)


async def test_an_entry_is_looked_for_twenty_blocks_back(client: httpx.AsyncClient) -> None:
    await usage_of(client, body_of(user(text(WORDS, SHORT))))
    for num_others, num_read in ((18, 61), (19, 0)):
        others = [text(f"{num_others}.{number}") for number in range(num_others)]
        found, *_ = await counts_of(client, body_of(user(text(WORDS), *others, text("last", SHORT))))
        assert found == num_read


async def test_a_breakpoint_before_the_minimum_keeps_nothing(client: httpx.AsyncClient) -> None:
    body = body_of(user(text("too short", SHORT), text(WORDS)))
    for _ in range(2):
        usage = await usage_of(client, body)
        assert {name: usage[name] for name in NO_CACHE} == NO_CACHE


async def test_every_kind_of_block_may_be_marked(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    call = {"type": "tool_use", "id": "t1", "name": "look", "input": {}, "cache_control": SHORT}
    inside = {"type": "tool_result", "tool_use_id": "t1", "content": [text("a cat", SHORT)]}
    tools = [{"name": "look", "input_schema": {"type": "object"}, "cache_control": LONG}]
    await usage_of(
        client,
        body_of(
            user(text(WORDS)),
            {"role": "assistant", "content": [call]},
            user(inside),
            system=[text("A system prompt, also of some length.", LONG)],
            tools=tools,
        ),
    )
    [request] = engine.requests
    lifetimes = [point.lifetime_secs for point in request.cache_points]
    assert [secs for secs in lifetimes if secs] == [3600, 300, 300]


def document(source: dict[str, Any], mark: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "document", "source": source, "cache_control": mark}


def found(words: str, mark: dict[str, Any] | None, inner: dict[str, Any] | None = None) -> dict[str, Any]:
    content = [text(words, inner), text("more")]
    return {"type": "search_result", "source": "s", "title": "t", "content": content, "cache_control": mark}


PLAIN = {"type": "text", "media_type": "text/plain", "data": WORDS}
PAGES = {
    "type": "base64",
    "media_type": "application/pdf",
    "data": base64.b64encode(pdf([WORDS, WORDS])).decode(),
}
BLOCKS = {"type": "content", "content": [text("a", SHORT), text(WORDS)]}
UNMARKED_BLOCKS = {"type": "content", "content": [text("a"), text(WORDS)]}


@pytest.mark.parametrize(
    ("marked", "unmarked"),
    [
        (document(PLAIN, SHORT), document(PLAIN)),
        (document(PAGES, SHORT), document(PAGES)),
        (document(BLOCKS), document(UNMARKED_BLOCKS)),  # a mark inside counts on the whole
        (found(WORDS, SHORT), found(WORDS, None)),
        (found(WORDS, None, SHORT), found(WORDS, None)),
    ],
)
async def test_documents_and_search_results_are_kept(
    client: httpx.AsyncClient, marked: dict[str, Any], unmarked: dict[str, Any]
) -> None:
    num_tokens = await usage_of(client, body_of(user(unmarked)))
    kept = num_tokens["input_tokens"] - len("\n")
    body = body_of(user(marked, text("And?")))
    assert await counts_of(client, body) == (0, 0, kept, len(" And?\n"))
    assert await counts_of(client, body) == (kept, 0, 0, len(" And?\n"))
    other = body_of(user(marked, text("Or else?")))
    assert await counts_of(client, other) == (kept, 0, 0, len(" Or else?\n"))


async def test_a_mark_on_a_document_in_a_result_counts_on_the_result(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    call = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    inside = {"type": "tool_result", "tool_use_id": "t1", "content": [document(PLAIN, LONG), text("so")]}
    await usage_of(client, body_of(user(text("Hi")), {"role": "assistant", "content": [call]}, user(inside)))
    *others, last = [point.lifetime_secs for point in engine.requests[-1].cache_points]
    assert (set(others), last) == ({None}, 3600)


async def test_streams_say_it_first_and_last(client: httpx.AsyncClient) -> None:
    body = body_of(user(text(WORDS, SHORT), text("rest")))
    whole = await usage_of(client, body)
    for expected in ({**whole, "cache_read_input_tokens": 61}, None):
        response = await client.post("/v1/messages", json=body | {"stream": True})
        frames = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
        started, ended = frames[0]["message"]["usage"], frames[-2]["usage"]
        assert started == ended | {"output_tokens": 1}
        if expected:
            assert started["cache_read_input_tokens"] == 61
            assert started["cache_creation_input_tokens"] == 0
            assert started["input_tokens"] == whole["input_tokens"]


async def test_another_workspace_never_reads_it(engine: FakeEngine) -> None:
    services = services_of(engine)
    body = body_of(user(text(WORDS, SHORT)))
    async with client_of(services) as client:
        await usage_of(client, body)
        assert (await counts_of(client, body))[0] == 61
    assert engine._read_cache(replace(engine.requests[-1], cache_scope="other")) == 0


async def test_a_prompt_is_warmed_without_a_reply(client: httpx.AsyncClient) -> None:
    body = body_of(user(text(WORDS, SHORT)), max_tokens=0)
    response = (await client.post("/v1/messages", json=body)).json()
    assert (response["content"], response["stop_reason"]) == ([], "max_tokens")
    assert response["usage"]["output_tokens"] == 0
    assert response["usage"]["cache_creation_input_tokens"] == 61
    assert await counts_of(client, body | {"max_tokens": 5}) == (61, 0, 0, 1)


async def test_the_automatic_mark_is_on_the_last_block(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    await usage_of(
        client, body_of(user(text(WORDS), text("b", SHORT)), cache_control=SHORT)
    )  # the same: no other
    await usage_of(client, body_of(user(text(WORDS, LONG), text("b")), cache_control=SHORT))
    await usage_of(client, body_of(user(text(WORDS)), cache_control=LONG))
    marks = [
        [point.lifetime_secs for point in request.cache_points if point.lifetime_secs]
        for request in engine.requests
    ]
    assert marks == [[300], [3600, 300], [3600]]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            body_of(user(text(WORDS, LONG)), cache_control=SHORT),
            "cache_control.ttl: the last block has a cache_control with another ttl",
        ),
        (
            body_of(user(*[text(WORDS, SHORT)] * 4, text("rest")), cache_control=SHORT),
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            body_of(user(text(WORDS, SHORT), text("rest")), cache_control=LONG),
            "cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.",
        ),
        (
            body_of(user(text(WORDS)), max_tokens=0, stream=True),
            "max_tokens: 0 cannot be combined with `stream`",
        ),
        (
            body_of(
                user(text(WORDS)),
                max_tokens=0,
                tools=[{"name": "look", "input_schema": {"type": "object"}}],
                tool_choice={"type": "any"},
            ),
            "max_tokens: 0 cannot be combined with `tool_choice.any`",
        ),
        (
            body_of(
                user(text(WORDS)),
                max_tokens=0,
                output_config={
                    "format": {
                        "type": "json_schema",
                        "schema": {"type": "object", "properties": {}, "additionalProperties": False},
                    }
                },
            ),
            "max_tokens: 0 cannot be combined with `output_config.format`",
        ),
    ],
)
async def test_what_cannot_be_combined(
    client: httpx.AsyncClient, body: dict[str, Any], complaint: str
) -> None:
    assert (await refusal_of(client, body)).startswith(complaint)


async def test_four_marks_and_the_same_automatic_one_are_four(client: httpx.AsyncClient) -> None:
    await usage_of(client, body_of(user(*[text(WORDS, SHORT)] * 4), cache_control=SHORT))


def test_the_default_minimum_is_that_of_the_hosted_model(tmp_path: Path) -> None:
    manifest = Registry.load(tmp_path).resolve_or_open("claude-3-5-haiku-latest")
    assert manifest.min_cache_tokens == 2048
