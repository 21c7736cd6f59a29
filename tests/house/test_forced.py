"""Forced calls and structured output of the default model validate, every time, at temperature 1.

By default each schema of the corpus is asked for once; `make schemas` asks a thousand times. The prompts are numbered,
and the seed comes from the prompt: each is another draw, and the same one in every run.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hokku.models.packing import PackedModel
from hokku.opening import OpenedModel
from hokku.protocol.engine import GenerationRequest, Sampling
from hokku.protocol.events import Reply, ToolUseBlock, fold
from hokku.protocol.messages import (
    Conversation,
    MessagesRequest,
    SamplingParameters,
    TextPart,
    Tool,
    ToolChoice,
    Turn,
)
from hokku.service.keys import Identity
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from tests.house.engines import collect_all, open_engine
from tests.house.schema_corpus import CORPUS

NUM_REPLIES = int(os.environ.get("HOKKU_TEST_REPLIES", len(CORPUS)))
pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(60 + 3 * NUM_REPLIES)]


def service_of(opened: OpenedModel) -> MessagesService:
    catalogue = Catalogue([opened.served.manifest], {})
    catalogue.put(opened.served)
    return MessagesService(catalogue)


def asked(name: str, *, as_call: bool, number: int = 1) -> Conversation:
    turns = (Turn("user", (TextPart(f"Example {number}, please: {name}"),)),)
    if not as_call:
        return Conversation((), turns, output_schema=CORPUS[name])
    tools = (Tool("other", "", {"type": "object"}), Tool("record", f"Records: {name}", CORPUS[name]))
    return Conversation((), turns, tools, ToolChoice("tool", "record", is_parallel=False))


def value_of(reply: Reply) -> Any:
    (block,) = reply.content
    if isinstance(block, ToolUseBlock):
        assert (block.name, reply.stop_reason) == ("record", "tool_use")
        return block.input
    assert reply.stop_reason == "end_turn"
    return json.loads(block.text)


async def test_forced_calls_and_structured_output_validate(opened: OpenedModel) -> None:
    service = service_of(opened)
    slots = asyncio.Semaphore(16)
    names = list(CORPUS)

    async def check(number: int) -> str | None:
        name = names[number % len(names)]
        as_call = (number + number // len(names)) % 2 == 0
        request = MessagesRequest(
            opened.served.id,
            asked(name, as_call=as_call, number=number),
            max_tokens=1500,
            sampling=SamplingParameters(),
        )
        async with slots:
            stream = await service.reply(request, Identity())
            reply = fold(await stream.all_events())
        try:
            value = value_of(reply)
            validator = Draft202012Validator(CORPUS[name], format_checker=Draft202012Validator.FORMAT_CHECKER)
            validator.validate(value)
        except Exception as error:
            return f"{name}: {error!r:.300}: {reply.content!r:.300}"
        return None

    failures = await asyncio.gather(*map(check, range(NUM_REPLIES)))
    assert [failure for failure in failures if failure] == []


async def test_the_same_request_gives_the_same_call(opened: OpenedModel) -> None:
    service = service_of(opened)
    requests = [
        MessagesRequest(opened.served.id, asked(name, as_call=True), 200, sampling=SamplingParameters())
        for name in ("person", "search", "customer")
    ]

    async def read(request: MessagesRequest) -> Reply:
        return fold(await (await service.reply(request, Identity())).all_events())

    def inputs(reply: Reply) -> list[tuple[object, ...]]:
        return [(block.name, block.input) for block in reply.content if isinstance(block, ToolUseBlock)]

    alone = [inputs(await read(request)) for request in requests]
    together = await asyncio.gather(*map(read, requests * 2))
    assert [inputs(reply) for reply in together] == alone * 2


def test_drafts_change_no_token_of_a_reply_that_may_call(
    opened: OpenedModel, default_packed: PackedModel
) -> None:
    codec = opened.served.codec
    text = "Repeat this list five times: apple, pear, plum, cherry, <tool, fig, apple, pear, plum, cherry."
    said = replace(
        asked("person", as_call=True), turns=(Turn("user", (TextPart(text),)),), tool_choice=ToolChoice()
    )
    encoded = codec.encode(said)
    prompt = encoded.token_ids

    def requests() -> list[GenerationRequest]:
        return [
            GenerationRequest(
                prompt,
                120,
                Sampling(temperature=temperature, seed=5),
                encoded.stop_token_ids,
                constraint=codec.constraint(said, prefill=encoded.prefill),
            )
            for temperature in (0.0, 1.0)
        ]

    with open_engine(default_packed) as engine:
        plain = collect_all(engine, requests())
    with open_engine(default_packed, max_speculative_rows=16) as engine:
        drafted = collect_all(engine, requests())
        assert engine.stats().num_accepted > 0
    assert drafted == plain
