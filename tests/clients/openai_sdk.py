"""Drives a live server through OpenAI's official Python client and prints what it read, as one JSON object.

Usage: python openai_sdk.py BASE_URL KEY MODEL [structured | pictures FILE URL FILE_ID]. Of a model that nobody has
scripted these ask for structured output alone, or show it a PNG in every way: as a file and at its URL.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from typing import Any, Literal

import openai
from pydantic import BaseModel, ConfigDict

base_url, key, name, *rest = sys.argv[1:]
Fields = dict[str, Any]


def function(tool: str, parameters: Fields) -> Fields:
    """A tool whose calls always validate, as the client's streaming helper wants them."""
    closed = {"type": "object", "additionalProperties": False, **parameters}
    described = {"name": tool, "description": "The weather of a city.", "parameters": closed, "strict": True}
    return {"type": "function", "function": described}


WEATHER = function("weather", {"properties": {"city": {"type": "string"}}, "required": ["city"]})
CITIES = ('Köln "am" Rhein 😀', "Rom")
ANSWER = function(
    "answer",
    {
        "properties": {
            "city": {"enum": list(CITIES)},
            "trams": {"type": "integer"},
            "warm": {"type": "boolean"},
        },
        "required": ["city", "trams", "warm"],
    },
)


class Answer(BaseModel):
    """The same as a model of pydantic's."""

    model_config = ConfigDict(extra="forbid")

    city: Literal['Köln "am" Rhein 😀', "Rom"]
    trams: int
    warm: bool


def settings_of_client(secret: str = key, max_retries: int = 0) -> Fields:
    """What code gives a client, whether it is asynchronous or not."""
    return {"base_url": f"{base_url}/v1", "api_key": secret, "max_retries": max_retries}


def sdk(**changes: Any) -> Any:
    """The client. `Any`, for what it is asked is put together from plain values here."""
    return openai.OpenAI(**settings_of_client(**changes))


def asked(words: Any = "Hi", **fields: Any) -> Fields:
    """The arguments of a call."""
    messages = [{"role": "user", "content": words}]
    return {"model": name, "max_completion_tokens": 400, "messages": messages, **fields}


def whole(words: Any = "Hi", client: Any = None, **fields: Any) -> Any:
    """A reply that comes whole."""
    return (client or sdk()).chat.completions.create(**asked(words, **fields))


def streamed(words: Any = "Hi", **fields: Any) -> Any:
    """A reply that comes in pieces, put together by the client."""
    told = {"stream_options": {"include_usage": True}, **fields}
    try:
        with sdk().chat.completions.stream(**asked(words, **told)) as stream:
            return stream.get_final_completion()
    except openai.LengthFinishReasonError as cut_short:  # it gives no parsed reply then
        return cut_short.completion


def calls_of(completion: Any) -> list[list[Any]]:
    """Names and arguments of a reply's calls."""
    calls = completion.choices[0].message.tool_calls or []
    return [[call.function.name, json.loads(call.function.arguments)] for call in calls]


def seen(completion: Any) -> Fields:
    """What a reply says and cost, in the words that the drivers have in common."""
    (choice,) = completion.choices
    return {
        "text": choice.message.content or "",
        "stop": choice.finish_reason,
        "model": completion.model,
        "calls": calls_of(completion),
        "input": completion.usage.prompt_tokens,
        "output": completion.usage.completion_tokens,
    }


def tool_loop(ask: Callable[..., Any]) -> list[Fields]:
    """A call, and the answer to its result; the reply is sent back as it came."""
    asking = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it raining?"}]
    call = ask(messages=asking, tools=[WEATHER])
    message = call.choices[0].message
    results = [
        {
            "role": "tool",
            "tool_call_id": each.id,
            "content": f"rain in {len(json.loads(each.function.arguments)['city'])} letters",
        }
        for each in message.tool_calls
    ]
    return [seen(call), seen(ask(messages=[*asking, message, *results], tools=[WEATHER]))]


def structured() -> list[Fields]:
    """By way of a forced call, whole and streamed; and as JSON, by a schema and by a model of pydantic's."""
    forced = {"tools": [ANSWER], "tool_choice": {"type": "function", "function": {"name": "answer"}}}
    calls = [calls_of(whole(**forced)), calls_of(streamed(**forced))]
    schema = {"name": "answer", "strict": True, "schema": ANSWER["function"]["parameters"]}
    document = whole("Answer in JSON", response_format={"type": "json_schema", "json_schema": schema})
    parsed = sdk().chat.completions.parse(**asked("Answer in JSON", response_format=Answer))
    return [
        *(call[0][1] for call in calls),
        json.loads(document.choices[0].message.content),
        parsed.choices[0].message.parsed.model_dump(),
    ]


def pictures(path: str, url: str, _file_id: str) -> Fields:
    """One picture in every way that this form has."""
    with open(path, "rb") as file:
        inline = "data:image/png;base64," + base64.b64encode(file.read()).decode()
    question = {"type": "text", "text": "What is it?"}
    image, linked = ({"type": "image_url", "image_url": {"url": each}} for each in (inline, url))
    return {
        "inline": seen(whole([image, question], max_completion_tokens=24)),
        "by_url": seen(whole([linked, question], max_completion_tokens=24)),
        "streamed": seen(streamed([image, question], max_completion_tokens=24)),
        "two": seen(whole([image, image, question], max_completion_tokens=24)),
    }


async def at_once() -> list[str]:
    """Several replies of the asynchronous client at the same time."""
    async with openai.AsyncOpenAI(**settings_of_client()) as client:
        create = client.chat.completions.create
        replies = await asyncio.gather(*(create(**asked(f"Hi {number}")) for number in range(7)))
        async with client.chat.completions.stream(**asked("Hi 7")) as stream:
            replies.append(await stream.get_final_completion())
    return [str(reply.choices[0].message.content) for reply in replies]


def leave_a_story() -> str:
    """The first words of a stream that is then left."""
    with sdk().chat.completions.create(**asked("Tell a long story", stream=True, max_tokens=400)) as stream:
        return str(next(piece for chunk in stream if (piece := chunk.choices[0].delta.content)))


def error_of(words: Any = "Hi", client: Any = None, **fields: Any) -> Fields:
    """Status and sentence of the client's error for a call."""
    try:
        whole(words, client, **fields)
    except openai.APIStatusError as refusal:
        return {"status": refusal.status_code, "message": refusal.message}
    return {}


def everything() -> Fields:
    """One use after the other."""
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello, world!"},
        {"role": "user", "content": "Again"},
    ]
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    return {
        "whole": seen(whole(stop=["###"], temperature=0.5, top_p=0.9, seed=7)),
        "streamed": seen(streamed()),
        "turns": seen(whole(messages=turns)),
        "loop": tool_loop(whole),
        "streamed_loop": tool_loop(streamed),
        "forced": seen(whole(tools=[WEATHER], tool_choice="required")),
        "structured": structured(),
        "cut_short": seen(whole(max_completion_tokens=5)),
        "stopped": seen(whole(stop=",")),
        "retried": seen(whole("Good morning", sdk(max_retries=2))),
        "left": leave_a_story(),
        "at_once": asyncio.run(at_once()),
        "errors": {
            "overloaded": error_of("Good morning, all"),
            "bad_key": error_of(client=sdk(secret="sk-wrong")),
            "not_found": error_of(model="claude-foo"),
            "too_many": error_of(max_completion_tokens=9000),
            "image": error_of([broken]),
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
