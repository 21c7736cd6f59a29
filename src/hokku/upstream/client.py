"""Asks one model of another service, and reads what it answers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator
from typing import Literal

import httpx

from hokku.protocol.errors import HokkuError, Overloaded, UpstreamFailed
from hokku.protocol.events import ReplyEvent
from hokku.protocol.messages import MessagesRequest
from hokku.upstream.anthropic import AnthropicForm
from hokku.upstream.config import HttpRequest, UpstreamConfig
from hokku.upstream.form import Form, ReplyReader
from hokku.upstream.openai import OpenAiForm
from hokku.upstream.refusals import MAX_REFUSAL_BYTES, refusal, without_key
from hokku.upstream.reply import UpstreamReply
from hokku.upstream.sse import SseReader

FORMS: dict[Literal["anthropic", "openai"], type[Form]] = {"anthropic": AnthropicForm, "openai": OpenAiForm}
_HEADERS = {
    "accept": "text/event-stream",
    "accept-encoding": "identity",  # what is read is bounded, and so nothing may swell
    "content-type": "application/json",
    "user-agent": "hokku",
    # Two servers that name each other, or one that names itself, would hand a request back and forth.
    "hokku-fallback": "none",
}
_WRITE_SECS = 60.0
_KEEP_ALIVE_SECS = 30.0


class Upstream:
    """A model of another service. One for a server and its event loop; safe for many requests at once."""

    def __init__(self, form: Form, config: UpstreamConfig) -> None:
        self._form = form
        self._config = config
        self._client = httpx.AsyncClient(
            headers=_HEADERS,
            timeout=httpx.Timeout(config.connect_secs, read=config.read_secs, write=_WRITE_SECS),
            limits=httpx.Limits(max_connections=config.max_connections, keepalive_expiry=_KEEP_ALIVE_SECS),
            trust_env=False,  # neither a proxy nor a password of the operator's shell
            verify=ssl.create_default_context(),
        )

    async def reply(self, request: MessagesRequest) -> UpstreamReply:
        """Ask, and wait for the first event. The reply must be read to its end or closed with `cancel`.

        Raises `InvalidRequest` and `RequestTooLarge` for what the service or its form cannot take, `Overloaded` where
        it is overloaded or out of reach, `RateLimited`, and `UpstreamFailed` for all that only the operator can mend.
        """
        # Files make a body of many megabytes.
        asked = await asyncio.to_thread(self._form.http_request, request, self._config)
        reply = UpstreamReply(
            self._events(asked, self._form.reader(request, self._config)), self._config.model
        )
        await reply.begin()
        return reply

    async def close(self) -> None:
        """Close idle connections. Idempotent."""
        await self._client.aclose()

    async def _events(self, asked: HttpRequest, reader: ReplyReader) -> AsyncGenerator[list[ReplyEvent]]:
        url = f"{self._config.url}{asked.path}"
        content = await asyncio.to_thread(_encoded, asked.body)
        has_begun = False
        try:
            async with self._client.stream("POST", url, headers=asked.headers, content=content) as response:
                await self._check(response)
                sse = SseReader(self._config.max_event_bytes)
                num_bytes = 0
                async for data in response.aiter_raw():
                    num_bytes += len(data)
                    self._check_size(num_bytes)
                    for event in sse.feed(data):
                        if events := reader.read(event):
                            has_begun = True
                            yield events
                        if reader.has_ended:
                            return
                yield reader.finish()
        except httpx.HTTPError as cause:
            raise self._failure(cause, has_begun=has_begun) from cause

    async def _check(self, response: httpx.Response) -> None:
        """Raise what an answer that is no reply means."""
        if response.status_code != 200:
            body = await _beginning(response, MAX_REFUSAL_BYTES)
            retry_after = response.headers.get("retry-after", "")
            raise refusal(response.status_code, body, retry_after, self._config.key)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise UpstreamFailed("the service sent a compressed reply, which nobody asked for")
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "text/event-stream":
            raise UpstreamFailed("the service answered with something else than a stream of events")

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self._config.max_reply_bytes:
            raise UpstreamFailed(f"the service sent more than {self._config.max_reply_bytes} bytes")

    def _failure(self, cause: httpx.HTTPError, *, has_begun: bool) -> HokkuError:
        words = without_key(" ".join(str(cause).split()), self._config.key)
        reason = f"{type(cause).__name__}: {words}" if words else type(cause).__name__
        if has_begun:
            return UpstreamFailed(f"the service's reply broke off ({reason})")
        return Overloaded(f"the service cannot be reached ({reason})")


async def _beginning(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for data in response.aiter_raw():
        body += data
        if len(body) >= max_bytes:
            break
    return bytes(body[:max_bytes])


def _encoded(body: dict[str, object]) -> bytes:
    # Escaped to ASCII, since a client's text may hold half a surrogate pair, which UTF-8 has no form for.
    return json.dumps(body).encode()
