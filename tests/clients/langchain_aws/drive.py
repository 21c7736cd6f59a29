"""Drives a live server through langchain-aws and prints what it read, as one JSON object.

Usage: python drive.py CLASS BASE_URL PAIR MODEL [structured | pictures FILE …], with the interpreter of the environment
beside this file; CLASS is `ChatBedrockConverse`, or `ChatBedrock`, which asks by InvokeModel; PAIR is
ACCESS_KEY_ID:SECRET. Of a model that nobody has scripted these ask for structured output alone, or show it a PNG.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from typing import Any, Literal

import langchain_aws
from botocore.config import Config
from botocore.exceptions import ClientError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

kind, base_url, pair, model, *rest = sys.argv[1:]
access_key_id, _, secret_of_pair = pair.partition(":")
converses = kind == "ChatBedrockConverse"
SKY = "Jupiter is the largest planet. It has 95 known moons. 😀 Saturn's rings are made of ice."


def chat(attempts: int = 1, secret: str = secret_of_pair, **fields: Any) -> Any:
    """The model, as code for it makes one."""
    settings = {
        "model": model,
        "endpoint_url": base_url,
        "region_name": "us-east-1",
        "aws_access_key_id": access_key_id,
        "aws_secret_access_key": secret,
        "max_tokens": 400,
        "config": Config(retries={"mode": "standard", "total_max_attempts": attempts}),
    }
    return getattr(langchain_aws, kind)(**{**settings, **fields})


PLAIN = chat()  # once: with it come two clients of boto3, which take their time


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
    metadata = message.response_metadata
    details: Any = message.usage_metadata.get("input_token_details", {})
    read = details.get("cache_read", 0)
    # langchain-aws counts what was written by its lifetime, and all of it as input too.
    written = details.get("cache_creation", 0) + details.get("ephemeral_5m_input_tokens", 0)
    return {
        "text": message.text,
        "stop": metadata.get("stopReason") or metadata.get("stop_reason"),
        "model": None,
        "calls": [[call["name"], call["args"]] for call in message.tool_calls],
        "input": message.usage_metadata["input_tokens"] - read - written,
        "output": message.usage_metadata["output_tokens"],
        "cache_read": read,
        "cache_written": written,
    }


def passage(citation: dict[str, Any]) -> str:
    """The words that a citation cites, in Converse's form and in the vendor's."""
    return str(citation["source_content"][0]["text"] if converses else citation["cited_text"])


def cited(message: BaseMessage) -> list[list[Any]]:
    """Each block's text, and the passages that it cites."""
    blocks: Any = message.content
    return [[block["text"], list(map(passage, block.get("citations") or ()))] for block in blocks]


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
    except ClientError as refusal:
        status = refusal.response["ResponseMetadata"]["HTTPStatusCode"]
        return {"status": status, "message": refusal.response["Error"]["Message"]}
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
    """Several replies of the asynchronous methods at the same time."""
    return [reply.text for reply in await PLAIN.abatch([f"Hi {number}" for number in range(8)])]


def structured() -> list[dict[str, Any]]:
    """By way of a forced call, and, where the class can, as JSON."""
    given = [PLAIN.with_structured_output(Answer).invoke("Hi") for _ in range(2)]
    if converses:
        given.append(PLAIN.with_structured_output(Answer, method="json_schema").invoke("Answer in JSON"))
    return [answer.model_dump() for answer in given]


def pictures(path: str) -> dict[str, Any]:
    """One picture in every way; Bedrock takes their bytes only."""
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    question = {"type": "text", "text": "What is it?"}
    short = chat(max_tokens=24)
    one: Any = [HumanMessage([image, question])]
    return {
        "inline": seen(short.invoke(one)),
        "streamed": seen(whole(list(short.stream(one)))),
        "two": seen(short.invoke([HumanMessage([image, image, question])])),
    }


def everything() -> dict[str, Any]:
    """One use after the other."""
    mark: Any = {"cachePoint": {"type": "default"}}
    brief: list[Any] = [{"type": "text", "text": "Be brief. " * 40}]
    hi: list[Any] = [{"type": "text", "text": "Hi"}]
    if converses:
        brief, hi = [*brief, mark], [*hi, mark]
    else:
        for block in (*brief, *hi):
            block["cache_control"] = {"type": "ephemeral"}
    cached: list[BaseMessage] = [SystemMessage(brief), HumanMessage(hi)]
    turns = [
        SystemMessage("Be brief."),
        HumanMessage("Hi"),
        AIMessage("Hello, world!"),
        HumanMessage("Again"),
    ]
    sky: Any = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": SKY},
        "title": "Sky",
        "citations": {"enabled": True},
    }
    if converses:
        fields = {"format": "txt", "name": "Sky", "source": {"text": SKY}, "citations": {"enabled": True}}
        sky = {"document": fields}
    moons = [HumanMessage([sky, {"type": "text", "text": "Moons?"}])]
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    image = {"type": "image", "source": source}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    more: Any = {"additional_model_request_fields" if converses else "model_kwargs": thinking}
    return {
        "whole": seen(chat(temperature=0.5).invoke("Hi", stop=["###"])),
        "streamed": seen(whole(list(PLAIN.stream("Hi")))),
        "turns": seen(PLAIN.invoke(turns)),
        "loop": tool_loop(streams=False),
        "streamed_loop": tool_loop(streams=True),
        "forced": seen(PLAIN.bind_tools([weather], tool_choice="weather").invoke("Hi")),
        "structured": structured(),
        "cached": [seen(PLAIN.invoke(cached)) for _ in range(2)],
        "cited": [cited(PLAIN.invoke(moons)), cited(whole(list(PLAIN.stream(moons))))],
        "cut_short": seen(chat(max_tokens=5).invoke("Hi")),
        "stopped": seen(PLAIN.invoke("Hi", stop=[","])),
        **({"counted": PLAIN.get_num_tokens_from_messages(turns)} if converses else {}),
        "retried": seen(chat(attempts=3).invoke("Good morning")),
        "left": asyncio.run(leave_a_story()),
        "at_once": asyncio.run(at_once()),
        "errors": {
            "overloaded": error_of(lambda: PLAIN.invoke("Good morning, all")),
            "bad_key": error_of(lambda: chat(secret="sk-wrong").invoke("Hi")),
            "not_found": error_of(lambda: chat(model="anthropic.claude-foo").invoke("Hi")),
            "too_many": error_of(lambda: chat(max_tokens=9000).invoke("Hi")),
            "thinking": error_of(lambda: chat(**more).invoke("Hi")),
            "image": error_of(lambda: PLAIN.invoke([HumanMessage(["See", image])])),
        },
    }


def drive() -> dict[str, Any]:
    """What was asked for."""
    match rest:
        case ["structured"]:
            return {"structured": structured()}
        case ["pictures", path, *_]:
            return pictures(path)
        case _:
            return everything()


print(json.dumps(drive()))
