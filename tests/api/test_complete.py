"""The legacy `/v1/complete`: prompts as conversations, replies in its own form."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hokku.api.anthropic.complete_body import turns_of
from hokku.api.config import ApiConfig, Compatibility
from hokku.protocol.errors import InvalidRequest
from tests.api.conftest import client_of, services_of
from tests.api.test_replies import read_events
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, says

GOOD = {"model": ALIAS, "prompt": "\n\nHuman: Hi\n\nAssistant:", "max_tokens_to_sample": 100}


async def complete(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    response = await client.post("/v1/complete", json=GOOD | changes)
    assert response.status_code == 200, response.text
    completion: dict[str, Any] = response.json()
    return completion


async def test_a_whole_completion(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says("Hello")
    completion = await complete(client)
    assert completion.pop("id").startswith("compl_01")
    assert completion == {
        "type": "completion",
        "completion": "Hello",
        "stop_reason": "stop_sequence",
        "model": MODEL_ID,
    }


async def test_the_human_s_next_turn_is_a_stop_sequence(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = says("Hello\n\nHuman: and you?")
    completion = await complete(client)
    assert (completion["completion"], completion["stop_reason"]) == ("Hello", "stop_sequence")


async def test_the_limit_is_a_reason(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([65] * 50)
    completion = await complete(client, max_tokens_to_sample=5)
    assert (completion["completion"], completion["stop_reason"]) == ("AAAAA", "max_tokens")


async def test_a_stream_gives_the_same_text(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says("Hello there")
    response = await client.post("/v1/complete", json=GOOD | {"stream": True})
    events = [event for event in read_events(response.text) if event["type"] != "ping"]
    assert {event["type"] for event in events} == {"completion"}
    assert "".join(event["completion"] for event in events) == "Hello there"
    assert [event["stop_reason"] for event in events[-2:]] == [None, "stop_sequence"]
    assert len({event["id"] for event in events}) == 1


def test_turns() -> None:
    turns = turns_of("\n\nHuman: One\n\nAssistant: Two\n\nHuman: Three\n\nHuman: Four\n\nAssistant: It is")
    assert [(turn.role, turn.parts[0].text) for turn in turns] == [  # type: ignore[union-attr]
        ("user", "One"),
        ("assistant", "Two"),
        ("user", "Three\n\nFour"),
        ("assistant", "It is"),
    ]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Hi", 'prompt must start with "\\n\\nHuman:" turn'),
        ("Human: Hi\n\nAssistant:", 'prompt must start with "\\n\\nHuman:" turn'),
        ("\n\nHuman: Hi", 'prompt must end with "\\n\\nAssistant:" turn'),
        ("\n\nHuman:\n\nAssistant:", "every turn but the last must have text"),
    ],
)
def test_prompts_that_are_no_conversation(prompt: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        turns_of(prompt)
    assert refusal.value.message == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, "prompt: Input should be a valid string"),
        ({"max_tokens_to_sample": 0}, "max_tokens_to_sample: must be greater than or equal to 1"),
        ({"max_tokens_to_sample": 10**6}, "max_tokens_to_sample: 1000000 > "),
        ({"temperature": 2}, "temperature: range: 0..1"),
        ({"stream": 1}, "stream: Input should be a valid boolean"),
        ({"messages": []}, "messages: Extra inputs are not permitted"),
    ],
)
async def test_bad_bodies(client: httpx.AsyncClient, changes: dict[str, Any], message: str) -> None:
    response = await client.post("/v1/complete", json=GOOD | changes)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


async def test_hosted_compatibility_refuses_the_model_as_the_hosted_service_does(engine: FakeEngine) -> None:
    config = ApiConfig(compatibility=Compatibility.HOSTED)
    async with client_of(services_of(engine), config) as client:
        response = await client.post("/v1/complete", json=GOOD)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        f'"{MODEL_ID}" is not supported on this API. Please use the Messages API instead.'
    )
