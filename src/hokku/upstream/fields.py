"""Members of JSON that somebody else sent: what is not of the expected kind counts as absent."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from hokku.protocol.errors import UpstreamFailed

Json = dict[str, Any]
_MOST_TOKENS = 10**12
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NAME = re.compile(r"[\x21-\x7e]{1,200}")


def object_of(text: str) -> Json:
    """The JSON object that `text` is. Raises `UpstreamFailed`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise UpstreamFailed("the service sent an event that is no JSON") from cause
    if not isinstance(value, dict):
        raise UpstreamFailed("the service sent an event that is no JSON object")
    return value


def object_in(value: object, key: str) -> Json:
    """An object; empty where there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def list_in(value: Json, key: str) -> list[Any]:
    """An array; empty where there is none."""
    found = value.get(key)
    return found if isinstance(found, list) else []


def text_in(value: Json, key: str) -> str:
    """A string; "" where there is none."""
    found = value.get(key)
    return found if isinstance(found, str) else ""


def index_in(value: Json, key: str) -> int | None:
    """A whole number; None where there is none."""
    found = value.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def count_in(value: Json, key: str) -> int:
    """How many tokens; 0 where nothing is said."""
    found = index_in(value, key)
    return min(max(found or 0, 0), _MOST_TOKENS)


def model_in(value: Json, otherwise: str) -> str:
    """The model that the service says it is. It goes into a header and into the log, so it has to be one word."""
    name = text_in(value, "model")
    return name if _NAME.fullmatch(name) else otherwise


def id_in(value: Json, prefix: str) -> str:
    """The id of a message or a call, with `prefix` if it lacks it; a new one where there is none that a client could
    send back."""
    found = text_in(value, "id")
    if not _ID.fullmatch(found):
        return f"{prefix}{secrets.token_hex(12)}"
    return found if found.startswith(prefix) else f"{prefix}{found}"
