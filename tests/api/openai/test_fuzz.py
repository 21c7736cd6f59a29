"""Whatever a body of this form holds, the answer is a reply or a named error, never a 500."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.api.config import Compatibility
from hokku.api.openai.chat_body import CHAT_KEYS, HONOURED_KEYS, parse_chat_body
from hokku.api.openai.completion_body import COMPLETION_KEYS, parse_completion_body
from hokku.protocol.errors import InvalidRequest
from tests.api.conftest import services_of
from tests.api.openai.conftest import openai_client
from tests.fakes import ALIAS, FakeEngine

NAMES = [
    *("type", "text", "role", "content", "name", "url", "detail", "file", "file_id", "file_data", "filename"),
    *("image_url", "function", "arguments", "id", "tool_calls", "tool_call_id", "parameters", "strict"),
    *("schema", "json_schema", "properties", "include_usage", "refusal", "x"),
]
WORDS = [
    *(
        "user",
        "assistant",
        "system",
        "tool",
        "function",
        "text",
        "image_url",
        "file",
        "input_audio",
        "object",
    ),
    *("json_schema", "json_object", "required", "auto", "none", "call_1", "{}", '{"a": 1}', "[", "", " "),
    *("data:image/png;base64,QQ==", "data:application/pdf;base64,QQ==", "https://x.example", "data:,"),
]
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
words = st.sampled_from(WORDS) | st.text(max_size=5)
values = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=6,
)


def objects(**known: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of which each member may be what it should be, something else, or not there."""
    return st.fixed_dictionaries({}, optional={name: good | values for name, good in known.items()})


texts = st.sampled_from(["Hi", "", " ", "It is "])
functions = objects(name=st.just("weather"), arguments=st.sampled_from(["{}", "", "["]))
tool_calls = objects(id=st.sampled_from(["call_1", "call_2"]), type=st.just("function"), function=functions)
parts = objects(
    type=st.sampled_from(["text", "image_url", "file"]),
    text=texts,
    image_url=objects(url=words),
    file=objects(file_id=words, file_data=words, filename=texts),
)
messages = objects(
    role=st.sampled_from(["system", "user", "assistant", "tool", "function"]),
    content=texts | st.lists(parts, max_size=3),
    tool_calls=st.lists(tool_calls, max_size=2),
    tool_call_id=st.sampled_from(["call_1", "call_2"]),
    name=st.just("weather"),
)
tools = objects(
    type=st.just("function"),
    function=objects(name=st.just("weather"), parameters=objects(type=st.just("object"))),
)
formats = objects(
    type=st.sampled_from(["json_object", "json_schema"]),
    json_schema=objects(name=texts, schema=values),
)
chats = st.fixed_dictionaries(
    {"model": st.just(ALIAS), "messages": st.lists(messages, max_size=5)},
    optional={
        **dict.fromkeys(sorted(CHAT_KEYS - {"model", "messages"}), values),
        "tools": st.lists(tools, max_size=2),
        "response_format": formats,
    },
)
completions = st.fixed_dictionaries(
    {"model": st.just(ALIAS), "prompt": words | values},
    optional=dict.fromkeys(sorted(COMPLETION_KEYS - {"model", "prompt"}), values),
)


@pytest.mark.parametrize("compatibility", Compatibility)
@given(body=chats)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_chats_are_read_or_refused(compatibility: Compatibility, body: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        checked = parse_chat_body(body, compatibility)
        turns = checked.request.conversation.turns
        assert turns[0].role == "user"
        assert all(before.role != after.role for before, after in pairwise(turns))


@given(body=completions)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_texts_are_read_or_refused(body: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        assert parse_completion_body(body).request.conversation.is_plain


@given(field=st.sampled_from(HONOURED_KEYS), value=values)
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
async def test_no_field_is_a_failure_of_the_server(field: str, value: object) -> None:
    engine = FakeEngine()
    body = {"model": ALIAS, "messages": [{"role": "user", "content": "Hi"}], field: value}
    async with openai_client(services_of(engine)) as client:
        response = await client.post("/v1/chat/completions", json=body)
    engine.close()
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        assert response.json()["error"].keys() == {"message", "type", "param", "code"}
