"""Drives a live server through langchain-anthropic and prints what it read, as one JSON object.

Usage: python drive.py BASE_URL KEY MODEL [structured | pictures FILE URL FILE_ID], with the interpreter of the
environment beside this file. Of a model that nobody has scripted these ask for structured output alone, or show it a
PNG in every way: as a file, at its URL, and uploaded.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from typing import Any, Literal

import anthropic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

base_url, key, model, *rest = sys.argv[1:]


def chat(**fields: Any) -> ChatAnthropic:
    """The model, as code for it makes one."""
    settings = {"model": model, "base_url": base_url, "api_key": key, "max_tokens": 400, "max_retries": 0}
    return ChatAnthropic(**{**settings, **fields})


def report(city: str) -> str:
    """The weather of a city."""
    return f"rain in {len(city)} letters"


weather = tool("weather")(report)


class Answer(BaseModel):
    """What is known of a city."""

    city: Literal['Köln "am" Rhein 😀', "Rom"]
    trams: int
    warm: bool


def seen(message: BaseMessage) -> dict[str, Any]:
    """What a message says and cost, in the words that the drivers have in common."""
    assert isinstance(message, AIMessage)
    assert message.usage_metadata
    details = message.usage_metadata.get("input_token_details", {})
    return {
        "text": message.text,
        "stop": message.response_metadata.get("stop_reason"),
        "model": message.response_metadata.get("model_name"),
        "calls": [[call["name"], call["args"]] for call in message.tool_calls],
        "input": message.usage_metadata["input_tokens"],
        "output": message.usage_metadata["output_tokens"],
        "cache_read": details.get("cache_read", 0),
        # langchain-anthropic counts what was written by its lifetime.
        "cache_written": details.get("cache_creation", 0) + details.get("ephemeral_5m_input_tokens", 0),
    }


def cited(message: BaseMessage) -> list[list[Any]]:
    """Each block's text, and the passages that it cites."""
    blocks: Any = message.content
    return [
        [block["text"], [citation["cited_text"] for citation in block.get("citations") or ()]]
        for block in blocks
    ]


def whole(chunks: list[Any]) -> Any:
    """Chunks of a stream summed up, as users do it."""
    message = chunks[0]
    for chunk in chunks[1:]:
        message += chunk
    return message


def error_of(call: Callable[[], object]) -> dict[str, Any]:
    """Status and sentence of the error behind a call."""
    try:
        call()
    except anthropic.APIStatusError as refusal:
        return {"status": refusal.status_code, "message": str(refusal)}
    return {}


def tool_loop(*, streams: bool) -> list[dict[str, Any]]:
    """A call, and the answer to its result."""
    llm = chat(temperature=0).bind_tools([weather])
    messages: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("Is it raining?")]
    turns = []
    for _ in range(2):
        reply = whole(list(llm.stream(messages))) if streams else llm.invoke(messages)
        turns.append(seen(reply))
        called = [(call["id"], weather.invoke(call["args"])) for call in reply.tool_calls]
        messages += [reply, *(ToolMessage(result, tool_call_id=call_id) for call_id, result in called)]
    return turns


async def leave_a_story() -> str:
    """The first words of a stream that is then left."""
    stream: Any = chat(max_tokens=8000).astream("Tell a long story")
    async for chunk in stream:
        if chunk.text:
            await stream.aclose()
            return str(chunk.text)
    return ""


async def at_once() -> list[str]:
    """Several replies of the asynchronous client at the same time."""
    return [reply.text for reply in await chat().abatch([f"Hi {number}" for number in range(8)])]


def structured() -> list[dict[str, Any]]:
    """By way of a forced call, and as JSON."""
    ways = [
        chat().with_structured_output(Answer),
        chat().with_structured_output(Answer, method="json_schema"),
    ]
    return [way.invoke("Answer in JSON" if way is ways[1] else "Hi").model_dump() for way in ways]


