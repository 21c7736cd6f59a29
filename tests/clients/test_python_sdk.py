"""The official Python SDK against a live server: every field is there, every error has its class."""

from __future__ import annotations

import anthropic
import pytest

from tests.api.conftest import KEY
from tests.fakes import ALIAS, MODEL_ID

HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def sdk(base_url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=0)


def test_whole_reply(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(model=ALIAS, max_tokens=100, messages=HELLO)
    assert message.model == MODEL_ID
    assert message.id.startswith("msg_01")
    assert (message.type, message.role) == ("message", "assistant")
    (block,) = message.content
    assert block.type == "text"
    assert block.text == "Hello, world!"
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.input_tokens == len(b"user: Hi\n")
    assert message.usage.output_tokens == len(b"Hello, world!") + 1
    assert message.usage.cache_read_input_tokens == 0
    assert message.usage.cache_creation is not None


def test_streamed_reply(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(model=ALIAS, max_tokens=100, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == "Hello, world!"
    assert message.content[0].type == "text"
    assert message.content[0].text == text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == len(text) + 1
