"""`hokku.Engine`: the model in a script."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hokku import Engine
from hokku.embedded import conversation_of
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import Conversation, TextPart, Turn

# Without its second half the model's first token is a toss-up in float32 already (0.18 against 0.15); with it the
# likeliest leads by 1.5 nats, which no weights format turns over.
FRANCE = "What is the capital of France? Answer in one sentence."


@pytest.fixture(scope="module")
def engine(default_gguf: Path) -> Iterator[Engine]:
    with Engine.load(max_running=4) as engine:
        yield engine


@pytest.mark.model
def test_a_stream_is_the_reply_in_pieces(engine: Engine) -> None:
    reply = engine.generate(FRANCE, temperature=0, max_tokens=20)
    assert "Paris" in reply.text
    assert reply.stop_reason in ("end_turn", "max_tokens")
    pieces = list(engine.stream(FRANCE, temperature=0, max_tokens=20))
    assert "".join(pieces) == reply.text
    assert len(pieces) > 1


@pytest.mark.model
def test_the_same_request_gives_the_same_reply(engine: Engine) -> None:
    replies = {engine.generate("Write a line about the sea.", max_tokens=16).text for _ in range(3)}
    assert len(replies) == 1


@pytest.mark.model
def test_stops_prefill_and_system(engine: Engine) -> None:
    counting = [
        {"role": "user", "content": "Count to five."},
        {"role": "assistant", "content": "1, 2,"},
    ]
    reply = engine.generate(counting, system="You count.", temperature=0, max_tokens=20, stop=["4"])
    assert reply.text.strip().startswith("3")
    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", "4")


@pytest.mark.model
def test_leaving_a_stream_early_stops_it(engine: Engine) -> None:
    stream = engine.stream("Tell me a long story.", max_tokens=2000)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert engine.generate("Hello", max_tokens=2).usage.output_tokens == 2


@pytest.mark.model
def test_tokens_and_limits(engine: Engine) -> None:
    tokens = engine.tokenize("Hello")
    assert engine.generate("Hello", max_tokens=1).usage.input_tokens == len(tokens)
    assert engine.context_window_tokens >= 2048
    with pytest.raises(InvalidRequest, match="prompt is too long"):
        engine.generate("word " * 10_000, max_tokens=1)
    with pytest.raises(InvalidRequest, match="max_tokens"):
        engine.generate("Hello", max_tokens=0)


def test_plain_turns_become_a_conversation() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    assert conversation_of(turns, "s") == Conversation(
        (TextPart("s"),), (Turn("user", (TextPart("a"), TextPart("b"))), Turn("assistant", (TextPart("c"),)))
    )


@pytest.mark.parametrize(
    ("turns", "place"),
    [
        ([], "messages"),
        ([{"role": "system", "content": "x"}], "messages.0.role"),
        ([{"role": "user", "content": ""}], "messages.0.content"),
        ([{"role": "user"}], "messages.0.content"),
    ],
)
def test_malformed_turns_are_refused_by_place(turns: list[dict[str, str]], place: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        conversation_of(turns)
    assert refused.value.place == place


def test_importing_hokku_alone_is_cheap() -> None:
    code = "import sys, hokku; assert 'numpy' not in sys.modules; assert hokku.__version__"
    subprocess.run([sys.executable, "-c", code], check=True)
