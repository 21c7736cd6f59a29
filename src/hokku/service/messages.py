"""Stop 2 of a request: a wire's `MessagesRequest` becomes a generation, and its tokens become reply events.

Comes from stop 1, `api/anthropic/routes.py`; goes on to stop 3, the model's codec (`chat/codec.py`), and stop
4, its engine (`engine/engine.py`). On the way back tokens become text here, stop sequences end the
generation, and usage is counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from hokku.protocol.engine import (
    CachePoint,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    Priority,
    RequestHandle,
    Sampling,
    Started,
    TokenConstraint,
)
from hokku.protocol.errors import HokkuError, Overloaded
from hokku.protocol.events import (
    ReplyEnd,
    ReplyEvent,
    ReplyStart,
    StopReason,
    Usage,
)
from hokku.protocol.messages import Conversation, MessagesRequest, SamplingParameters
from hokku.protocol.scope import working_for
from hokku.service.attachments import Attachments
from hokku.service.bridge import Arrivals, Inbox, LoopBridge
from hokku.service.citing import Citer, CitingDecoder
from hokku.service.ids import message_id
from hokku.service.keys import Identity
from hokku.service.limits import (
    SAMPLE_CHARS,
    beginning,
    check_output_limit,
    check_room,
    check_window,
    is_far_beyond,
    num_chars,
)
from hokku.service.models import Catalogue, ReplyDecoder, ServedModel
from hokku.service.prompt_cache import cache_points, prompt_usage
from hokku.service.prompts import ReadPrompt
from hokku.service.reply_blocks import BlockPiece, ReplyBlocks

T = TypeVar("T")

# Tokenising this much text takes about a millisecond; more goes to a thread so that other streams keep
# flowing.
MAX_INLINE_CHARS = 2_000
# Long prompts tokenised at the same time; more would only take cores from the engine.
MAX_PARALLEL_ENCODES = 2


class SamplingSeed(StrEnum):
    """Where a reply's seed comes from where the request names none, as no request of Messages can."""

    REQUEST = "request"  # a hash of the prompt and the sampling parameters: the same request, the same reply
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class MessagesConfig:
    """Settings of this room."""

    sampling_seed: SamplingSeed = SamplingSeed.REQUEST
    # Whether a request that names no sampling parameter is drawn as the model's manifest advises; the hosted
    # service always took temperature 1.
    follows_manifest_sampling: bool = True
    # Whether `max_tokens` has to fit the window beside the prompt; otherwise the reply just ends at the window.
    reply_must_fit: bool = False
    # Replies of batches wait for everybody else's.
    priority: Priority = Priority.INTERACTIVE


