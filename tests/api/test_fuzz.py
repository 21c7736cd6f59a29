"""Whatever a body holds, the answer is a reply or a named error, never a 500."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.api.anthropic.dialect import Dialect
from hokku.api.anthropic.messages_body import parse_count_body, parse_messages_body
from hokku.api.body import parse_object
from hokku.api.config import Compatibility
from hokku.protocol.errors import InvalidRequest
from tests.api.conftest import client_of, services_of
from tests.documents.pdfs import pdf
from tests.documents.pictures import picture
from tests.fakes import ALIAS, FakeEngine

DIALECT = Dialect("2026-10-21", frozenset(), Compatibility.FRIENDLY)

names = st.sampled_from(
    [
        "type",
        "text",
        "role",
        "content",
        "cache_control",
        "ttl",
        "citations",
        "thinking",
        "name",
        "format",
        "source",
        "media_type",
        "data",
        "url",
        "file_id",
        "enabled",
        "x",
    ]
)
words = st.sampled_from(
    [
        "user",
        "assistant",
        "text",
        "image",
        "document",
        "search_result",
        "thinking",
        "ephemeral",
        "5m",
        "1h",
        "auto",
        "tool",
        "enabled",
        "",
        " ",
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
    | st.text(max_size=5)
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=5,
)
BLOCK_FIELDS = [
    "text",
    "cache_control",
    "citations",
    "id",
    "name",
    "input",
    "tool_use_id",
    "content",
    "is_error",
]
other_blocks = st.fixed_dictionaries(
    {"type": words | json_values}, optional=dict.fromkeys(BLOCK_FIELDS, words | json_values)
)
FILES = [b"", b"%PDF-1.4", pdf(["text"]), pdf(["text"])[:200], b"GIF89a", picture(), picture()[:50]]
file_data = st.sampled_from([base64.b64encode(file).decode() for file in FILES] + ["=", "AAAA\n"])
# No network is asked for these, and no name looked up.
urls = st.sampled_from(["", "x", "https://127.0.0.1/", "https://[", "http://a.example/", "file:///x"])
sources: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.sampled_from(["base64", "text", "content", "url", "file"]) | json_values},
    optional={
        "media_type": st.sampled_from(["application/pdf", "text/plain", "image/png", "image/gif"])
        | json_values,
        "data": file_data | json_values,
        "url": urls,
        "file_id": words | json_values,
        "content": st.deferred(lambda: st.lists(blocks, max_size=3)) | json_values,
    },
)
attachments: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.sampled_from(["document", "image", "search_result"])},
    optional={
        "source": sources | json_values,
        "title": words | json_values,
        "context": words | json_values,
        "content": st.deferred(lambda: st.lists(blocks, max_size=3)) | json_values,
        "citations": st.fixed_dictionaries({"enabled": st.booleans()}) | json_values,
        "transformations": st.fixed_dictionaries(
            {"oversized_image": st.sampled_from(["downsize", "error", "x"])}
        )
        | json_values,
        "cache_control": st.just({"type": "ephemeral"}) | json_values,
    },
)
blocks: st.SearchStrategy[Any] = other_blocks | attachments


def _as_object(schema: Any) -> Any:
    return {"type": "object", **schema} if isinstance(schema, dict) else schema


SCHEMA_WORDS = [
    "type",
    "properties",
    "items",
    "anyOf",
    "$ref",
    "$defs",
    "enum",
    "required",
    "pattern",
    "maxLength",
]
schemas = st.recursive(
    json_values, lambda inner: st.dictionaries(st.sampled_from(SCHEMA_WORDS), inner, max_size=4), max_leaves=8
)
tools = st.fixed_dictionaries(
    {"name": words | json_values, "input_schema": schemas.map(_as_object) | json_values},
    optional=dict.fromkeys(["type", "description", "strict", "cache_control", "x"], json_values),
)
items = st.fixed_dictionaries(
    {"role": words | json_values, "content": words | st.lists(blocks, max_size=3) | json_values},
    optional={"x": json_values},
)
FIELDS = [
    "tool_choice",
    "tools",
    "system",
    "thinking",
    "output_config",
    "cache_control",
    "metadata",
    "stop_sequences",
    "temperature",
    "service_tier",
    "top_k",
    "top_p",
    "stream",
    "container",
    "inference_geo",
    "x",
]
bodies = st.fixed_dictionaries(
    {
        "model": st.just(ALIAS) | json_values,
        "messages": st.lists(items, max_size=4) | json_values,
        "max_tokens": st.integers(-1, 9000) | json_values,
    },
    optional={**dict.fromkeys(FIELDS, json_values), "tools": st.lists(tools, max_size=3) | json_values},
)


@given(bodies)
@settings(max_examples=150, deadline=None)
def test_parsers_refuse_by_name_or_accept(body: dict[str, Any]) -> None:
    for parse in (lambda: parse_messages_body(body, DIALECT), lambda: parse_count_body(body, DIALECT)):
        with suppress(InvalidRequest):  # anything else would be a 500
            parse()


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f'{{"a": "{text}"}}'.encode()))
@settings(max_examples=300, deadline=None)
def test_bytes_are_an_object_or_refused(body: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(parse_object(body), dict)


whole_attachments = st.fixed_dictionaries(
    {
        "model": st.just(ALIAS),
        "max_tokens": st.just(5),
        "messages": st.lists(attachments, min_size=1, max_size=3).map(
            lambda content: [{"role": "user", "content": content}]
        ),
    }
)


@given(whole_attachments)
@settings(max_examples=400, deadline=None)
def test_attachments_are_refused_by_name_or_accepted(body: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        parse_messages_body(body, DIALECT)


@given(bodies | whole_attachments)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_server_never_answers_500(engine: FakeEngine, body: dict[str, Any]) -> None:
    async with client_of(services_of(engine)) as client:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            response = await client.post(path, json=body)
            assert response.status_code in (200, 400, 404)
            assert response.headers["request-id"]
