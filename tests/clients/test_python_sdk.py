"""The official Python SDK against a live server: every field is there, every error has its class."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from hokku.chat.formats.plain import PLAIN
from hokku.protocol.engine import GenerationRequest
from hokku.protocol.errors import EngineFailed, Overloaded
from hokku.protocol.messages import ToolUsePart
from tests.api.conftest import KEY
from tests.clients.conftest import CITED_DOCUMENT, CITED_REPLY, CITED_TEXT
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, says

pytestmark = pytest.mark.clients

HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def sdk(base_url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def engine(live_engine: FakeEngine) -> Iterator[FakeEngine]:
    """The live engine, whose script a test may change."""
    script = live_engine.script
    yield live_engine
    live_engine.script = script
    live_engine.step_secs = 0.0


def text_of(message: anthropic.types.Message) -> str:
    (block,) = message.content
    assert block.type == "text"
    return block.text


def test_whole_reply(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(model=ALIAS, max_tokens=100, messages=HELLO)
    assert message.model == MODEL_ID
    assert message.id.startswith("msg_01")
    assert message._request_id
    assert message._request_id.startswith("req_")
    assert (message.type, message.role) == ("message", "assistant")
    assert text_of(message) == "Hello, world!"
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    usage = message.usage
    assert usage.input_tokens == len(b"user: Hi\n")
    assert usage.output_tokens == len(b"Hello, world!") + 1
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (0, 0)
    assert usage.cache_creation is not None
    assert usage.service_tier == "standard"


def test_streamed_reply(sdk: anthropic.Anthropic, engine: FakeEngine) -> None:
    engine.script = says("Grüße, 世界 😀")
    with sdk.messages.stream(model=ALIAS, max_tokens=100, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == text_of(message) == "Grüße, 世界 😀"
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == len(text.encode()) + 1
    assert message.usage.input_tokens == len(b"user: Hi\n")


def test_raw_events(sdk: anthropic.Anthropic) -> None:
    events = list(sdk.messages.create(model=ALIAS, max_tokens=100, messages=HELLO, stream=True))
    assert events[0].type == "message_start"
    assert [event.type for event in events[-2:]] == ["message_delta", "message_stop"]


async def test_async_client(base_url: str) -> None:
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key=KEY, max_retries=0) as sdk:
        message = await sdk.messages.create(model=ALIAS, max_tokens=100, messages=HELLO)
        assert text_of(message) == "Hello, world!"
        async with sdk.messages.stream(model=ALIAS, max_tokens=100, messages=HELLO) as stream:
            assert "".join([text async for text in stream.text_stream]) == "Hello, world!"


async def test_64_streams_at_once(base_url: str, engine: FakeEngine) -> None:
    engine.script = lambda request: Script([*bytes(request.prompt)[6:], 256])

    async def read(sdk: anthropic.AsyncAnthropic, number: int) -> str:
        words: list[anthropic.types.MessageParam] = [
            {"role": "user", "content": f"number {number} 世界 " * 4}
        ]
        async with sdk.messages.stream(model=ALIAS, max_tokens=500, messages=words) as stream:
            return text_of(await stream.get_final_message())

    async with anthropic.AsyncAnthropic(base_url=base_url, api_key=KEY, max_retries=0) as sdk:
        replies = await asyncio.gather(*(read(sdk, number) for number in range(64)))
    assert replies == [f"number {number} 世界 " * 4 + "\n" for number in range(64)]
    assert engine.stats().num_running == 0


def test_leaving_mid_stream_frees_the_request(sdk: anthropic.Anthropic, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([65] * 10_000)
    engine.step_secs = 0.002
    with sdk.messages.stream(model=ALIAS, max_tokens=8192, messages=HELLO) as stream:
        next(iter(stream.text_stream))
    pause = asyncio.Event()

    async def until_free() -> None:
        while engine.stats().num_running:
            await asyncio.wait([asyncio.ensure_future(pause.wait())], timeout=0.01)

    asyncio.run(asyncio.wait_for(until_free(), 10))


def test_prefill_and_stop_sequence(sdk: anthropic.Anthropic, engine: FakeEngine) -> None:
    engine.script = says("42. And")
    message = sdk.messages.create(
        model=MODEL_ID,
        max_tokens=100,
        stop_sequences=["."],
        system="Be brief.",
        messages=[*HELLO, {"role": "assistant", "content": "It is"}],
    )
    assert text_of(message) == "42"
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", ".")


def spelled(*calls: tuple[str, dict[str, Any]]) -> str:
    """Calls as the scripted model writes them."""
    return PLAIN.syntax.spell([ToolUsePart("", name, arguments) for name, arguments in calls])


TOOLS: list[anthropic.types.ToolParam] = [
    {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
    {"name": "clock", "input_schema": {"type": "object"}},
]


@pytest.mark.parametrize("streams", [False, True])
def test_parallel_tool_use(sdk: anthropic.Anthropic, engine: FakeEngine, streams: bool) -> None:
    engine.script = says("I look.\n" + spelled(("weather", {"city": 'Köln "am" Rhein \\ 😀'}), ("clock", {})))
    engine.step_secs = 0.001
    message: anthropic.types.Message
    if streams:
        with sdk.messages.stream(model=ALIAS, max_tokens=400, messages=HELLO, tools=TOOLS) as stream:
            message = stream.get_final_message()
    else:
        message = sdk.messages.create(model=ALIAS, max_tokens=400, messages=HELLO, tools=TOOLS)
    assert message.stop_reason == "tool_use"
    text, weather, clock = message.content
    assert (text.type, weather.type, clock.type) == ("text", "tool_use", "tool_use")
    assert text.type == "text"
    assert text.text == "I look."
    assert weather.type == clock.type == "tool_use"
    assert (weather.name, weather.input) == ("weather", {"city": 'Köln "am" Rhein \\ 😀'})
    assert (clock.name, clock.input) == ("clock", {})
    assert weather.id != clock.id


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_a_call_cut_anywhere_can_be_read(sdk: anthropic.Anthropic, engine: FakeEngine, length: int) -> None:
    said = spelled(("weather", {"city": 'a\u2028"b" \\ 😀', "days": [1, {"x": None}]}))
    engine.script = lambda _request: Script(list(said.encode()))
    head = len(PLAIN.syntax.head("weather"))
    with sdk.messages.stream(model=ALIAS, max_tokens=head + length, messages=HELLO, tools=TOOLS) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "max_tokens"
    (call,) = message.content
    assert call.type == "tool_use"


@pytest.mark.parametrize("streams", [False, True])
def test_citations(sdk: anthropic.Anthropic, engine: FakeEngine, streams: bool) -> None:
    engine.script = says(CITED_REPLY)
    asked: list[anthropic.types.MessageParam] = [{"role": "user", "content": [CITED_DOCUMENT]}]
    message: anthropic.types.Message
    if streams:
        with sdk.messages.stream(model=ALIAS, max_tokens=400, messages=asked) as stream:
            message = stream.get_final_message()
    else:
        message = sdk.messages.create(model=ALIAS, max_tokens=400, messages=asked)
    plain, cited = message.content
    assert plain.type == cited.type == "text"
    assert plain.text + cited.text == CITED_REPLY
    assert plain.citations is None
    assert cited.citations
    (citation,) = cited.citations
    assert citation.type == "char_location"
    assert citation.cited_text == CITED_TEXT[citation.start_char_index : citation.end_char_index]
    # A conversation that goes on takes the reply as the SDK has it.
    replayed: list[anthropic.types.MessageParam] = [
        *asked,
        {"role": "assistant", "content": message.content},
        *HELLO,
    ]
    count = sdk.messages.count_tokens(model=ALIAS, messages=replayed)
    assert count.input_tokens > message.usage.input_tokens


def test_the_sdk_runs_tools(sdk: anthropic.Anthropic, engine: FakeEngine) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: its name.
        """
        asked.append(city)
        return "sunny"

    def script(request: GenerationRequest) -> Script:
        prompt = bytes(request.prompt).decode()
        said = "It is sunny." if "<tool_response>\nsunny" in prompt else spelled(("weather", {"city": "Rom"}))
        return Script([*said.encode(), 256])

    engine.script = script
    runner = sdk.beta.messages.tool_runner(
        model=ALIAS, max_tokens=400, messages=[{"role": "user", "content": "Hi"}], tools=[weather]
    )
    final = runner.until_done()
    assert asked == ["Rom"]
    (block,) = final.content
    assert block.type == "text"
    assert block.text == "It is sunny."


