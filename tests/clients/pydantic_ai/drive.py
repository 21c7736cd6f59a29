"""Drives a live server through pydantic-ai and prints what it read, as one JSON object.

Usage: python drive.py BASE_URL KEY MODEL [structured | pictures FILE URL FILE_ID], with the interpreter of the
environment beside this file. Of a model that nobody has scripted these ask for structured output alone, or show it a
PNG as a file and at its URL.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Literal

from anthropic import AsyncAnthropic
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    BinaryContent,
    ImageUrl,
    ModelHTTPError,
    ModelSettings,
    NativeOutput,
    ToolOutput,
)
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.usage import UsageLimits

base_url, key, name, *rest = sys.argv[1:]


class Answer(BaseModel):
    """What is known of a city."""

    city: Literal['Köln "am" Rhein 😀', "Rom"]
    trams: int
    warm: bool


def model(max_retries: int = 0, api_key: str = key, model_name: str = name, **fields: Any) -> AnthropicModel:
    """The model, as code for it makes one."""
    client = AsyncAnthropic(base_url=base_url, api_key=api_key, max_retries=max_retries)
    return AnthropicModel(model_name, provider=AnthropicProvider(anthropic_client=client), **fields)


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {len(city)} letters"


def agent(**fields: Any) -> Agent[None, Any]:
    """An agent on the model."""
    return Agent(**{"model": model(), "model_settings": ModelSettings(max_tokens=400), **fields})


def replies_of(result: Any) -> list[dict[str, Any]]:
    """Every reply of a run, in the words that the drivers have in common."""
    return [seen(message) for message in result.all_messages() if isinstance(message, ModelResponse)]


def seen(reply: ModelResponse) -> dict[str, Any]:
    """What a reply says and cost."""
    usage = reply.usage
    return {
        "text": reply.text or "",
        "stop": reply.finish_reason,
        "model": reply.model_name,
        "calls": [[call.tool_name, call.args_as_dict()] for call in reply.tool_calls],
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_written": usage.cache_write_tokens,
    }


async def replies(words: Any = "Hi", **fields: Any) -> list[dict[str, Any]]:
    """The replies of a run."""
    return replies_of(await agent(**fields).run(words))


async def streamed(words: Any, **fields: Any) -> list[dict[str, Any]]:
    """The replies of a streamed run, whose last text is also read piece by piece."""
    async with agent(**fields).run_stream(words) as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
    *others, last = replies_of(result)
    return [*others, {**last, "text": "".join(pieces)}]


async def leave_a_story() -> str:
    """The first words of a stream that is then left."""
    async with agent(model_settings=ModelSettings(max_tokens=8000)).run_stream("Tell a long story") as result:
        async for piece in result.stream_text(delta=True, debounce_by=None):
            return str(piece)
    return ""


async def at_once() -> list[str]:
    """Several runs at the same time."""
    runs = await asyncio.gather(*(agent().run(f"Hi {number}") for number in range(8)))
    return [run.output for run in runs]


async def structured() -> list[dict[str, Any]]:
    """By way of a forced call, of one of that name, and as JSON."""
    # The hosted model could not do the last, so pydantic-ai has to be told that this one can.
    able = model(profile=ModelProfile(supports_json_schema_output=True))
    runs = [
        await agent(output_type=Answer).run("Hi"),
        await agent(output_type=ToolOutput(Answer, name="answer")).run("Hi"),
        await agent(model=able, output_type=NativeOutput(Answer)).run("Answer in JSON"),
    ]
    return [run.output.model_dump() for run in runs]


async def error_of(words: Any = "Hi", **fields: Any) -> dict[str, Any]:
    """Status and sentence of pydantic-ai's error for a run."""
    try:
        await agent(**fields).run(words)
    except ModelHTTPError as refusal:
        return {"status": refusal.status_code, "message": str(refusal)}
    return {}


async def pictures(path: str, url: str, _: str) -> dict[str, Any]:
    """One picture in every way that pydantic-ai knows."""
    image = BinaryContent(Path(path).read_bytes(), media_type="image/png")
    question = "What is it?"
    short = {"model_settings": ModelSettings(max_tokens=24)}
    limits = UsageLimits(input_tokens_limit=1000, count_tokens_before_request=True)
    return {
        "inline": (await replies([image, question], **short))[0],
        "by_url": (await replies([ImageUrl(url), question], **short))[0],
        "streamed": (await streamed([image, question], **short))[0],
        "two": (await replies([image, image, question], **short))[0],
        "counted": (await agent(**short).run([image, question], usage_limits=limits)).usage.input_tokens,
    }


async def everything() -> dict[str, Any]:
    """One use after the other."""
    sampling = ModelSettings(max_tokens=400, temperature=0.5, top_p=0.9, stop_sequences=["###"])
    caching = AnthropicModelSettings(
        max_tokens=400, anthropic_cache_instructions=True, anthropic_cache_messages=True
    )
    cached: dict[str, Any] = {"instructions": "Be brief. " * 40, "model_settings": caching}
    first = await agent(instructions="Be brief.").run("Hi")
    limits = UsageLimits(input_tokens_limit=1000, count_tokens_before_request=True)
    looking_up: dict[str, Any] = {"tools": [weather], "instructions": "Be brief."}
    both = await agent(output_type=Answer, tools=[weather]).run("Is it raining?")
    image = BinaryContent(bytes.fromhex("89504e470d0a1a0a"), media_type="image/png")
    return {
        "whole": (await replies(model_settings=sampling))[0],
        "streamed": (await streamed("Hi"))[0],
        "turns": replies_of(await agent().run("Again", message_history=first.all_messages()))[-1],
        "loop": await replies("Is it raining?", **looking_up),
        "streamed_loop": await streamed("Is it raining?", **looking_up),
        "structured": [*await structured(), both.output.model_dump()],
        "cached": [(await replies(**cached))[0] for _ in range(2)],
        "cut_short": (await replies(model_settings=ModelSettings(max_tokens=5)))[0],
        "stopped": (await replies(model_settings=ModelSettings(max_tokens=400, stop_sequences=[","])))[0],
        "counted": (await agent().run("Hi", usage_limits=limits)).usage.input_tokens,
        "retried": (await replies("Good morning", model=model(max_retries=2)))[0],
        "left": await leave_a_story(),
        "at_once": await at_once(),
        "errors": {
            "overloaded": await error_of("Good morning, all"),
            "bad_key": await error_of(model=model(api_key="sk-wrong")),
            "not_found": await error_of(model=model(model_name="claude-foo")),
            "too_many": await error_of(model_settings=ModelSettings(max_tokens=9000)),
            "image": await error_of(["See", image]),
        },
    }


async def drive() -> dict[str, Any]:
    """What was asked for."""
    match rest:
        case ["structured"]:
            return {"structured": await structured()}
        case ["pictures", *shown]:
            return await pictures(*shown)
        case _:
            return await everything()


print(json.dumps(asyncio.run(drive())))
