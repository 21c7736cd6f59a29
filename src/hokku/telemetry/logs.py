"""Logs for people or for programs: one line a request, with its id, its durations and its tokens; never its text or a
key."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from hokku.protocol.exchange import Exchange

_log = logging.getLogger("hokku.requests")
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_MOST_PATH_CHARS = 200


def set_up_logs(level: str, form: str) -> None:
    """Send this process's logs to its standard error. `form` is `text` or `json`: one object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: `time`, `level`, `logger`, `message`, `exception`, and the fields it brings."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_exchange(exchange: Exchange) -> None:
    """One line, at level info."""
    if not _log.isEnabledFor(logging.INFO):
        return
    fields = _fields(exchange)
    message = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
    _log.info("%s", message, extra={"fields": fields})


def _fields(exchange: Exchange) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path[:_MOST_PATH_CHARS],
        "status": exchange.status,
        "duration_ms": _ms(exchange.secs),
    }
    if exchange.error_type is not None:
        fields["error_type"] = exchange.error_type
    if (reply := exchange.reply) is not None:
        usage = reply.usage
        fields |= {
            "model": reply.model_id,
            "outcome": exchange.outcome,
            "stop_reason": reply.stop_reason,
            "input_tokens": usage.prompt_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "output_tokens": usage.output_tokens,
            "first_token_ms": _ms(exchange.first_token_secs),
            "user_id": reply.asked.user_id,
        }
    return {name: value for name, value in fields.items() if value is not None}


def _ms(secs: float | None) -> float | None:
    return None if secs is None else round(secs * 1e3, 1)


def _shown(value: object) -> str:
    """A value without a line break or anything else that could pass for another field."""
    text = str(value)
    return text if text.isprintable() and not set(text) & set(" \"'=") else json.dumps(text)