def test_count_tokens(sdk: anthropic.Anthropic) -> None:
    assert sdk.messages.count_tokens(model=ALIAS, messages=HELLO).input_tokens == len(b"user: Hi\n")
    assert sdk.beta.messages.count_tokens(
        model=ALIAS, messages=[{"role": "user", "content": "Hi"}]
    ).input_tokens


def test_models(sdk: anthropic.Anthropic) -> None:
    (model,) = sdk.models.list(limit=1)
    assert model.id == sdk.models.retrieve(ALIAS).id == MODEL_ID
    assert (model.lifecycle, model.line, model.max_tokens) == ("active", "haiku", 8192)
    assert model.capabilities is not None
    assert model.capabilities.image_input.supported is False


def test_bad_key(base_url: str) -> None:
    with (
        anthropic.Anthropic(base_url=base_url, api_key="sk-wrong", max_retries=0) as sdk,
        pytest.raises(anthropic.AuthenticationError, match="Invalid bearer token"),
    ):
        sdk.messages.create(model=ALIAS, max_tokens=1, messages=HELLO)


def test_errors_have_their_classes(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        sdk.messages.create(model="claude-foo", max_tokens=1, messages=HELLO)
    assert unknown.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="9000 > 8192"):
        sdk.messages.create(model=ALIAS, max_tokens=9000, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        sdk.messages.create(model=ALIAS, max_tokens=1, messages=[{"role": "user", "content": "x" * 5000}])


def test_body_over_32_mb(sdk: anthropic.Anthropic) -> None:
    words = "x" * (32 * 1024 * 1024)
    with pytest.raises(anthropic.APIStatusError, match="maximum allowed number of bytes") as refusal:
        sdk.messages.create(model=ALIAS, max_tokens=1, messages=[{"role": "user", "content": words}])
    assert refusal.value.status_code == 413


def test_overload_is_retried(base_url: str, engine: FakeEngine) -> None:
    replies = iter([Script([], Overloaded("Overloaded"), error_after=-1), Script([*b"Hi", 256])])
    engine.script = lambda _request: next(replies)
    with anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=1) as sdk:
        assert text_of(sdk.messages.create(model=ALIAS, max_tokens=10, messages=HELLO)) == "Hi"


def test_failure_mid_stream(sdk: anthropic.Anthropic, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([65] * 5, EngineFailed("a secret"), error_after=3)
    with (
        pytest.raises(anthropic.APIStatusError) as failure,
        sdk.messages.stream(model=ALIAS, max_tokens=100, messages=HELLO) as stream,
    ):
        stream.get_final_message()
    assert failure.value.body == {
        "type": "error",
        "error": {"type": "api_error", "message": "Internal server error"},
    }
