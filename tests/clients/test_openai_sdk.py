"""OpenAI's official Python client against a live server: what the other suites do not ask of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict

from hokku.chat.formats.plain import PLAIN
from hokku.protocol.errors import EngineFailed
from hokku.protocol.messages import ToolUsePart
from tests.api.conftest import KEY
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, says

pytestmark = pytest.mark.clients

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


class Weather(BaseModel):
    """The weather of a city."""

    model_config = ConfigDict(extra="forbid")

    city: str


@pytest.fixture
def sdk(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key=KEY, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def engine(live_engine: FakeEngine) -> Iterator[FakeEngine]:
    """The live engine, whose script a test may change."""
    script = live_engine.script
    yield live_engine
    live_engine.script = script


def test_ids_and_models(sdk: openai.OpenAI) -> None:
    completion = sdk.chat.completions.create(model=ALIAS, messages=HELLO)
    assert completion.id.startswith("chatcmpl-01")
    assert completion._request_id
    assert completion._request_id.startswith("req_")
    assert [model.id for model in sdk.models.list()] == [MODEL_ID]
    model = sdk.models.retrieve(ALIAS)
    assert (model.id, model.object, model.owned_by) == (MODEL_ID, "model", "hokku")
    assert model.created


def test_texts(sdk: openai.OpenAI, engine: FakeEngine) -> None:
    engine.script = says(" upon a time")
    whole = sdk.completions.create(model=ALIAS, prompt="Once", max_tokens=50, echo=True)
    assert whole.choices[0].text == "Once upon a time"
    filled = sdk.completions.create(model=ALIAS, prompt="Once", suffix="there was", stream=True)
    assert "".join(chunk.choices[0].text for chunk in filled) == " upon a time"
    assert bytes(engine.requests[-1].prompt) == b"Once?there was"


@pytest.mark.parametrize("streams", [False, True])
def test_tools_of_pydantic_s(sdk: openai.OpenAI, engine: FakeEngine, streams: bool) -> None:
    engine.script = says(PLAIN.syntax.spell([ToolUsePart("", "Weather", {"city": 'Köln "am" Rhein'})]))
    tools = [openai.pydantic_function_tool(Weather)]
    if streams:
        with sdk.chat.completions.stream(model=ALIAS, messages=HELLO, tools=tools) as stream:
            completion = stream.get_final_completion()
    else:
        completion = sdk.chat.completions.parse(model=ALIAS, messages=HELLO, tools=tools)
    (call,) = completion.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == Weather(city='Köln "am" Rhein')


def test_functions_as_they_were_before_tools(sdk: openai.OpenAI, engine: FakeEngine) -> None:
    engine.script = says(PLAIN.syntax.spell([ToolUsePart("", "weather", {"city": "Ulm"})]))
    completion = sdk.chat.completions.create(model=ALIAS, messages=HELLO, functions=[{"name": "weather"}])
    message = completion.choices[0].message
    assert message.function_call
    assert json.loads(message.function_call.arguments) == {"city": "Ulm"}
    assert completion.choices[0].finish_reason == "function_call"


async def test_the_asynchronous_client(base_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=KEY, max_retries=0) as sdk:
        stream = await sdk.chat.completions.create(
            model=ALIAS, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage
        assert chunks[-1].usage.total_tokens == len("user: Hi\n") + len("Hello, world!") + 1
        said = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
        assert "".join(said) == "Hello, world!"
        assert [model.id async for model in sdk.models.list()] == [MODEL_ID]


def test_a_stream_that_breaks_off_raises(sdk: openai.OpenAI, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([*b"Hello"], EngineFailed("broke"), 2)
    stream = sdk.chat.completions.create(model=ALIAS, messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="Internal server error") as failure:
        for _ in stream:
            pass
    assert failure.value.type == "api_error"


def test_errors_have_their_classes(sdk: openai.OpenAI, base_url: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model=ALIAS, messages=HELLO, n=2)
    assert (refused.value.param, refused.value.type) == ("n", "invalid_request_error")
    assert (refused.value.request_id or "").startswith("req_")
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.chat.completions.create(model="claude-foo", messages=HELLO)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with (
        openai.OpenAI(base_url=f"{base_url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as stopped,
    ):
        stranger.chat.completions.create(model=ALIAS, messages=HELLO)
    assert stopped.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("claude-foo")
    with pytest.raises(openai.NotFoundError):
        sdk.embeddings.create(model=ALIAS, input="Hi")
