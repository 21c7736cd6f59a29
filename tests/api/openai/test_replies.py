"""Replies of both endpoints, whole and in chunks; and what goes wrong on the way."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig, Compatibility, Services
from hokku.api.openai.envelope import in_this_form
from hokku.api.openai.objects import FINISH_REASONS, finish_reason
from hokku.api.openai.rate_headers import duration, rate_headers
from hokku.chat.formats.plain import PLAIN
from hokku.protocol.errors import EngineFailed, InvalidRequest, Overloaded
from hokku.protocol.messages import ToolUsePart
from hokku.protocol.records import LedgerEntry, Level, LimitRule, RateLevels
from hokku.quotas.buckets import LocalBuckets
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.rate_limits import RateLimits
from hokku.storage.storage import Storage
from tests.api.conftest import KEY, services_of
from tests.api.openai.conftest import openai_client
from tests.fakes import ALIAS, END_OF_TURN, MODEL_ID, FakeEngine, Script, says

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO: dict[str, Any] = {"model": ALIAS, "messages": [{"role": "user", "content": "Hi"}]}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("weather", "clock")]
CALLED: tuple[tuple[str, dict[str, Any]], ...] = (("weather", {"city": 'Köln "am" Rhein'}), ("clock", {}))
WITH_TOOLS = HELLO | {"tools": TOOLS}


def spelled(*calls: tuple[str, dict[str, Any]]) -> str:
    return PLAIN.syntax.spell([ToolUsePart("", name, arguments) for name, arguments in calls])


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """What a stream's events say, which ends as it should."""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = response.text.split("\n\n")
    assert frames.pop() == ""
    assert frames.pop() == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames if not frame.startswith(":")]


async def streamed(client: httpx.AsyncClient, body: dict[str, Any], path: str = CHAT) -> list[dict[str, Any]]:
    response = await client.post(path, json=body | {"stream": True})
    assert response.status_code == 200, response.text
    return chunks(response)


