"""What the OpenAI wire asks of the default model: JSON that is JSON, seeds, and texts without a template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict

from hokku.chat.codec import Codec
from hokku.chat.plain_text import GAP_MARKS
from hokku.opening import OpenedModel
from hokku.protocol.messages import plain_text
from tests.api.conftest import services_of
from tests.api.openai.conftest import openai_client
from tests.house.server import RealServer

pytestmark = pytest.mark.model

MODEL = "claude-3-5-haiku-latest"
PEOPLE: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Ada Lovelace wrote programs in 1843. Who is it, and what did she do?"}
]


class Person(BaseModel):
    """A person, as a reply has to describe one."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["Ada Lovelace", "Grace Hopper"]
    wrote_programs: bool


@pytest.fixture(scope="module")
def sdk(real_server: RealServer) -> Iterator[openai.OpenAI]:
    base_url = f"{real_server.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=real_server.key, max_retries=0, timeout=120) as sdk:
        yield sdk


def test_a_reply_parses_as_pydantic_wants_it(sdk: openai.OpenAI) -> None:
    completion = sdk.chat.completions.parse(
        model=MODEL, messages=PEOPLE, response_format=Person, max_tokens=100, temperature=2
    )
    assert isinstance(completion.choices[0].message.parsed, Person)


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_json_object_is_one_as_far_as_it_goes(sdk: openai.OpenAI, temperature: float) -> None:
    completion = sdk.chat.completions.create(
        model=MODEL,
        messages=PEOPLE,
        response_format={"type": "json_object"},
        max_tokens=200,
        temperature=temperature,
    )
    (choice,) = completion.choices
    text = choice.message.content or ""
    assert text.startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert choice.finish_reason == "length"


def test_a_function_of_the_older_form_validates(sdk: openai.OpenAI) -> None:
    schema = Person.model_json_schema()
    completion = sdk.chat.completions.create(
        model=MODEL,
        messages=PEOPLE,
        functions=[{"name": "note", "parameters": schema}],
        function_call={"name": "note"},
        max_tokens=100,
    )
    (choice,) = completion.choices
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call
    Person.model_validate_json(choice.message.function_call.arguments)


def test_a_seed_draws_the_same_tokens_again(sdk: openai.OpenAI) -> None:
    def said(**fields: Any) -> str | None:
        asked: Any = {"model": MODEL, "messages": PEOPLE, "max_tokens": 24, "temperature": 1.0, **fields}
        return sdk.chat.completions.create(**asked).choices[0].message.content  # type: ignore[no-any-return]

    assert said(seed=1) == said(seed=1)
    assert len({said(seed=seed) for seed in range(1, 5)} | {said()}) > 1


def test_a_text_goes_on_without_a_template(sdk: openai.OpenAI, opened: OpenedModel) -> None:
    prompt = "def add(a, b):\n    return"
    completion = sdk.completions.create(model=MODEL, prompt=prompt, max_tokens=8, temperature=0, echo=True)
    assert completion.usage
    encoded = opened.served.codec.encode(plain_text(prompt))
    assert completion.usage.prompt_tokens == len(encoded.token_ids)
    text = completion.choices[0].text
    assert text.startswith(prompt)
    assert text.removeprefix(prompt).strip()
    streamed = sdk.completions.create(
        model=MODEL, prompt=prompt, max_tokens=8, temperature=0, echo=True, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in streamed) == text


def test_the_default_model_fills_no_gaps_and_says_so(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not fill gaps") as refusal:
        sdk.completions.create(model=MODEL, prompt="def f(", suffix="):", max_tokens=8)
    assert refusal.value.param == "suffix"


async def test_a_model_that_knows_gaps_is_shown_both_sides(opened: OpenedModel) -> None:
    """The default model again, with three of its control tokens called what Qwen2.5-Coder calls its own."""
    read = opened.served.codec
    assert isinstance(read, Codec)
    spare = ("<repo_name>", "<reponame>", "<file_sep>")
    names = dict(zip(spare, GAP_MARKS[0].all, strict=True))
    spec = read.tokenizer.spec
    renamed = tuple(replace(token, text=names.get(token.text, token.text)) for token in spec.control_tokens)
    codec = Codec.from_spec(replace(spec, control_tokens=renamed))
    before, behind, gap = (codec.tokenizer.control_id(mark) for mark in GAP_MARKS[0].all)
    assert None not in (before, behind, gap)

    services = services_of(None)
    services.catalogue.put(replace(opened.served, codec=codec))
    body: dict[str, Any] = {
        "model": MODEL,
        "prompt": "def add(a, b):\n    ",
        "suffix": "\n\nprint(add(1, 2))",
        "temperature": 0,
    }
    async with openai_client(services) as client:
        answer = (await client.post("/v1/completions", json=body, timeout=120)).json()
    prompt = codec.encode(plain_text(body["prompt"], body["suffix"])).token_ids
    text = codec.tokenizer.encode
    assert prompt == [before, *text(body["prompt"]), behind, *text(body["suffix"]), gap]
    assert answer["usage"]["prompt_tokens"] == len(prompt)
    assert not any(mark in answer["choices"][0]["text"] for mark in GAP_MARKS[0].all)


def test_a_schema_that_cannot_be_met_is_refused_in_this_form(sdk: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"not": {"type": "string"}}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answer: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.chat.completions.create(model=MODEL, messages=PEOPLE, response_format=answer)
    assert refusal.value.param == "response_format.json_schema.schema.properties.a.not"
    tool: Any = {"type": "function", "function": {"name": "a", "parameters": schema, "strict": True}}
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.chat.completions.create(model=MODEL, messages=PEOPLE, tools=[tool])
    assert refusal.value.param == "tools[0].function.parameters.properties.a.not"
