"""Hokku as `hokku serve`, asked over HTTP."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.engines.http_load import Dialect, HttpSession, free_port
from benchmarks.engines.job import Needs, Prompt
from hokku.settings import variable

DEFAULT_SNAPSHOT = "claude-3-5-haiku-20241022"  # the default model by its dated id, which no alias moves
_HEADERS = {"anthropic-version": "2023-06-01"}


def _messages_body(prompt: Prompt, max_new_tokens: int, *, stream: bool) -> bytes:
    body: dict[str, Any] = {
        "model": DEFAULT_SNAPSHOT,
        "max_tokens": max_new_tokens,
        "temperature": 0,
        "stream": stream,
        "messages": [{"role": "user", "content": prompt.user}],
    }
    if prompt.system:
        body["system"] = prompt.system
    if prompt.labels:
        kept = {"type": "text", "text": prompt.system, "cache_control": {"type": "ephemeral"}}
        schema = {"type": "string", "enum": list(prompt.labels)}
        body["system"] = [kept]
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return json.dumps(body).encode()


def _label(body: bytes) -> str:
    """The JSON string that the reply's one block of text is."""
    (block,) = json.loads(body)["content"]
    label: str = json.loads(block["text"])
    return label


def _whole(prompt: Prompt, max_new_tokens: int) -> bytes:
    return _messages_body(prompt, max_new_tokens, stream=False)


def _streamed(prompt: Prompt, max_new_tokens: int) -> bytes:
    return _messages_body(prompt, max_new_tokens, stream=True)


_COUNTS = rb'"output_tokens":\s*(\d+)'
MESSAGES = Dialect("/v1/messages", "/readyz", _whole, _COUNTS, _label, _HEADERS)
STREAMED_MESSAGES = Dialect("/v1/messages", "/readyz", _streamed, _COUNTS, _label, _HEADERS)


def hokku_server(needs: Needs, log: Path, dialect: Dialect = MESSAGES) -> HttpSession:
    """`hokku serve` on a port of its own, open to this machine, with its defaults and nothing remembered."""
    port = free_port()
    data_dir = log.with_suffix(".data")
    shutil.rmtree(data_dir, ignore_errors=True)
    command = [sys.executable, "-m", "hokku", "serve", "--open", "--host", "127.0.0.1", "--port", str(port)]
    named = {
        "model": needs.model,
        "isa": needs.isa,
        "cache_dir": needs.cache_dir,
        "data_dir": str(data_dir),
    }
    environ = {variable(name): value for name, value in named.items() if value}
    return HttpSession(command, environ, port, dialect, log)
