"""Drives a live server through litellm and prints what it read, as one JSON object.

Usage: python drive.py PROVIDER BASE_URL KEY MODEL [structured | pictures FILE URL FILE_ID], with the interpreter of the
environment beside this file. PROVIDER is litellm's word for a wire: `anthropic`, `vertex_ai`, `bedrock/converse`,
`bedrock/invoke` or `openai`. Of a model that nobody has scripted these ask for structured output alone, or show it a
PNG in both ways that this client has: as a file, and at its URL.
"""

import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network for one

import litellm

litellm.suppress_debug_info = True
litellm.telemetry = False
litellm.user_url_validation = False  # the pictures of the tests are on this machine

provider, base_url, key, model, *rest = sys.argv[1:]
is_bedrock = provider.startswith("bedrock")
if provider == "bedrock/converse":
    # What a model can do litellm knows by its dated name, and of others by what it is told.
    can = dict.fromkeys(
        ("supports_function_calling", "supports_tool_choice", "supports_response_schema"), True
    )
    litellm.register_model({model: {"litellm_provider": "bedrock_converse", "mode": "chat", **can}})
Fields = dict[str, Any]
MARK = {"type": "ephemeral"}
WEATHER: Fields = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
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


KEYS = tempfile.TemporaryDirectory()


def google_credentials(secret: str) -> str:
    """What a file of Google credentials says that leads to this server: a key's file, and where to exchange the key."""
    file = Path(KEYS.name) / secret
    file.write_text(secret)
    return json.dumps(
        {
            "type": "external_account",
            "audience": "hokku",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{base_url}/v1/token",
            "credential_source": {"file": str(file)},
        }
    )


def settings_of_call(secret: str = key, max_retries: int = 0, name: str = model) -> Fields:
    """What code gives a call for this provider."""
    common: Fields = {"model": f"{provider}/{name}", "api_base": base_url, "num_retries": max_retries}
    if provider == "vertex_ai":
        return common | {
            "vertex_project": "any",
            "vertex_location": "us-east5",
            "vertex_credentials": google_credentials(secret),
        }
    if is_bedrock:
        return common | {"api_key": secret, "aws_region_name": "us-west-2"}
    return common | {"api_key": secret, "api_base": f"{base_url}/v1" if provider == "openai" else base_url}


def messages_of(words: Any = "Hi", system: Any = None) -> list[Fields]:
    """A question, perhaps below a system prompt."""
    above = [{"role": "system", "content": system}] if system else []
    return [*above, {"role": "user", "content": words}]


def asked(words: Any = "Hi", system: Any = None, settings: Fields | None = None, **fields: Any) -> Fields:
    """The arguments of a call."""
    common = {"max_tokens": 400, "messages": messages_of(words, system)}
    return {**(settings or settings_of_call()), **common, **fields}


def whole(words: Any = "Hi", **fields: Any) -> Any:
    """A reply that comes whole."""
    return litellm.completion(**asked(words, **fields))


def streamed(words: Any = "Hi", **fields: Any) -> Any:
    """A reply that comes in pieces, put together by litellm."""
    call = asked(words, stream=True, stream_options={"include_usage": True}, **fields)
    return litellm.stream_chunk_builder(list(litellm.completion(**call)), messages=call["messages"])


def seen(reply: Any) -> Fields:
    """What a reply says and cost, in the words that the drivers have in common. For the model litellm has a name of its
    own, which is not always the server's."""
    choice = reply.choices[0]
    usage = reply.usage
    cached = getattr(usage, "cache_read_input_tokens", 0) or 0
    written = getattr(usage, "cache_creation_input_tokens", 0) or 0
    return {
        "text": choice.message.content or "",
        "stop": choice.finish_reason,
        "model": None if is_bedrock else reply.model.replace("@", "-"),
        "calls": [
            [call.function.name, json.loads(call.function.arguments)]
            for call in choice.message.tool_calls or ()
        ],
        "input": usage.prompt_tokens - cached - written,
        "output": usage.completion_tokens,
        "cache_read": cached,
        "cache_written": written,
    }


