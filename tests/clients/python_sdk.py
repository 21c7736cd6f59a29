"""Drives a live server through the official Python SDK and prints what it read, as one JSON object.

Usage: python python_sdk.py CLOUD BASE_URL KEY MODEL [structured | pictures FILE URL FILE_ID], with an interpreter that
has any version of the SDK from 0.39 on. CLOUD says which of the SDK's clients is meant: `anthropic` or `vertex`. Of a
model that nobody has scripted these ask for structured output alone, or show it a PNG in every way: as a file, at its
URL, and uploaded.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import anthropic

cloud, base_url, key, name, *rest = sys.argv[1:]
Fields = dict[str, Any]
WEATHER: Fields = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ANSWER: Fields = {
    "type": "object",
    "properties": {
        "city": {"enum": ['Köln "am" Rhein 😀', "Rom"]},
        "trams": {"type": "integer"},
        "warm": {"type": "boolean"},
    },
    "required": ["city", "trams", "warm"],
    "additionalProperties": False,
}
MARK = {"type": "ephemeral"}
SKY = "Jupiter is the largest planet. It has 95 known moons. 😀 Saturn's rings are made of ice."


def settings_of_client(secret: str = key, max_retries: int = 0) -> Fields:
    """What code gives a client of this cloud, whether it is asynchronous or not."""
    common: Fields = {"base_url": base_url, "max_retries": max_retries}
    if cloud == "vertex":
        return common | {"access_token": secret, "region": "us-east5", "project_id": "any"}
    return common | {"api_key": secret}


def sdk(**changes: Any) -> Any:
    """The client, as code for it makes one. `Any`, for its versions differ in their types."""
    clients: Any = {"anthropic": "Anthropic", "vertex": "AnthropicVertex"}
    return getattr(anthropic, clients[cloud])(**settings_of_client(**changes))


def async_sdk() -> Any:
    """The same, asynchronous."""
    clients: Any = {"anthropic": "AsyncAnthropic", "vertex": "AsyncAnthropicVertex"}
    return getattr(anthropic, clients[cloud])(**settings_of_client())


def asked(words: Any = "Hi", **fields: Any) -> Fields:
    """The arguments of a call."""
    return {"model": name, "max_tokens": 400, "messages": [{"role": "user", "content": words}], **fields}


def whole(words: Any = "Hi", client: Any = None, **fields: Any) -> Any:
    """A reply that comes whole."""
    return (client or sdk()).messages.create(**asked(words, **fields))


def streamed(words: Any = "Hi", **fields: Any) -> Any:
    """A reply that comes in pieces, put together by the SDK."""
    with sdk().messages.stream(**asked(words, **fields)) as stream:
        return stream.get_final_message()


def seen(message: Any) -> Fields:
    """What a message says and cost, in the words that the drivers have in common."""
    usage = message.usage.model_dump()
    return {
        "text": "".join(block.text for block in message.content if block.type == "text"),
        "stop": message.stop_reason,
        "model": message.model,
        "calls": [[block.name, block.input] for block in message.content if block.type == "tool_use"],
        "input": usage["input_tokens"],
        "output": usage["output_tokens"],
        "cache_read": usage["cache_read_input_tokens"],
        "cache_written": usage["cache_creation_input_tokens"],
    }


def cited(message: Any) -> list[list[Any]]:
    """Each block's text, and the passages that it cites."""
    blocks = [block.model_dump() for block in message.content]
    return [
        [block["text"], [citation["cited_text"] for citation in block.get("citations") or ()]]
        for block in blocks
    ]


def tool_loop(ask: Callable[..., Any]) -> list[Fields]:
    """A call, and the answer to its result."""
    fields: Fields = {"system": "Be brief.", "tools": [WEATHER]}
    call = ask("Is it raining?", **fields)
    results = [
        {
            "type": "tool_result",
            "tool_use_id": block.id,
            "content": f"rain in {len(block.input['city'])} letters",
        }
        for block in call.content
        if block.type == "tool_use"
    ]
    fields["messages"] = [
        {"role": "user", "content": "Is it raining?"},
        {"role": "assistant", "content": call.content},
        {"role": "user", "content": results},
    ]
    return [seen(call), seen(ask(**fields))]


def structured() -> list[Fields]:
    """By way of a forced call, whole and streamed, and as JSON."""
    tool = {"name": "answer", "input_schema": ANSWER}
    forced: Fields = {"tools": [tool], "tool_choice": {"type": "tool", "name": "answer"}}
    calls = [whole(**forced), streamed(**forced)]
    in_form = {"output_config": {"format": {"type": "json_schema", "schema": ANSWER}}}
    document = whole("Answer in JSON", extra_body=in_form)
    return [*(call.content[0].input for call in calls), json.loads(document.content[0].text)]


