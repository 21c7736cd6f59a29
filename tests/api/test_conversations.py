"""What is accepted, and how it reaches the model: merging, prefill, system prompts, nulls, both versions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig, Compatibility
from tests.api.conftest import client_of, services_of
from tests.api.test_body_errors import GOOD, HI, MARK, assistant, system_turn, text, user
from tests.fakes import FakeEngine

SYSTEM_LINE = "system: Be brief.\n"


async def prompt_of(client: httpx.AsyncClient, engine: FakeEngine, changes: dict[str, Any]) -> str:
    """The prompt the engine was given, as the fake codec wrote it."""
    response = await client.post("/v1/messages", json=GOOD | changes)
    assert response.status_code == 200, response.text
    return bytes(engine.requests[-1].prompt).decode()


@pytest.mark.parametrize(
    ("changes", "prompt"),
    [
        ({}, "user: Hi\n"),
        (user([text("Hi"), text("there")]), "user: Hi there\n"),
        ({"messages": [HI, HI]}, "user: Hi Hi\n"),
        ({"messages": [HI, *user("")["messages"]]}, "user: Hi\n"),
        ({"messages": [HI, {"role": "assistant", "content": "It"}]}, "user: Hi\nassistant: It\n"),
        ({"messages": [HI, {"role": "assistant", "content": ""}]}, "user: Hi\n"),
        (assistant(""), "user: Hi\nassistant: \nuser: Hi\n"),
        (
            assistant([{"type": "thinking", "thinking": "hm", "signature": "s"}, text("Yes")]),
            "user: Hi\nassistant: Yes\nuser: Hi\n",
        ),
        (
            {"messages": [*user([text("")])["messages"], {"role": "assistant", "content": "A"}, HI]},
            "user: \nassistant: A\nuser: Hi\n",
        ),
        ({"system": "Be brief."}, SYSTEM_LINE + "user: Hi\n"),
        ({"system": ""}, "user: Hi\n"),
        (system_turn("Be brief."), "user: Hi <system>\nBe brief.\n</system>\n"),
        (
            {
                "messages": [
                    *system_turn([text("A", cache_control=MARK), text("B")])["messages"],
                    *assistant("Yes")["messages"][1:],
                ]
            },
            "user: Hi <system>\nA\n</system> <system>\nB\n</system>\nassistant: Yes\nuser: Hi\n",
        ),
        ({"system": [text("Be brief.", cache_control=MARK)]}, SYSTEM_LINE + "user: Hi\n"),
        (
            {"system": [text("x-anthropic-billing-header: cc_version=2; cch=1f;"), text("Be brief.")]},
            SYSTEM_LINE + "user: Hi\n",
        ),
        ({"system": "x-anthropic-billing-header: cch=1f;\nBe brief."}, SYSTEM_LINE + "user: Hi\n"),
        ({"system": [text("Be brief.", citations=None, cache_control=None)]}, SYSTEM_LINE + "user: Hi\n"),
        (
            {
                "metadata": None,
                "inference_geo": None,
                "stop_sequences": None,
                "cache_control": None,
                "container": None,
            },
            "user: Hi\n",
        ),
        ({"tools": [], "tool_choice": {"type": "auto"}, "thinking": {"type": "disabled"}}, "user: Hi\n"),
        (
            {"tool_choice": {"type": "none"}, "service_tier": "standard_only", "output_config": {}},
            "user: Hi\n",
        ),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, "user: Hi\n"),
        ({"metadata": {"user_id": "u-1"}}, "user: Hi\n"),
    ],
)
async def test_the_model_is_shown(
    client: httpx.AsyncClient, engine: FakeEngine, changes: dict[str, Any], prompt: str
) -> None:
    assert await prompt_of(client, engine, changes) == prompt


async def test_sampling_parameters_reach_the_engine(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    await prompt_of(client, engine, {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_tokens": 7})
    request = engine.requests[-1]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 40)
    assert request.max_new_tokens == 7
    await prompt_of(client, engine, {"top_k": -1})
    assert engine.requests[-1].sampling.top_k == 0


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
@pytest.mark.parametrize(
    ("version", "compatibility", "status"),
    [
        ("2023-01-01", Compatibility.HOSTED, 200),
        ("2023-06-01", Compatibility.HOSTED, 200),
        ("2026-10-21", Compatibility.FRIENDLY, 200),
        ("2026-10-21", Compatibility.HOSTED, 400),
    ],
)
async def test_sampling_parameters_by_version(
    engine: FakeEngine, name: str, version: str, compatibility: Compatibility, status: int
) -> None:
    async with client_of(services_of(engine), ApiConfig(compatibility=compatibility)) as client:
        headers = {"anthropic-version": version}
        response = await client.post("/v1/messages", json=GOOD | {name: 1}, headers=headers)
    assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["message"] == f"`{name}` is deprecated for this model."


async def test_a_system_turn_keeps_its_place(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    """What came before it is read as before, so that a cached prefix stays one."""
    before = await prompt_of(client, engine, {"system": "Be brief."})
    after = await prompt_of(client, engine, {"system": "Be brief."} | system_turn("Be long."))
    assert after.startswith(before.rstrip("\n"))


async def test_the_hosted_service_refuses_system_turns(engine: FakeEngine) -> None:
    async with client_of(services_of(engine), ApiConfig(compatibility=Compatibility.HOSTED)) as client:
        response = await client.post("/v1/messages", json=GOOD | system_turn("Be brief."))
    assert response.json()["error"]["message"] == (
        'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
        'not "system" as an input message role.'
    )


async def test_count_tokens(client: httpx.AsyncClient) -> None:
    body = {"model": GOOD["model"], "messages": [HI], "system": "Be brief."}
    response = await client.post("/v1/messages/count_tokens?beta=true", json=body)
    assert response.json() == {"input_tokens": len(SYSTEM_LINE + "user: Hi\n")}


async def test_count_tokens_of_a_prompt_beyond_the_window(client: httpx.AsyncClient) -> None:
    body = {"model": GOOD["model"], **user("x" * 5000)}
    response = await client.post("/v1/messages/count_tokens", json=body)
    assert response.json() == {"input_tokens": 5000 + len("user: \n")}
