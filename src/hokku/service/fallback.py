"""Another model answers where the one that was named cannot, or is not to; never after a reply's first byte.

A `FallbackService` stands before the `MessagesService` where a model has a fallback. What it promises is in
docs/fallback.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from hokku.protocol.errors import HokkuError
from hokku.protocol.messages import Conversation, MessagesRequest
from hokku.registry.fallback import Fallback, LocalTarget
from hokku.service.fallback_reply import FallbackReply, reason_for
from hokku.service.fallback_rules import matches
from hokku.service.keys import Identity
from hokku.service.limits import check_output_limit
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.prompts import ReadPrompt
from hokku.service.replies import ReplyStream


class Upstream(Protocol):
    """A model of another service."""

    async def reply(self, request: MessagesRequest) -> ReplyStream:
        """Ask it; its first event is there on return. Raises `HokkuError`."""

    async def close(self) -> None:
        """Close idle connections. Idempotent."""


class FallbackService:
    """`Replies`, of which some come from another model than the one that was named.

    Args:
        messages: the models of this process.
        catalogue: theirs; a manifest in it says which model falls back, and when.
        upstreams: of those that fall back to another service, by their own id.
    """

    def __init__(
        self, messages: MessagesService, catalogue: Catalogue, upstreams: Mapping[str, Upstream]
    ) -> None:
        self._messages = messages
        self._catalogue = catalogue
        self._upstreams = dict(upstreams)

    async def read(self, request: MessagesRequest, identity: Identity) -> ReadPrompt | None:
        """See `ReadingReplies`."""
        fallback = self._fallback_of(request)
        if fallback is None:
            return await self._messages.read(request, identity)
        if any(matches(rule, request) for rule in fallback.rules):
            return None
        try:
            return await self._messages.read(request, identity)
        except HokkuError as error:
            if reason_for(error, fallback) is None:
                raise
            return None

    async def reply(
        self, request: MessagesRequest, identity: Identity, prompt: ReadPrompt | None = None
    ) -> ReplyStream:
        """See `ReadingReplies`. Only reading the first events settles who answers."""
        manifest = self._catalogue.manifest(request.model)
        fallback = self._fallback_of(request)
        if fallback is None:
            return await self._messages.reply(request, identity, prompt)
        check_output_limit(request.max_tokens, manifest)

        async def hand_on() -> ReplyStream:
            if isinstance(fallback.target, LocalTarget):
                return await self.reply(replace(request, model=fallback.target.model), identity)
            return await self._upstreams[manifest.id].reply(request)

        reply = FallbackReply(manifest.id, fallback, hand_on)
        if any(matches(rule, request) for rule in fallback.rules):
            reply.fall_back("rule")
            return reply
        try:
            prompt = prompt or await self._messages.read(request, identity)
            if any(matches(rule, request, prompt.num_tokens) for rule in fallback.rules):
                reply.fall_back("rule")
            else:
                reply.begin(await self._messages.reply(request, identity, prompt))
        except HokkuError as error:
            reply.fall_back_or_raise(error)
        return reply

    async def count(self, model_name: str, conversation: Conversation, identity: Identity) -> int:
        """See `Replies`: as the named model counts, whoever would answer."""
        return await self._messages.count(model_name, conversation, identity)

    def _fallback_of(self, request: MessagesRequest) -> Fallback | None:
        """None where there is none for this request. One that only fills the cache (`max_tokens` of 0) has nothing to
        gain from another model."""
        if not request.may_fall_back or request.max_tokens == 0:
            return None
        return self._catalogue.manifest(request.model).fallback
