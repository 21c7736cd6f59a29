"""Google's exchange of tokens, for clients that get theirs from Google's own library (RFC 8693).

Such a client reads a file of credentials, whose `token_url` may be any server's. What it shows there is a key of ours,
and what it is given for it is the same key, to be sent as its bearer token.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from hokku.api.body import receive_body
from hokku.service.keys import KeyRing

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 16 * 1024
MAX_FIELDS = 20
LIFETIME_SECS = 3600  # the key is looked at with every request; this only says when the client asks again


class TokenExchange:
    """The endpoint."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def exchange(self, request: Request) -> Response:
        """`POST /v1/token`. What it does not need, such as `audience` and `scope`, is not looked at."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            return _refusal("invalid_request", f"content-type: Input should be '{FORM}'")
        body = await receive_body(request, MAX_FORM_BYTES)
        try:
            form = parse_qs(body.decode("utf-8"), errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError:
            return _refusal("invalid_request", "the form cannot be read")
        if form.get("grant_type") != [EXCHANGE]:
            return _refusal("unsupported_grant_type", f"grant_type: Input should be '{EXCHANGE}'")
        match form.get("subject_token"):
            case [token] if await self._keys.identify(token) is not None:
                return _granted(token)
        return _refusal("invalid_grant", "subject_token: it has to be an API key of this server")


def _granted(token: str) -> Response:
    granted = {
        "access_token": token,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": LIFETIME_SECS,
    }
    return Response(json.dumps(granted), 200, {"cache-control": "no-store"}, "application/json")


def _refusal(error: str, description: str) -> Response:
    """An error as RFC 6749 has it, section 5.2."""
    return Response(
        json.dumps({"error": error, "error_description": description}), 400, media_type="application/json"
    )