def tool_loop(ask: Callable[..., Any]) -> list[Fields]:
    """A call, and the answer to its result."""
    fields: Fields = {"system": "Be brief.", "tools": [WEATHER]}
    called = ask("Is it raining?", **fields)
    message = called.choices[0].message
    results = [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": f"rain in {len(json.loads(call.function.arguments)['city'])} letters",
        }
        for call in message.tool_calls
    ]
    turns = [*messages_of("Is it raining?", "Be brief."), message.model_dump(), *results]
    return [seen(called), seen(ask(messages=turns, tools=[WEATHER]))]


def structured() -> list[Fields]:
    """By way of a forced call, whole and streamed, and in a form."""
    tool = {"type": "function", "function": {"name": "answer", "parameters": ANSWER}}
    forced: Fields = {
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "answer"}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
    calls = [seen(whole(**forced)), seen(streamed(**forced))]
    document = seen(whole("Answer in JSON", response_format=form))
    return [*(call["calls"][0][1] for call in calls), json.loads(document["text"])]


def pictures(path: str, url: str, _file_id: str) -> Fields:
    """One picture in the two ways there are."""
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode()
    urls = {"inline": f"data:image/png;base64,{data}", "by_url": url}
    question = {"type": "text", "text": "What is it?"}
    images = {name: {"type": "image_url", "image_url": {"url": each}} for name, each in urls.items()}
    shown = {name: [image, question] for name, image in images.items()}
    return {
        **{name: seen(whole(content, max_tokens=24)) for name, content in shown.items()},
        "streamed": seen(streamed(shown["inline"], max_tokens=24)),
        "two": seen(whole([images["inline"], *shown["inline"]], max_tokens=24)),
    }


async def at_once() -> list[str]:
    """Several replies at the same time."""
    replies: list[Any] = await asyncio.gather(
        *(litellm.acompletion(**asked(f"Hi {number}")) for number in range(8))
    )
    return [reply.choices[0].message.content for reply in replies]


async def leave_a_story() -> str:
    """The first words of a stream that is then left."""
    stream: Any = await litellm.acompletion(**asked("Tell a long story", max_tokens=8000, stream=True))
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            await stream.aclose()
            return str(chunk.choices[0].delta.content)
    return ""


def error_of(words: Any = "Hi", **fields: Any) -> Fields:
    """Status and sentence of litellm's error for a call."""
    try:
        whole(words, **fields)
    except Exception as refusal:
        return {"status": getattr(refusal, "status_code", 0), "message": str(refusal)}
    return {}


def everything() -> Fields:
    """One use after the other."""
    turns = [
        *messages_of("Hi", "Be brief."),
        {"role": "assistant", "content": "Hello, world!"},
        {"role": "user", "content": "Again"},
    ]
    marked: Fields = {
        "words": [{"type": "text", "text": "Hi", "cache_control": MARK}],
        "system": [{"type": "text", "text": "Be brief. " * 40, "cache_control": MARK}],
    }
    broken = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]
    return {
        "whole": seen(whole(stop=["###"], temperature=0.5, top_p=0.9)),
        "streamed": seen(streamed()),
        "turns": seen(whole(messages=turns)),
        "loop": tool_loop(whole),
        "streamed_loop": tool_loop(streamed),
        "forced": seen(whole(tools=[WEATHER], tool_choice="required")),
        "structured": structured(),
        # There are no marks on OpenAI's wire.
        **({} if provider == "openai" else {"cached": [seen(whole(**marked)) for _ in range(2)]}),
        "cut_short": seen(whole(max_tokens=5)),
        "stopped": seen(whole(stop=[","])),
        "retried": seen(whole("Good morning", settings=settings_of_call(max_retries=2))),
        "left": asyncio.run(leave_a_story()),
        "at_once": asyncio.run(at_once()),
        "errors": {
            "overloaded": error_of("Good morning, all"),
            "bad_key": error_of(settings=settings_of_call(secret="sk-wrong")),
            "not_found": error_of(
                settings=settings_of_call(name="anthropic.claude-foo" if is_bedrock else "claude-foo")
            ),
            "image": error_of(broken),
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