async def whole(client: httpx.AsyncClient, body: dict[str, Any], path: str = CHAT) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def summed(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that deltas describe."""
    message: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    for delta in (part["choices"][0]["delta"] for part in parts if part["choices"]):
        for name, value in delta.items():
            if name == "tool_calls":
                (call,) = value
                if call["index"] == len(calls):
                    calls.append({"id": call["id"], "type": call["type"], "function": dict(call["function"])})
                else:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
            elif name == "function_call":
                made = message.setdefault(name, {"name": value.get("name"), "arguments": ""})
                made["arguments"] += value["arguments"]
            elif name == "content":
                message[name] = message.get(name, "") + value
            else:
                message[name] = value
    return message | ({"tool_calls": calls} if calls else {})


def parsed_calls(message: dict[str, Any]) -> list[tuple[str, Any]]:
    functions = [call["function"] for call in message["tool_calls"]]
    return [(function["name"], json.loads(function["arguments"])) for function in functions]


async def test_a_whole_chat(chats: httpx.AsyncClient) -> None:
    response = await chats.post(CHAT, json=HELLO)
    answer = response.json()
    assert answer.pop("id").startswith("chatcmpl-01")
    assert abs(answer.pop("created") - time.time()) < 60
    num_tokens = len("user: Hi\n"), len("Hello, world!") + 1
    assert answer == {
        "object": "chat.completion",
        "model": MODEL_ID,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, world!", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": num_tokens[0],
            "completion_tokens": num_tokens[1],
            "total_tokens": sum(num_tokens),
        },
    }
    assert response.headers["x-request-id"] == response.headers["request-id"]
    assert response.headers["openai-version"] == "2020-10-01"
    assert response.headers["openai-processing-ms"] == ""


async def test_chunks_sum_up_to_the_whole(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says('Grüße, "世界" 😀\n\u2028')
    answer = await whole(chats, HELLO)
    parts = await streamed(chats, HELLO | {"stream_options": {"include_usage": True}})
    message = answer["choices"][0]["message"]
    assert summed(parts) == message
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [part["usage"] for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1]["usage"] == answer["usage"]
    assert parts[-1]["choices"] == []
    reasons = [part["choices"][0]["finish_reason"] for part in parts[:-1]]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert {(part["object"], part["model"]) for part in parts} == {("chat.completion.chunk", MODEL_ID)}
    assert len({(part["id"], part["created"]) for part in parts}) == 1


async def test_usage_is_told_to_those_only_who_ask(chats: httpx.AsyncClient) -> None:
    parts = await streamed(chats, HELLO)
    assert all("usage" not in part for part in parts)
    assert all(part["choices"] for part in parts)


async def test_calls(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says("I look.\n" + spelled(*CALLED))
    answer = await whole(chats, WITH_TOOLS)
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "I look.")
    assert parsed_calls(choice["message"]) == list(CALLED)
    assert all(call["id"].startswith("call_01") for call in choice["message"]["tool_calls"])
    parts = await streamed(chats, WITH_TOOLS)
    message = summed(parts)
    assert message["content"] == "I look."
    assert parsed_calls(message) == list(CALLED)
    assert parts[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_call_that_is_cut_off(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    said = spelled(("weather", {"city": "Rome", "day": "Monday"}))
    engine.script = says(said)
    body = WITH_TOOLS | {"max_tokens": said.index("Mon")}
    (choice,) = (await whole(chats, body))["choices"]
    assert choice["finish_reason"] == "length"
    assert parsed_calls(choice["message"]) == [("weather", {"city": "Rome"})]
    parts = await streamed(chats, body)
    (call,) = summed(parts)["tool_calls"]
    assert call["function"]["arguments"].startswith('{"city": "Rome", "day"')
    assert parts[-1]["choices"][0]["finish_reason"] == "length"


async def test_calls_without_a_word(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says(spelled(*CALLED))
    message = (await whole(chats, WITH_TOOLS))["choices"][0]["message"]
    assert message["content"] is None
    assert parsed_calls(message) == list(CALLED)


async def test_a_call_of_the_older_form(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says(spelled(CALLED[0]))
    body = HELLO | {"functions": [{"name": "weather"}]}
    (choice,) = (await whole(chats, body))["choices"]
    assert choice["finish_reason"] == "function_call"
    assert json.loads(choice["message"]["function_call"]["arguments"]) == CALLED[0][1]
    parts = await streamed(chats, body)
    assert summed(parts)["function_call"]["name"] == "weather"
    assert json.loads(summed(parts)["function_call"]["arguments"]) == CALLED[0][1]
    assert parts[-1]["choices"][0]["finish_reason"] == "function_call"


async def test_calls_are_answered(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says(spelled(CALLED[0]))
    message = (await whole(chats, WITH_TOOLS))["choices"][0]["message"]
    engine.script = says("Warm.")
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "21 °C"}
    await whole(chats, WITH_TOOLS | {"messages": [*HELLO["messages"], message, result]})
    assert "21 °C" in bytes(engine.requests[-1].prompt).decode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"max_tokens": 3}, "length"), ({"max_completion_tokens": 3}, "length"), ({"stop": "w"}, "stop")],
)
async def test_how_replies_end(chats: httpx.AsyncClient, changes: dict[str, Any], reason: str) -> None:
    (choice,) = (await whole(chats, HELLO | changes))["choices"]
    assert choice["finish_reason"] == reason
    assert "Hello, world!".startswith(choice["message"]["content"])
    assert choice["message"]["content"] != "Hello, world!"


def test_every_ending_has_a_word() -> None:
    assert set(FINISH_REASONS.values()) == {"stop", "length", "tool_calls", "content_filter"}
    assert finish_reason("refusal", uses_functions=True) == "content_filter"


async def test_without_a_limit_a_reply_ends_at_the_model_s_or_the_window(engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([65] * 10_000)
    async with openai_client(services_of(engine)) as client:
        answer = await whole(client, HELLO)
    assert answer["usage"]["total_tokens"] == engine.context_window_tokens
    assert answer["choices"][0]["finish_reason"] == "length"
    assert engine.requests[-1].max_new_tokens == 8192


async def test_sampling_reaches_the_engine(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    for seed in (1, 2, 1):
        await whole(chats, HELLO | {"temperature": 1.9, "top_p": 0.4, "seed": seed})
    drawn = [request.sampling for request in engine.requests]
    assert [(each.temperature, each.top_p) for each in drawn] == [(1.9, 0.4)] * 3
    assert drawn[0] == drawn[2] != drawn[1]


async def test_a_text_is_continued(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says(" upon a time")
    body = {"model": ALIAS, "prompt": "Once", "max_tokens": 50}
    answer = await whole(chats, body, TEXT)
    assert bytes(engine.requests[-1].prompt) == b"Once"
    assert answer.pop("id").startswith("cmpl-01")
    assert answer.pop("created")
    usage = {"prompt_tokens": 4, "completion_tokens": 13, "total_tokens": 17}
    choice = {"text": " upon a time", "index": 0, "logprobs": None, "finish_reason": "stop"}
    assert answer == {"object": "text_completion", "model": MODEL_ID, "choices": [choice], "usage": usage}
    asked = body | {"stream_options": {"include_usage": True}, "prompt": ["Once"]}
    parts = await streamed(chats, asked, TEXT)
    assert "".join(part["choices"][0]["text"] for part in parts[:-1]) == " upon a time"
    assert parts[-2]["choices"][0]["finish_reason"] == "stop"
    assert parts[-1]["usage"] == usage


async def test_a_gap_is_filled(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    await whole(chats, {"model": ALIAS, "prompt": "def f(", "suffix": "):\n    pass"}, TEXT)
    assert bytes(engine.requests[-1].prompt) == b"def f(?):\n    pass"
    assert engine.requests[-1].max_new_tokens == 16
    await whole(chats, {"model": ALIAS, "prompt": "def f(", "suffix": ""}, TEXT)
    assert bytes(engine.requests[-1].prompt) == b"def f("


async def test_an_echo(chats: httpx.AsyncClient) -> None:
    body = {"model": ALIAS, "prompt": "Say: ", "echo": True}
    assert (await whole(chats, body, TEXT))["choices"][0]["text"] == "Say: Hello, world!"
    parts = await streamed(chats, body, TEXT)
    assert "".join(part["choices"][0]["text"] for part in parts) == "Say: Hello, world!"
    only = await whole(chats, body | {"max_tokens": 0}, TEXT)
    assert only["choices"][0] == {"text": "Say: ", "index": 0, "logprobs": None, "finish_reason": "length"}
    parts = await streamed(chats, body | {"max_tokens": 0}, TEXT)
    assert "".join(part["choices"][0]["text"] for part in parts) == "Say: "


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"suffix": 7}, "suffix"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 9_000}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 0}, "logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"echo": "yes"}, "echo"),
        ({"messages": []}, "messages"),
    ],
)
async def test_texts_are_refused_by_name(
    chats: httpx.AsyncClient, changes: dict[str, Any], param: str
) -> None:
    response = await chats.post(TEXT, json={"model": ALIAS, "prompt": "Once"} | changes)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_the_vendor_s_layer_has_chats_only(engine: FakeEngine) -> None:
    config = ApiConfig(compatibility=Compatibility.HOSTED)
    async with openai_client(services_of(engine), config) as client:
        assert (await client.post(TEXT, json={"model": ALIAS, "prompt": "Once"})).status_code == 404
        assert (await whole(client, HELLO | {"seed": 1, "logprobs": True}))["choices"]


@pytest.mark.parametrize(
    ("call", "status", "error"),
    [
        (
            {"json": HELLO | {"model": "claude-foo"}},
            404,
            {"type": "not_found_error", "param": "model", "code": "model_not_found"},
        ),
        (
            {"json": HELLO | {"n": 2}},
            400,
            {"type": "invalid_request_error", "param": "n", "code": None},
        ),
        (
            {"json": HELLO | {"max_tokens": 9_000}},
            400,
            {"type": "invalid_request_error", "param": "max_tokens", "code": None},
        ),
        (
            {"json": HELLO | {"max_completion_tokens": 9_000}},
            400,
            {"type": "invalid_request_error", "param": "max_completion_tokens", "code": None},
        ),
        (
            {"json": HELLO | {"messages": [{"role": "user", "content": "x" * 2_000}]}},
            400,
            {"type": "invalid_request_error", "param": None, "code": "context_length_exceeded"},
        ),
        (
            {"json": HELLO, "headers": {"authorization": "Bearer wrong"}},
            401,
            {"type": "authentication_error", "param": None, "code": "invalid_api_key"},
        ),
        (
            {"json": HELLO, "headers": {"authorization": "Basic x"}},
            401,
            {"type": "authentication_error", "param": None, "code": "invalid_api_key"},
        ),
        (
            {"content": b"{", "headers": {"content-type": "application/json"}},
            400,
            {"type": "invalid_request_error", "param": None, "code": None},
        ),
        (
            {"content": b"x", "headers": {"content-type": "application/json", "content-encoding": "br"}},
            400,
            {"type": "invalid_request_error", "param": None, "code": "request_body_encoding_unsupported"},
        ),
        (
            {"json": HELLO, "headers": {"hokku-fallback": "all"}},
            400,
            {"type": "invalid_request_error", "param": "hokku-fallback", "code": None},
        ),
    ],
)
async def test_errors(
    chats: httpx.AsyncClient, call: dict[str, Any], status: int, error: dict[str, Any]
) -> None:
    response = await chats.post(CHAT, **call)
    assert response.status_code == status
    body = response.json()
    message = body["error"].pop("message")
    assert body == {"error": error, "request_id": response.headers["x-request-id"]}
    if error["param"]:
        assert message.startswith(f"{error['param']}: ")


async def test_too_large_a_body(engine: FakeEngine) -> None:
    async with openai_client(services_of(engine), ApiConfig(max_body_bytes=100)) as client:
        response = await client.post(CHAT, json=HELLO | {"user": "x" * 100})
    assert (response.status_code, response.json()["error"]["type"]) == (413, "request_too_large")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", CHAT, 405), ("POST", "/v1/chat/x", 404)])
async def test_unknown_paths_are_answered_in_this_form(
    chats: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await chats.request(method, path)
    assert response.status_code == status
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_a_key_may_come_as_on_messages(chats: httpx.AsyncClient) -> None:
    response = await chats.post(CHAT, json=HELLO, headers={"authorization": "", "x-api-key": KEY})
    assert response.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_failure_before_the_first_event(
    chats: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    engine.script = lambda _request: Script([], Overloaded("Overloaded"), error_after=-1)
    response = await chats.post(CHAT, json=HELLO | {"stream": stream})
    assert (response.status_code, response.headers["retry-after"]) == (529, "1")
    assert response.headers["x-should-retry"] == "true"
    assert response.json()["error"]["type"] == "overloaded_error"


async def test_failure_mid_stream(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([*b"Hello", END_OF_TURN], EngineFailed("broke"), 2)
    response = await chats.post(CHAT, json=HELLO | {"stream": True})
    assert response.status_code == 200
    *_, last, rest = response.text.split("\n\n")
    assert rest == ""
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["type"], error["message"]) == ("api_error", "Internal server error")
    assert "[DONE]" not in response.text


async def test_silence_is_kept_alive(engine: FakeEngine) -> None:
    engine.step_secs = 0.03
    async with openai_client(services_of(engine), ApiConfig(ping_interval_secs=0.001)) as client:
        response = await client.post(CHAT, json=HELLO | {"stream": True})
    assert ": keep-alive\n\n" in response.text
    assert summed(chunks(response))["content"] == "Hello, world!"


@pytest.mark.parametrize(
    ("theirs", "ours", "older"),
    [
        ("output_config.format.schema", "response_format.json_schema.schema", "response_format.json_schema.schema"),
        ("tools.3.custom.input_schema.x", "tools[3].function.parameters.x", "functions[3].parameters.x"),
        ("max_tokens", "max_completion_tokens", "max_completion_tokens"),
        ("messages[0].content", "messages[0].content", "messages[0].content"),
    ],
)  # fmt: skip
def test_what_a_service_refuses_is_named_in_this_form(theirs: str, ours: str, older: str) -> None:
    for has_functions, expected in ((False, ours), (True, older)):
        with (
            pytest.raises(InvalidRequest) as refusal,
            in_this_form("max_completion_tokens", has_functions=has_functions),
        ):
            raise InvalidRequest("too complex", place=theirs)
        assert refusal.value.place == expected


async def test_both_forms_of_models(chats: httpx.AsyncClient, engine: FakeEngine) -> None:
    listed = (await chats.get("/v1/models")).json()
    one = await chats.get(f"/v1/models/{ALIAS}")
    assert (listed["object"], listed["data"]) == ("list", [one.json()])
    assert one.json()["id"] == MODEL_ID
    assert (one.json()["object"], one.json()["type"], one.json()["owned_by"]) == ("model", "model", "hokku")
    assert one.json()["created"] == int(datetime(2024, 10, 22, tzinfo=UTC).timestamp())
    assert one.headers["x-request-id"] == one.headers["request-id"]
    vendors = await chats.get("/v1/models", headers={"anthropic-version": "2023-06-01"})
    assert "object" not in vendors.json()
    assert vendors.json()["data"][0].items() <= listed["data"][0].items()
    assert "x-request-id" not in vendors.headers
    refused = await chats.get("/v1/models", headers={"authorization": "Bearer wrong"})
    assert refused.status_code == 401


@pytest.fixture
async def limited(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    storage.limits.put(LimitRule(None, None, 2, 100_000, 50_000))
    services = services_of(engine)
    limits = RateLimits(storage, LocalBuckets(), "org")
    replies = LimitedReplies(MessagesService(services.catalogue), limits, services.catalogue.manifest)
    async with openai_client(replace(services, messages=replies)) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True])
async def test_levels_are_told(limited: httpx.AsyncClient, stream: bool) -> None:
    body = HELLO | {"stream": stream, "max_tokens": 5}
    for remaining in ("1", "0"):
        response = await limited.post(CHAT, json=body)
        assert response.headers["x-ratelimit-limit-requests"] == "2"
        assert response.headers["x-ratelimit-remaining-requests"] == remaining
        assert response.headers["x-ratelimit-limit-tokens"] == "50000"
        assert response.headers["x-ratelimit-reset-requests"].endswith("s")
    refused = await limited.post(CHAT, json=body)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["retry-after"]


@pytest.mark.parametrize(
    ("secs", "shown"), [(-5, "0s"), (0.1, "1s"), (59, "59s"), (59.5, "1m0s"), (150.5, "2m31s")]
)
def test_when_a_bucket_is_full_again(secs: float, shown: str) -> None:
    assert duration(secs) == shown


def test_what_has_no_limit_is_not_spoken_of() -> None:
    level = Level(10, 5, datetime.now(UTC))
    told = rate_headers(RateLevels(requests=level, input_tokens=None, output_tokens=None))
    assert told.keys() == {f"x-ratelimit-{field}-requests" for field in ("limit", "remaining", "reset")}
    assert rate_headers(None) == {}


async def test_what_is_refused_is_a_row(engine: FakeEngine) -> None:
    booked: list[LedgerEntry] = []
    services: Services = replace(services_of(engine), book=booked.append)
    async with openai_client(services) as client:
        for path in (CHAT, TEXT):
            response = await client.post(path, json={"model": ALIAS, "bogus": 1})
            assert booked[-1].request_id == response.headers["request-id"]
            assert booked[-1].outcome == "errored"
    assert len(booked) == 2