def pictures(path: str, url: str, file_id: str) -> Fields:
    """One picture in every way."""
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode()
    inline = {"type": "base64", "media_type": "image/png", "data": data}
    sources: Any = {
        "inline": inline,
        "by_url": {"type": "url", "url": url},
        "by_id": {"type": "file", "file_id": file_id},
    }
    question = {"type": "text", "text": "What is it?"}
    shown = {name: [{"type": "image", "source": source}, question] for name, source in sources.items()}
    [image, _] = shown["inline"]
    call = {"type": "tool_use", "id": "toolu_1", "name": "camera", "input": {}}

    def in_a_result(num_images: int) -> Any:
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [image] * num_images}
        turns = [("user", "Look"), ("assistant", [call]), ("user", [result])]
        messages = [{"role": role, "content": content} for role, content in turns]
        return seen(whole(messages=messages, max_tokens=8))

    return {
        **{name: seen(whole(content, max_tokens=24)) for name, content in shown.items()},
        "streamed": seen(streamed(shown["inline"], max_tokens=24)),
        "two": seen(whole([image, *shown["inline"]], max_tokens=24)),
        "results": [in_a_result(1), in_a_result(2)],
        **counted(messages=asked(shown["by_url"])["messages"]),
    }


def counted(**fields: Any) -> Fields:
    """How many tokens a prompt has, from a client that can ask."""
    messages: Any = sdk().beta.messages
    if not hasattr(messages, "count_tokens"):  # that of Vertex AI in 2024
        return {}
    return {"counted": messages.count_tokens(model=name, **fields).input_tokens}


async def at_once() -> list[str]:
    """Several replies of the asynchronous client at the same time."""
    async with async_sdk() as client:
        create = client.messages.create
        replies = await asyncio.gather(*(create(**asked(f"Hi {number}")) for number in range(7)))
        async with client.messages.stream(**asked("Hi 7")) as stream:
            replies.append(await stream.get_final_message())
    return [reply.content[0].text for reply in replies]


def leave_a_story() -> str:
    """The first words of a stream that is then left."""
    with sdk().messages.stream(**asked("Tell a long story", max_tokens=8000)) as stream:
        return str(next(iter(stream.text_stream)))


def error_of(words: Any = "Hi", client: Any = None, **fields: Any) -> Fields:
    """Status and sentence of the SDK's error for a call."""
    try:
        whole(words, client, **fields)
    except anthropic.APIStatusError as refusal:
        return {"status": refusal.status_code, "message": refusal.message}
    return {}


def everything() -> Fields:
    """One use after the other."""
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello, world!"},
        {"role": "user", "content": "Again"},
    ]
    cached: Fields = {
        "words": [{"type": "text", "text": "Hi", "cache_control": MARK}],
        "system": [{"type": "text", "text": "Be brief. " * 40, "cache_control": MARK}],
    }
    sky = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": SKY},
        "title": "Sky",
        "citations": {"enabled": True},
    }
    moons = [sky, {"type": "text", "text": "Moons?"}]
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    return {
        "whole": seen(whole(stop_sequences=["###"], extra_body=sampling)),
        "streamed": seen(streamed()),
        "turns": seen(whole(system="Be brief.", messages=turns)),
        "loop": tool_loop(whole),
        "streamed_loop": tool_loop(streamed),
        "forced": seen(whole(tools=[WEATHER], tool_choice={"type": "any"})),
        "structured": structured(),
        "cached": [seen(whole(**cached)) for _ in range(2)],
        "cited": [cited(whole(moons)), cited(streamed(moons))],
        "cut_short": seen(whole(max_tokens=5)),
        "stopped": seen(whole(stop_sequences=[","])),
        **counted(system="Be brief.", messages=turns),
        "retried": seen(whole("Good morning", sdk(max_retries=2))),
        "left": leave_a_story(),
        "at_once": asyncio.run(at_once()),
        "errors": {
            "overloaded": error_of("Good morning, all"),
            "bad_key": error_of(client=sdk(secret="sk-wrong")),
            "not_found": error_of(model="claude-foo"),
            "too_many": error_of(max_tokens=9000),
            "thinking": error_of(extra_body={"thinking": thinking}),
            "image": error_of([{"type": "image", "source": source}]),
        },
    }


def drive() -> Fields:
    """What was asked for."""
    match rest:
        case ["structured"]:
            return {"structured": structured()}
        case ["pictures", *shown]:
            return pictures(*shown)
        case _:
            return everything()


print(json.dumps(drive()))
