"""A model behind a Messages server, for `hokku chat --server`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from hokku.protocol.errors import HokkuError, InvalidRequest, ServerUnreachable

API_VERSION = "2023-06-01"
_CONNECT_SECS = 5.0


class RemoteModel:
    """Streams replies from `POST /v1/messages`."""

    def __init__(self, url: str, model: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        self._model = model
        headers = {"anthropic-version": API_VERSION} | ({"x-api-key": key} if key else {})
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(None, connect=_CONNECT_SECS))

    def stream(
        self, prompt: list[dict[str, str]], *, system: str, max_tokens: int, temperature: float | None
    ) -> Iterator[str]:
        """The reply's text in pieces. Raises `ServerUnreachable`, or the server's own refusal."""
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": max_tokens,
            "messages": prompt,
            "stream": True,
        }
        body |= ({} if temperature is None else {"temperature": temperature}) | (
            {"system": system} if system else {}
        )
        try:
            with self._client.stream("POST", f"{self._url}/v1/messages", json=body) as response:
                if response.status_code != 200:
                    response.read()
                    raise _refusal(response)
                yield from _texts(response.iter_lines())
        except (httpx.TransportError, httpx.InvalidURL) as cause:
            way_out = "start one with hokku serve, or check the address"
            raise ServerUnreachable(f"no answer: {cause}", place=self._url, way_out=way_out) from cause

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _texts(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("data:"):
            continue
        event = json.loads(line.removeprefix("data:"))
        if event["type"] == "content_block_delta":
            yield event["delta"].get("text", "")
        elif event["type"] == "error":
            raise HokkuError(event["error"]["message"], place=event["error"]["type"])


def _refusal(response: httpx.Response) -> HokkuError:
    try:
        error = response.json()["error"]
        message = f"{error['type']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return ServerUnreachable(
            f"answered {response.status_code}, not as a Messages server", place=str(response.url)
        )
    if response.status_code == 401:
        return HokkuError(message, way_out="give the server's key with --key or HOKKU_API_KEY")
    return InvalidRequest(message) if response.status_code == 400 else HokkuError(message)
