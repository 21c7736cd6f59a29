"""One conversation with the default model on every wire, whole and streamed: the same prompt, the same tokens, the same
usage, and one ledger that shows them all."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig, Services
from hokku.api.http import create_app
from hokku.blobs.directory import Directory
from hokku.opening import OpenedModel
from hokku.protocol.engine import Engine, EngineStats, EventSink, GenerationRequest, RequestHandle
from hokku.protocol.records import UsageQuery, UsageSum
from hokku.quotas.buckets import LocalBuckets
from hokku.service.administration import Administration
from hokku.service.batches import Batches
from hokku.service.booking import BookedReplies
from hokku.service.draining import Drain
from hokku.service.files import Files
from hokku.service.keys import KeyRing, hash_key
from hokku.service.ledger import Ledger
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.rate_limits import RateLimits
from hokku.service.readiness import Readiness
from hokku.service.reports import Reports
from hokku.storage.storage import Storage
from tests.api.bedrock.conftest import frames
from tests.house.conftest import KEY

pytestmark = pytest.mark.model

Json = dict[str, Any]
MODEL = "claude-3-5-haiku-20241022"
SYSTEM = "You are a weather reporter. Be brief."
QUESTION, PROMISE, RESULT, FOLLOW_UP = (
    "Is it raining in Rome?",
    "I will look.",
    "Rain, 12 degrees.",
    "And warm?",
)
NAME, DESCRIPTION, CALL_ID, ARGUMENTS = "weather", "The weather of a city.", "toolu_1", {"city": "Rome"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STOP = "THE END"


@dataclass(frozen=True)
class Talk:
    """What is asked for, whatever the wire: an answer in words, or a call."""

    is_forced: bool
    max_tokens: int


TALKS = {"words": Talk(False, 24), "a call": Talk(True, 64)}


@dataclass(frozen=True)
class Heard:
    """What a reply says and cost, in no wire's words."""

    text: str
    calls: tuple[str, ...]
    stop: str
    num_prompt_tokens: int
    num_output_tokens: int


def messages_body(talk: Talk) -> Json:
    """The conversation in the blocks of Messages."""
    result = {"type": "tool_result", "tool_use_id": CALL_ID, "content": RESULT}
    call = {"type": "tool_use", "id": CALL_ID, "name": NAME, "input": ARGUMENTS}
    return {
        "max_tokens": talk.max_tokens,
        "system": SYSTEM,
        "stop_sequences": [STOP],
        "tools": [{"name": NAME, "description": DESCRIPTION, "input_schema": SCHEMA}],
        "tool_choice": {"type": "any" if talk.is_forced else "auto"},
        "messages": [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": [{"type": "text", "text": PROMISE}, call]},
            {"role": "user", "content": [result, {"type": "text", "text": FOLLOW_UP}]},
        ],
    }


def converse_body(talk: Talk) -> Json:
    """The conversation in the blocks of Converse."""
    call = {"toolUseId": CALL_ID, "name": NAME, "input": ARGUMENTS}
    result = {"toolUseId": CALL_ID, "content": [{"text": RESULT}]}
    tool = {"name": NAME, "description": DESCRIPTION, "inputSchema": {"json": SCHEMA}}
    return {
        "system": [{"text": SYSTEM}],
        "inferenceConfig": {"maxTokens": talk.max_tokens, "stopSequences": [STOP]},
        "toolConfig": {
            "tools": [{"toolSpec": tool}],
            "toolChoice": {"any" if talk.is_forced else "auto": {}},
        },
        "messages": [
            {"role": "user", "content": [{"text": QUESTION}]},
            {"role": "assistant", "content": [{"text": PROMISE}, {"toolUse": call}]},
            {"role": "user", "content": [{"toolResult": result}, {"text": FOLLOW_UP}]},
        ],
    }


def chat_body(talk: Talk) -> Json:
    """The conversation as a chat."""
    call = {"id": CALL_ID, "type": "function", "function": {"name": NAME, "arguments": json.dumps(ARGUMENTS)}}
    tool = {"name": NAME, "description": DESCRIPTION, "parameters": SCHEMA}
    return {
        "model": MODEL,
        "max_completion_tokens": talk.max_tokens,
        "stop": [STOP],
        "tools": [{"type": "function", "function": tool}],
        "tool_choice": "required" if talk.is_forced else "auto",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": PROMISE, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": CALL_ID, "content": RESULT},
            {"role": "user", "content": FOLLOW_UP},
        ],
    }


def heard_message(message: Json) -> Heard:
    """A message object."""
    blocks = message["content"]
    return Heard(
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        tuple(json.dumps(block["input"]) for block in blocks if block["type"] == "tool_use"),
        message["stop_reason"],
        message["usage"]["input_tokens"],
        message["usage"]["output_tokens"],
    )


