"""The service over a model that is already open."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hokku.opening import OpenedModel
from hokku.protocol.events import Reply, ReplyStart, fold
from hokku.protocol.messages import Conversation, MessagesRequest
from hokku.service.keys import Identity
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue

MIN_TOKENS = 24


class Desk:
    """The service over a model, for one caller after another. A context manager, as its event loop has to be closed."""

    def __init__(self, opened: OpenedModel) -> None:
        manifest = replace(opened.served.manifest, min_cache_tokens=MIN_TOKENS)
        catalogue = Catalogue([manifest], {})
        catalogue.put(replace(opened.served, manifest=manifest))
        self.model = manifest.id
        self.service = MessagesService(catalogue)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def reply(
        self, conversation: Conversation, workspace: str, max_tokens: int = 4
    ) -> tuple[ReplyStart, Reply]:
        async def ask() -> tuple[ReplyStart, Reply]:
            request = MessagesRequest(self.model, conversation, max_tokens)
            stream = await self.service.reply(request, Identity(workspace_id=workspace))
            events = await stream.all_events()
            assert isinstance(events[0], ReplyStart)
            return events[0], fold(events)

        return self._runner.run(ask())

    def count(self, conversation: Conversation) -> int:
        return self._runner.run(self.service.count(self.model, conversation, Identity()))
