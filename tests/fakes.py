"""A tiny engine and codec for tests of everything above them: bytes for tokens, a script for a model.

`FakeEngine` follows the `Engine` port to the letter, thread, cancellation and final events included; only its
tokens are scripted. With `step_secs` a test slows it down; its statistics show what is still held.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hokku.chat.attachments import written_out
from hokku.chat.calls import CallParser
from hokku.chat.formats.plain import PLAIN, as_text
from hokku.chat.messages import text_of
from hokku.protocol.engine import (
    CachePoint,
    EngineStats,
    EventSink,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    PromptTile,
    Started,
    Tokens,
)
from hokku.protocol.errors import HokkuError, InvalidRequest, Overloaded
from hokku.protocol.events import ReplyPiece
from hokku.protocol.messages import Conversation
from hokku.protocol.pictures import Tiling
from hokku.registry.manifest import LocalWeights, Manifest
from hokku.service.models import ServedModel

END_OF_TURN = 256
MODEL_ID = "claude-3-5-haiku-20241022"
ALIAS = "claude-3-5-haiku-latest"


@dataclass(frozen=True)
class Script:
    """What the fake model says: `tokens`, unless `error` strikes after `error_after` of them."""

    tokens: Sequence[int]
    error: HokkuError | None = None
    error_after: int = 0
    starts: bool = True  # False: stays in the queue for ever


def says(text: str) -> Callable[[GenerationRequest], Script]:
    """A model that answers everything with `text`."""
    return lambda _request: Script([*text.encode(), END_OF_TURN])


@dataclass(eq=False)
class _Running:
    request: GenerationRequest
    sink: EventSink
    script: Script
    num_generated: int = 0
    has_started: bool = False
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class FakeEngine:
    """One token a request a step, on a thread of its own."""

    script: Callable[[GenerationRequest], Script] = field(default_factory=lambda: says("Hello, world!"))
    context_window_tokens: int = 1000
    step_secs: float = 0.0
    max_requests: int = 100
    requests: list[GenerationRequest] = field(default_factory=list)
    num_steps: int = 0

    def __post_init__(self) -> None:
        self._incoming: deque[_Running] = deque()
        self._running: list[_Running] = []
        self._entries: set[tuple[str, tuple[int, ...]]] = set()
        self._work = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="fake-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, sink: EventSink) -> _Running:
        if not request.prompt or len(request.prompt) > self.context_window_tokens:
            raise InvalidRequest("the prompt is empty or does not fit the window")
        if len(self._incoming) + len(self._running) >= self.max_requests:
            raise Overloaded("Overloaded")
        self.requests.append(request)
        running = _Running(request, sink, self.script(request))
        self._incoming.append(running)
        self._work.set()
        return running

    def stats(self) -> EngineStats:
        num_running = len(self._running)
        return EngineStats(
            len(self._incoming),
            num_running,
            self.max_requests,
            self.max_requests - num_running,
            0,
            self.num_steps,
        )

    def close(self) -> None:
        self._is_closed = True
        self._work.set()
        self._thread.join()

    def _run(self) -> None:
        pause = threading.Event()
        while not self._is_closed:
            if not self._incoming and not self._running:
                self._work.wait(1)
                self._work.clear()
            while self._incoming:
                self._running.append(self._incoming.popleft())
            self._running = [each for each in self._running if not self._step(each)]
            self.num_steps += 1
            pause.wait(self.step_secs)
        for each in [*self._running, *self._incoming]:
            each.sink(Finished(FinishReason.CANCELLED))

    def _step(self, running: _Running) -> bool:
        """One step of one request; True when that was its last."""
        final = self._final(running)
        if final is not None:
            running.sink(final)
            return True
        if not running.script.starts:
            return False
        if not running.has_started:
            running.has_started = True
            running.sink(Started(cached_tokens=0, cache_read_tokens=self._read_cache(running.request)))
            return False
        running.sink(Tokens((running.script.tokens[running.num_generated],)))
        running.num_generated += 1
        return False

    def _read_cache(self, request: GenerationRequest) -> int:
        """The end of the longest entry at one of the request's points; the request writes its own."""
        prompt = tuple(request.prompt)
        points = [
            (point, (request.cache_scope, prompt[: point.num_tokens])) for point in request.cache_points
        ]
        found = [point.num_tokens for point, entry in points if entry in self._entries]
        self._entries |= {entry for point, entry in points if point.lifetime_secs is not None}
        return max(found, default=0)

    def _final(self, running: _Running) -> Finished | Failed | None:
        request, script, generated = running.request, running.script, running.num_generated
        if running.is_cancelled:
            return Finished(FinishReason.CANCELLED)
        if not running.has_started:
            return Failed(script.error) if script.error and script.error_after < 0 else None
        if script.error and generated >= script.error_after:
            return Failed(script.error)
        if generated >= request.max_new_tokens:
            return Finished(FinishReason.MAX_TOKENS)
        if len(request.prompt) + generated >= self.context_window_tokens:
            return Finished(FinishReason.CONTEXT_WINDOW)
        if script.tokens[generated] in request.stop_token_ids:
            return Finished(FinishReason.STOP_TOKEN)
        return None