class MessagesService:
    """Replies to conversations, and counts their tokens."""

    def __init__(
        self,
        catalogue: Catalogue,
        config: MessagesConfig | None = None,
        attachments: Attachments | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._attachments = attachments or Attachments()
        self._config = config or MessagesConfig()
        self._bridge: LoopBridge | None = None
        self._encode_slots = asyncio.Semaphore(MAX_PARALLEL_ENCODES)

    async def close(self) -> None:
        """Let go of what waits for requests."""
        await self._attachments.close()

    async def read(self, request: MessagesRequest, identity: Identity) -> ReadPrompt:
        """The prompt of a reply to come, whether or not it fits the window.

        Raises `NotFound` for an unknown model, `InvalidRequest` for `max_tokens` over the model's limit or something
        attached that cannot be read, `ModelLoading`.
        """
        with working_for(identity.workspace_id):
            return await self._read(request, identity)

    async def reply(
        self, request: MessagesRequest, identity: Identity, prompt: ReadPrompt | None = None
    ) -> LocalReply:
        """Start a reply. The stream must be read to its end or closed with `cancel`.

        Args:
            request: what is asked.
            identity: on whose behalf.
            prompt: what `read` has given for this request; without it, it is read now.

        Raises what `read` raises, `PromptTooLong` where the model's window has no room, `InvalidRequest` for a schema
        that cannot be compiled, `Overloaded` when the queue is full.
        """
        with working_for(identity.workspace_id):
            return await self._reply(request, identity, prompt or await self._read(request, identity))

    async def count(self, model_name: str, conversation: Conversation, identity: Identity) -> int:
        """How many tokens the prompt has, whether or not it fits the window. Raises like `reply`."""
        model = self._catalogue.resolve(model_name)
        with working_for(identity.workspace_id):
            return await self._count(await self._attached(conversation, model, identity), model)

    async def _read(self, request: MessagesRequest, identity: Identity) -> ReadPrompt:
        model = self._catalogue.resolve(request.model)
        check_output_limit(request.max_tokens, model.manifest)
        conversation = await self._attached(request.conversation, model, identity)
        if is_far_beyond(conversation, model):
            return ReadPrompt(model, conversation, await self._count(conversation, model), encoded=None)
        encoded = await self._off_loop(conversation, model.codec.encode)
        return ReadPrompt(model, conversation, len(encoded.token_ids), encoded)

    async def _attached(
        self, conversation: Conversation, model: ServedModel, identity: Identity
    ) -> Conversation:
        return await self._attachments.read(conversation, model.manifest, identity, model.codec.tiling)

    async def _reply(self, request: MessagesRequest, identity: Identity, prompt: ReadPrompt) -> LocalReply:
        model, conversation, encoded = prompt.model, prompt.conversation, prompt.encoded
        check_window(prompt.num_tokens, model)
        assert encoded is not None, "an estimate is always beyond the window"
        if self._config.reply_must_fit and not request.window_overrun_allowed:
            check_room(prompt.num_tokens, request.max_tokens, model)
        constraint = await self._constraint(conversation, model, prefill=encoded.prefill)
        decoder = await self._decoder(request, conversation, model, prefill=encoded.prefill)
        has_stops = bool(request.stop_sequences)
        points = cache_points(encoded.blocks, model.manifest.min_cache_tokens)
        # The engine goes on until a stop sequence has been seen here, so those replies are read at once.
        inbox = Inbox(self._bridge_of_this_loop(), is_patient=not has_stops)
        generation = GenerationRequest(
            prompt=encoded.token_ids,
            max_new_tokens=request.max_tokens,
            sampling=self._sampling(request, model, encoded.token_ids),
            stop_token_ids=encoded.stop_token_ids,
            priority=self._config.priority,
            cache_scope=identity.workspace_id,
            constraint=constraint,
            cache_points=points,
            tiles=encoded.tiles,
        )
        handle = model.engine.submit(generation, inbox.sink)
        start = ReplyStart(message_id(), model.id, Usage(input_tokens=prompt.num_tokens, output_tokens=1))
        overrun = request.window_overrun_allowed
        return LocalReply(
            start,
            points,
            inbox,
            handle,
            decoder,
            has_stops=has_stops,
            is_cited=conversation.asks_for_citations,
            window_overrun=overrun,
        )

    async def _count(self, conversation: Conversation, model: ServedModel) -> int:
        """Where the text is so long that it cannot fit, the count is extrapolated from its beginning."""
        if not is_far_beyond(conversation, model):
            return await self._off_loop(conversation, model.codec.count)
        sample = beginning(conversation, SAMPLE_CHARS)
        num_sample_tokens = await self._off_loop(sample, model.codec.count)
        scale = num_chars(conversation) / num_chars(sample)
        return max(int(num_sample_tokens * scale), model.context_window_tokens + 1)

    async def _off_loop(self, conversation: Conversation, work: Callable[[Conversation], T]) -> T:
        if num_chars(conversation) <= MAX_INLINE_CHARS:
            return work(conversation)
        async with self._encode_slots:
            return await asyncio.to_thread(work, conversation)

    async def _constraint(
        self, conversation: Conversation, model: ServedModel, *, prefill: bool
    ) -> TokenConstraint | None:
        """What the reply may be. Compiling takes long, however short the schemas."""
        if not conversation.tools and conversation.output_schema is None:
            return None
        async with self._encode_slots:
            return await asyncio.to_thread(model.codec.constraint, conversation, prefill=prefill)

    async def _decoder(
        self, request: MessagesRequest, conversation: Conversation, model: ServedModel, *, prefill: bool
    ) -> ReplyDecoder:
        decoder = model.codec.decoder(
            request.stop_sequences,
            prefill=prefill,
            tool_names=[tool.name for tool in conversation.callable_tools],
            is_forced=conversation.tool_choice.is_forced,
        )
        if not conversation.asks_for_citations:
            return decoder
        return CitingDecoder(decoder, await self._off_loop(conversation, Citer))

    def _sampling(self, request: MessagesRequest, model: ServedModel, prompt: Sequence[int]) -> Sampling:
        asked = request.sampling
        if asked is None:
            advised = self._config.follows_manifest_sampling
            asked = model.manifest.sampling if advised else SamplingParameters()
        unseeded = Sampling(asked.temperature, asked.top_p, asked.top_k)
        if self._config.sampling_seed is SamplingSeed.RANDOM and request.seed is None:
            return replace(unseeded, seed=secrets.randbits(64))
        return replace(unseeded, seed=seed_of(model.id, prompt, unseeded, request.seed))

    def _bridge_of_this_loop(self) -> LoopBridge:
        loop = asyncio.get_running_loop()
        if self._bridge is None or self._bridge.loop is not loop:
            self._bridge = LoopBridge(loop)
        return self._bridge


class LocalReply(AsyncIterator[ReplyEvent]):
    """A reply of an engine of ours, as a `ReplyStream`. Read it one event at a time, or all that is ready with
    `next_events`."""

    def __init__(
        self,
        start: ReplyStart,
        points: Sequence[CachePoint],
        inbox: Inbox,
        handle: RequestHandle,
        decoder: ReplyDecoder,
        *,
        has_stops: bool,
        is_cited: bool,
        window_overrun: bool,
    ) -> None:
        self.is_finished = False
        self._start = start  # as if nothing of the prompt was cached, until the engine tells
        self._points = points
        self._inbox = inbox
        self._handle = handle
        self._decoder = decoder
        self._has_stops = has_stops
        self._is_cited = is_cited
        self._window_overrun = window_overrun
        self._has_started = False
        self._num_output_tokens = 0
        self._blocks = ReplyBlocks()
        self._failure: HokkuError | None = None
        self._ready: list[ReplyEvent] = []

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """Every event that is ready, at least one; none when `timeout_secs` pass first, or after `cancel`.

        Raises the engine's error if it failed, and `Overloaded` if it was shut down.
        """
        while not self.is_finished:
            if self._failure:
                self.is_finished = True
                raise self._failure
            arrivals = await self._inbox.take(timeout_secs)
            start = self._started(arrivals.started)
            rest = self._deltas(arrivals.token_ids)
            rest += self._ending(arrivals.final)
            # A failure waits until the text before it has been read, but not for a bare start: a wire can still
            # answer with an ordinary error then.
            if rest or not self._failure:
                events = [*start, *rest]
                if events or not arrivals:
                    return events
        return []

    async def all_events(self) -> list[ReplyEvent]:
        """Every event from here to the end. Where neither a stop sequence has to be looked for nor sentences have to
        be looked up, which is better done while the engine works, nothing is done before the end. Without a
        `ReplyEnd` after `cancel`; raises like `next_events`.
        """
        self._inbox.waits_for_end = not (self._has_stops or self._is_cited)
        events: list[ReplyEvent] = []
        while not self.is_finished:
            events += await self.next_events()
        return events

    @property
    def model_id(self) -> str:
        """The model that answers."""
        return self._start.model

    @property
    def rate_levels(self) -> None:
        """Nobody looked here."""

    @property
    def fallback_reason(self) -> None:
        """It is the model that was named."""

    @property
    def usage(self) -> Usage:
        """Tokens read and generated so far; none before the request's turn has come."""
        if not self._has_started:
            return Usage(input_tokens=0, output_tokens=0)
        return replace(self._start.usage, output_tokens=self._num_output_tokens)

    def cancel(self) -> None:
        """Stop at the engine's next step, which frees the pages; what was not yet read is dropped.

        Idempotent; harmless after the end.
        """
        if not self.is_finished:
            self._leave(self._inbox.take_now())
        self.is_finished = True
        self._ready.clear()
        self._handle.cancel()
        self._inbox.wake_reader()

    async def __anext__(self) -> ReplyEvent:
        while not self._ready:
            if self.is_finished:
                raise StopAsyncIteration
            self._ready = await self.next_events()
        return self._ready.pop(0)

    async def aclose(self) -> None:
        """The async iterator's own word for `cancel`."""
        self.cancel()

    def _started(self, started: Started | None) -> list[ReplyEvent]:
        if started is None:
            return []
        self._has_started = True
        usage = prompt_usage(self._points, self._start.usage.prompt_tokens, started.cache_read_tokens)
        self._start = replace(self._start, usage=replace(usage, output_tokens=1))
        return [self._start]

    def _leave(self, arrivals: Arrivals) -> None:
        """What nobody will read was made all the same."""
        self._started(arrivals.started)
        self._num_output_tokens += len(arrivals.token_ids)

    def _deltas(self, token_ids: Sequence[int]) -> list[ReplyEvent]:
        """Everything that has become certain since the last reading, in as few deltas as it takes."""
        if not self._has_stops:
            self._num_output_tokens += len(token_ids)
            return self._blocks.events_of(self._decoder.feed(token_ids))
        pieces: list[BlockPiece] = []
        for token_id in token_ids:
            # One at a time, so that the count ends exactly at the token that completed a stop sequence.
            pieces += self._decoder.feed((token_id,))
            self._num_output_tokens += 1
            if self._decoder.stop_sequence is not None:
                break
        return self._blocks.events_of(pieces)

    def _ending(self, final: Finished | Failed | None) -> list[ReplyEvent]:
        """The last events, if this is the end."""
        if self.is_finished:  # cancelled while waiting
            return []
        if self._decoder.stop_sequence is not None:
            self._handle.cancel()
            return self._end("stop_sequence")
        match final:
            case None:
                pass
            case Failed(error=error):
                self._failure = error
            case Finished(reason=FinishReason.CANCELLED):
                self._failure = Overloaded("The server is shutting down")
            case Finished(reason=reason):
                return self._finish(reason)
        return []

    def _finish(self, reason: FinishReason) -> list[ReplyEvent]:
        if reason is FinishReason.STOP_TOKEN:
            self._num_output_tokens += 1  # generated like the others, though it is no part of the text
        last = self._blocks.events_of(self._decoder.finish())
        if self._decoder.stop_sequence is not None:
            return [*last, *self._end("stop_sequence")]
        return [*last, *self._end(self._stop_reason(reason))]

    def _stop_reason(self, reason: FinishReason) -> StopReason:
        if reason is FinishReason.STOP_TOKEN:
            return "tool_use" if self._blocks.num_calls else "end_turn"
        if reason is FinishReason.CONTEXT_WINDOW and self._window_overrun:
            return "model_context_window_exceeded"
        return "max_tokens"

    def _end(self, stop_reason: StopReason) -> list[ReplyEvent]:
        self.is_finished = True
        return [*self._blocks.close(), ReplyEnd(stop_reason, self._decoder.stop_sequence, self.usage)]


def seed_of(model_id: str, prompt: Sequence[int], sampling: Sampling, asked: int | None = None) -> int:
    """64 bits that are the same for the same model, prompt, sampling parameters and seed that the client has `asked`
    for, on every machine.

    `max_tokens` and stop sequences stay out of it: a longer reply begins with the shorter one.
    """
    digest = hashlib.blake2b(digest_size=8)
    named = (model_id, sampling.temperature, sampling.top_p, sampling.top_k)
    digest.update(repr(named if asked is None else (*named, asked)).encode())
    digest.update(array("i", prompt).tobytes())  # little-endian on every machine Hokku runs on
    return int.from_bytes(digest.digest(), "little")