def heard_events(events: list[Json]) -> Heard:
    """The events of a message."""
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    calls = _joined(
        (event["index"], event["delta"]["partial_json"])
        for event in events
        if event["type"] == "content_block_delta" and "partial_json" in event["delta"]
    )
    end = next(event for event in events if event["type"] == "message_delta")
    return Heard(
        "".join(delta.get("text", "") for delta in deltas),
        calls,
        end["delta"]["stop_reason"],
        end["usage"]["input_tokens"],
        end["usage"]["output_tokens"],
    )


def heard_sse(response: httpx.Response) -> Heard:
    """Server-sent events of a message."""
    return heard_events(_data_of(response))


def heard_invoke_stream(response: httpx.Response) -> Heard:
    """Frames with events of a message inside."""
    return heard_events(
        [json.loads(base64.b64decode(payload["bytes"])) for _, payload in frames(response.content)]
    )


def heard_converse(told: Json) -> Heard:
    """A whole answer of Converse."""
    content = told["output"]["message"]["content"]
    return Heard(
        "".join(block.get("text", "") for block in content),
        tuple(json.dumps(block["toolUse"]["input"]) for block in content if "toolUse" in block),
        told["stopReason"],
        told["usage"]["inputTokens"],
        told["usage"]["outputTokens"],
    )


def heard_converse_stream(response: httpx.Response) -> Heard:
    """Frames of ConverseStream."""
    events = [(headers[":event-type"], payload) for headers, payload in frames(response.content)]
    deltas = [payload for name, payload in events if name == "contentBlockDelta"]
    pieces = [
        (each["contentBlockIndex"], each["delta"]["toolUse"]["input"])
        for each in deltas
        if "toolUse" in each["delta"]
    ]
    told = {name: payload for name, payload in events if name in ("messageStop", "metadata")}
    usage = told["metadata"]["usage"]
    return Heard(
        "".join(each["delta"].get("text", "") for each in deltas),
        _joined(pieces),
        told["messageStop"]["stopReason"],
        usage["inputTokens"],
        usage["outputTokens"],
    )


CHAT_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def heard_chat(told: Json) -> Heard:
    """A whole chat completion."""
    choice = told["choices"][0]
    return Heard(
        choice["message"]["content"] or "",
        tuple(
            json.dumps(json.loads(call["function"]["arguments"]))
            for call in choice["message"].get("tool_calls") or ()
        ),
        CHAT_STOPS[choice["finish_reason"]],
        told["usage"]["prompt_tokens"],
        told["usage"]["completion_tokens"],
    )


def heard_chunks(response: httpx.Response) -> Heard:
    """The chunks of a chat completion, the last with its usage."""
    chunks = _data_of(response)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    pieces = [
        (call["index"], call["function"].get("arguments", ""))
        for choice in choices
        for call in choice["delta"].get("tool_calls") or ()
    ]
    usage = chunks[-1]["usage"]
    return Heard(
        "".join(choice["delta"].get("content") or "" for choice in choices),
        _joined(pieces),
        CHAT_STOPS[next(choice["finish_reason"] for choice in choices if choice["finish_reason"])],
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )


def _data_of(response: httpx.Response) -> list[Json]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def _joined(pieces: Any) -> tuple[str, ...]:
    """The inputs of calls out of their pieces, written in one way."""
    inputs: dict[int, str] = {}
    for index, piece in pieces:
        inputs[index] = inputs.get(index, "") + piece
    return tuple(json.dumps(json.loads(text)) for text in inputs.values())


@dataclass(frozen=True)
class Way:
    """A wire's endpoint."""

    path: str
    body: Callable[[Talk], Json]
    heard: Callable[[httpx.Response], Heard]
    id_header: str = "request-id"


def messages(**more: Any) -> Callable[[Talk], Json]:
    return lambda talk: messages_body(talk) | more


def chat(**more: Any) -> Callable[[Talk], Json]:
    return lambda talk: chat_body(talk) | more


def whole(heard: Callable[[Json], Heard]) -> Callable[[httpx.Response], Heard]:
    return lambda response: heard(response.json())