def pictures(path: str, url: str, file_id: str) -> dict[str, Any]:
    """One picture in every way."""
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode()
    image = {"type": "image", "base64": data, "mime_type": "image/png"}
    ways: Any = {
        "inline": image,
        "by_url": {"type": "image", "url": url},
        "by_id": {"type": "image", "file_id": file_id},
    }
    question = {"type": "text", "text": "What is it?"}
    shown: Any = {name: [HumanMessage([way, question])] for name, way in ways.items()}
    short = chat(max_tokens=24)

    def in_a_result(num_images: int) -> dict[str, Any]:
        call = AIMessage("", tool_calls=[{"name": "camera", "args": {}, "id": "toolu_1"}])
        result = ToolMessage([image] * num_images, tool_call_id="toolu_1")
        return seen(short.invoke([HumanMessage("Look"), call, result]))

    return {
        **{name: seen(short.invoke(messages)) for name, messages in shown.items()},
        "streamed": seen(whole(list(short.stream(shown["inline"])))),
        "two": seen(short.invoke([HumanMessage([image, image, question])])),
        "results": [in_a_result(1), in_a_result(2)],
        "counted": chat().get_num_tokens_from_messages(shown["by_url"]),
    }


def everything() -> dict[str, Any]:
    """One use after the other."""
    mark = {"type": "ephemeral"}
    cached: list[BaseMessage] = [
        SystemMessage([{"type": "text", "text": "Be brief. " * 40, "cache_control": mark}]),
        HumanMessage([{"type": "text", "text": "Hi", "cache_control": {**mark, "ttl": "5m"}}]),
    ]
    turns = [
        SystemMessage("Be brief."),
        HumanMessage("Hi"),
        AIMessage("Hello, world!"),
        HumanMessage("Again"),
    ]
    sky = {
        "type": "document",
        "source": {
            "type": "text",
            "media_type": "text/plain",
            "data": "Jupiter is the largest planet. It has 95 known moons. 😀 Saturn's rings are made of ice.",
        },
        "title": "Sky",
        "citations": {"enabled": True},
    }
    moons = [HumanMessage([sky, {"type": "text", "text": "Moons?"}])]
    image = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    return {
        "whole": seen(chat(temperature=0.5, top_p=0.9, stop=["###"]).invoke("Hi")),
        "streamed": seen(whole(list(chat().stream("Hi")))),
        "turns": seen(chat().invoke(turns)),
        "loop": tool_loop(streams=False),
        "streamed_loop": tool_loop(streams=True),
        "forced": seen(chat().bind_tools([weather], tool_choice="weather").invoke("Hi")),
        "structured": structured(),
        "cached": [seen(chat().invoke(cached)) for _ in range(2)],
        "cited": [cited(chat().invoke(moons)), cited(whole(list(chat().stream(moons))))],
        "cut_short": seen(chat(max_tokens=5).invoke("Hi")),
        "stopped": seen(chat(stop=[","]).invoke("Hi")),
        "counted": chat().get_num_tokens_from_messages(turns),
        "retried": seen(chat(max_retries=2).invoke("Good morning")),
        "left": asyncio.run(leave_a_story()),
        "at_once": asyncio.run(at_once()),
        "errors": {
            "overloaded": error_of(lambda: chat().invoke("Good morning, all")),
            "bad_key": error_of(lambda: chat(api_key="sk-wrong").invoke("Hi")),
            "not_found": error_of(lambda: chat(model="claude-foo").invoke("Hi")),
            "too_many": error_of(lambda: chat(max_tokens=9000).invoke("Hi")),
            "thinking": error_of(lambda: chat(thinking=thinking).invoke("Hi")),
            "image": error_of(lambda: chat().invoke([HumanMessage(["See", image])])),
        },
    }


def drive() -> dict[str, Any]:
    """What was asked for."""
    match rest:
        case ["structured"]:
            return {"structured": structured()}
        case ["pictures", *shown]:
            return pictures(*shown)
        case _:
            return everything()


print(json.dumps(drive()))
