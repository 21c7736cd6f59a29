"""Replies within the limits: each takes its share before it is queued, and gives back what it did not use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hokku.protocol.errors import StorageUnavailable
from hokku.protocol.events import Usage
from hokku.protocol.messages import Conversation, MessagesRequest
from hokku.protocol.records import Outcome, RateLevels
from hokku.registry.manifest import Manifest
from hokku.service.keys import Identity
from hokku.service.limits import estimated_tokens
from hokku.service.passing import WatchedReply
from hokku.service.rate_limits import Permit, RateLimits
from hokku.service.replies import ReadingReplies, ReplyStream

_log = logging.getLogger(__name__)
_NOTHING = Usage(input_tokens=0, output_tokens=0)


class LimitedReplies:
    """The same replies, as far as the rules let them in.

    Args:
        manifest_of: a model's manifest. Raises `NotFound`.
    """

    def __init__(
        self, replies: ReadingReplies, limits: RateLimits, manifest_of: Callable[[str], Manifest]
    ) -> None:
        self._replies = replies
        self._limits = limits
        self._manifest_of = manifest_of
        self._settling: set[asyncio.Task[None]] = set()

    async def reply(self, request: MessagesRequest, identity: Identity) -> ReplyStream:
        """See `Replies`. Raises `RateLimited` too, and `InvalidRequest` where the month's money is spent."""
        model_id = self._manifest_of(request.model).id
        prompt, num_prompt_tokens = None, 0
        if await self._limits.limits_input(identity, model_id):
            prompt = await self._replies.read(request, identity)
            num_prompt_tokens = prompt.num_tokens if prompt else estimated_tokens(request.conversation)
        permit = await self._limits.admit(identity, model_id, num_prompt_tokens, request.max_tokens)
        try:
            stream = await self._replies.reply(request, identity, prompt)
        except BaseException:
            self._settle(permit, _NOTHING)
            raise
        return LimitedReply(stream, permit, self._settle)

    async def count(self, model_name: str, conversation: Conversation, identity: Identity) -> int:
        """See `Replies`; counting has no limit."""
        return await self._replies.count(model_name, conversation, identity)

    def _settle(self, permit: Permit, usage: Usage) -> None:
        """In the background: nobody waits for it, and a client that has left cannot stop it."""
        task = asyncio.get_running_loop().create_task(_settled(permit, usage))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)


class LimitedReply(WatchedReply):
    """A reply that settles for what it used when it ends, however it ends."""

    def __init__(self, stream: ReplyStream, permit: Permit, settle: Callable[[Permit, Usage], None]) -> None:
        super().__init__(stream)
        self._permit = permit
        self._settle = settle

    @property
    def rate_levels(self) -> RateLevels:
        """See `ReplyStream`."""
        return self._permit.levels

    def _ended(self, outcome: Outcome) -> None:
        self._settle(self._permit, self.usage)


async def _settled(permit: Permit, usage: Usage) -> None:
    try:
        await permit.settle(usage)
    except StorageUnavailable as cause:
        _log.warning("a request's share of the rate limits was not settled: %s", cause)