@dataclass(frozen=True)
class BytePrompt:
    """A prompt of bytes."""

    token_ids: Sequence[int]
    prefill: bool = False
    stop_token_ids: frozenset[int] = frozenset({END_OF_TURN})
    blocks: Sequence[CachePoint] = ()
    tiles: tuple[PromptTile, ...] = ()


class ByteCodec:
    """UTF-8 bytes as tokens; turns as lines. A picture is a question mark, and so is the gap of a plain text."""

    tiling: Tiling | None = None

    def encode(self, conversation: Conversation) -> BytePrompt:
        if conversation.is_plain:
            pieces = [text_of([part]) for part in conversation.turns[0].parts]
            return BytePrompt(list("?".join(pieces).encode()), True)
        prompt = b""
        blocks = [CachePoint(0, tool.cache_secs) for tool in conversation.shown_tools]
        conversation = written_out(conversation)
        shown = as_text(conversation)
        for part in shown.system:
            prompt += f"system: {part.text}".encode()
            blocks.append(CachePoint(len(prompt), part.cache_secs))
            prompt += b"\n"
        for turn, original in zip(shown.turns, conversation.turns, strict=True):
            prompt += f"{turn.role}: ".encode()
            for place, (each, asked) in enumerate(zip(turn.parts, original.parts, strict=False)):
                prompt += f"{' ' if place else ''}{text_of([each])}".encode(
                    errors="replace"
                )  # pictures' marks
                blocks.append(CachePoint(len(prompt), asked.cache_secs))
            prompt += b"\n"
        is_marked = any(block.lifetime_secs for block in blocks)
        return BytePrompt(list(prompt), blocks=blocks if is_marked else ())

    def count(self, conversation: Conversation) -> int:
        return len(self.encode(conversation).token_ids)

    def constraint(self, conversation: Conversation, *, prefill: bool) -> None:
        """The fake engine says what its script says."""

    def decoder(
        self, stop_sequences: Sequence[str], *, prefill: bool, tool_names: Collection[str], is_forced: bool
    ) -> ByteDecoder:
        return ByteDecoder(tuple(stop_sequences), tool_names, is_forced)


class ByteDecoder:
    """Holds back half characters, and text that may become a stop sequence; calls are in the plain format."""

    def __init__(self, stop_sequences: tuple[str, ...], tool_names: Collection[str], is_forced: bool) -> None:
        self.stop_sequence: str | None = None
        self._stops = stop_sequences
        self._pending = b""
        self._held = ""
        self._calls = CallParser(PLAIN.syntax, tool_names, is_forced=is_forced) if tool_names else None

    def feed(self, token_ids: Sequence[int]) -> list[ReplyPiece]:
        self._pending += bytes(token_ids)
        try:
            text = self._pending.decode()
        except UnicodeDecodeError:
            return []
        self._pending = b""
        if self._calls is not None:
            return self._calls.feed(text)
        self._held += text
        return [released] if (released := self._release()) else []

    def finish(self) -> list[ReplyPiece]:
        if self._calls is not None:
            return self._calls.finish()
        text, self._held = self._held + self._pending.decode(errors="replace"), ""
        return [text] if text else []

    def _release(self) -> str:
        met = [(self._held.index(stop), stop) for stop in self._stops if stop in self._held]
        if met:
            at, self.stop_sequence = min(met)
            text, self._held = self._held[:at], ""
            return text
        for length in range(len(self._held), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                text, self._held = self._held[:-length], tail
                return text
        text, self._held = self._held, ""
        return text


def fake_manifest(
    model_id: str = MODEL_ID, *, year: int = 2024, window_tokens: int = 200_000, min_cache_tokens: int = 32
) -> Manifest:
    """The default model's manifest, as far as callers see it."""
    return Manifest(
        id=model_id,
        display_name="Claude Haiku 3.5",
        description="a fake",
        line="haiku",
        created_at=datetime(year, 10, 22, tzinfo=UTC),
        aliases=(),
        context_window_tokens=window_tokens,
        max_output_tokens=8192,
        weights=LocalWeights(Path("fake.gguf")),
        min_cache_tokens=min_cache_tokens,
    )


def fake_model(
    engine: FakeEngine, manifest: Manifest | None = None, tiling: Tiling | None = None
) -> ServedModel:
    """The fake engine and codec as a served model; with a tiling, as one that sees."""
    codec = ByteCodec()
    codec.tiling = tiling
    return ServedModel(manifest or fake_manifest(), codec, engine)