GOOGLE = "/v1/projects/any/locations/global/publishers/anthropic/models/claude-3-5-haiku@20241022"
AMAZON = "/model/us.anthropic.claude-3-5-haiku-20241022-v1:0"
AMAZON_ID = "x-amzn-requestid"
VERTEX_VERSION, BEDROCK_VERSION = "vertex-2023-10-16", "bedrock-2023-05-31"
WAYS = {
    "anthropic": Way("/v1/messages", messages(model=MODEL), whole(heard_message)),
    "anthropic, streamed": Way("/v1/messages", messages(model=MODEL, stream=True), heard_sse),
    "vertex": Way(f"{GOOGLE}:rawPredict", messages(anthropic_version=VERTEX_VERSION), whole(heard_message)),
    "vertex, streamed": Way(
        f"{GOOGLE}:streamRawPredict", messages(anthropic_version=VERTEX_VERSION, stream=True), heard_sse
    ),
    "invoke": Way(
        f"{AMAZON}/invoke", messages(anthropic_version=BEDROCK_VERSION), whole(heard_message), AMAZON_ID
    ),
    "invoke, streamed": Way(
        f"{AMAZON}/invoke-with-response-stream",
        messages(anthropic_version=BEDROCK_VERSION),
        heard_invoke_stream,
        AMAZON_ID,
    ),
    "converse": Way(f"{AMAZON}/converse", converse_body, whole(heard_converse), AMAZON_ID),
    "converse, streamed": Way(f"{AMAZON}/converse-stream", converse_body, heard_converse_stream, AMAZON_ID),
    "openai": Way("/v1/chat/completions", chat(), whole(heard_chat)),
    "openai, streamed": Way(
        "/v1/chat/completions", chat(stream=True, stream_options={"include_usage": True}), heard_chunks
    ),
}


class Overheard:
    """The engine, and what it is asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.requests: list[GenerationRequest] = []

    @property
    def context_window_tokens(self) -> int:
        return self._engine.context_window_tokens

    def submit(self, request: GenerationRequest, sink: EventSink) -> RequestHandle:
        self.requests.append(request)
        return self._engine.submit(request, sink)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def close(self) -> None:
        self._engine.close()


@dataclass(frozen=True)
class House:
    """The default model behind limits and a ledger."""

    services: Services
    engine: Overheard
    storage: Storage
    ledger: Ledger

    def sums(self) -> list[UsageSum]:
        """What the ledger says of today and of what may already be tomorrow, by model."""
        assert self.ledger.flush(30)
        day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        query = UsageQuery(day - timedelta(days=1), day + timedelta(days=2), group_by=("model",))
        return self.storage.ledger.usage(query)


@pytest.fixture
def house(opened: OpenedModel, tmp_path: Path) -> Iterator[House]:
    engine = Overheard(opened.served.engine)
    manifest = opened.served.manifest
    catalogue = Catalogue([manifest], {})
    catalogue.put(replace(opened.served, engine=engine))
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    ledger = Ledger(storage)
    booked = BookedReplies(MessagesService(catalogue), ledger, catalogue.manifest)
    limited = LimitedReplies(booked, RateLimits(storage, LocalBuckets(), "org"), catalogue.manifest)
    services = Services(
        limited,
        catalogue,
        KeyRing([hash_key(KEY)]),
        Reports(storage),
        Administration(storage),
        Batches(storage, Directory(tmp_path / "batches")),
        Readiness(catalogue, Drain()),
        Files(storage, Directory(tmp_path / "files")),
        book=ledger.book,
    )
    yield House(services, engine, storage, ledger)
    ledger.close()
    storage.close()


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    headers = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
    }
    transport = httpx.ASGITransport(create_app(house.services, ApiConfig()))
    async with httpx.AsyncClient(transport=transport, base_url="http://hokku", headers=headers) as client:
        yield client


@pytest.mark.parametrize("name", TALKS)
async def test_one_conversation_is_the_same_on_every_wire(
    house: House, client: httpx.AsyncClient, name: str
) -> None:
    talk = TALKS[name]
    heard: dict[str, Heard] = {}
    ids = set()
    for way in WAYS:
        response = await client.post(WAYS[way].path, json=WAYS[way].body(talk), timeout=120)
        assert response.status_code == 200, (way, response.text)
        heard[way] = WAYS[way].heard(response)
        ids.add(response.headers[WAYS[way].id_header])
    first = heard["anthropic"]
    assert heard == dict.fromkeys(WAYS, first)
    assert (len(first.calls) == 1) == talk.is_forced
    assert 0 < first.num_output_tokens <= talk.max_tokens

    asked = house.engine.requests
    assert len(asked) == len(WAYS)
    assert {(tuple(each.prompt), each.sampling, each.max_new_tokens) for each in asked} == {
        (tuple(asked[0].prompt), asked[0].sampling, talk.max_tokens)
    }
    assert first.num_prompt_tokens == len(asked[0].prompt)

    [sums] = house.sums()
    assert (sums.group["model"], sums.num_requests) == (MODEL, len(WAYS))
    assert len(ids) == len(WAYS)
    assert sums.tokens["input"] == len(WAYS) * first.num_prompt_tokens
    assert sums.tokens["output"] == len(WAYS) * first.num_output_tokens
