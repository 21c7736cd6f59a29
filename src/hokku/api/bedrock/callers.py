"""Who calls: a signature, or a bearer key (wire.md section 16.1).

A signature covers the body, so that both are read here. Whatever can be refused without the body is refused before it
is received.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from starlette.requests import Request

from hokku.api.bedrock.sigv4 import (
    SentRequest,
    Signature,
    check_claims,
    check_signature,
    is_signed,
    read_signature,
)
from hokku.api.body import receive_body
from hokku.api.credentials import bearer_token
from hokku.protocol.errors import AuthenticationFailed
from hokku.protocol.records import LedgerEntry
from hokku.service.booking import booked_if_refused
from hokku.service.keys import AccessPair, Identity, KeyRing

SERVICE = "bedrock"
DEFAULT_REGION = "us-east-1"  # in the names of things, where no signature says another

# What AWS's token generators make of a signature: a presigned request of this kind, in base64 behind this prefix.
SHORT_TERM_PREFIX = "bedrock-api-key-"
_SHORT_TERM_HOST = "bedrock.amazonaws.com"
_SHORT_TERM_ACTION = b"Action=CallWithBearerToken"
_VERSION_OF_TOKEN = b"&Version=1"  # put behind what is signed
_MAX_SHORT_TERM = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose sender is known."""

    identity: Identity
    body: bytes
    region: str


async def read_call(
    request: Request,
    keys: KeyRing,
    max_bytes: int,
    book: Callable[[LedgerEntry], None] = lambda _entry: None,
) -> Call:
    """Who calls, with which body. Raises `AuthenticationFailed`, `RequestTooLarge`, `StorageUnavailable`.

    A body that is too large is booked to whoever has shown a key; whose signature it is was not seen without the body.
    """
    sent = _sent(request)
    if not is_signed(sent):
        identity = await _identify_bearer(bearer_token(request.headers), keys)
        with booked_if_refused(book, request.scope["hokku.request_id"], identity):
            return Call(identity, await receive_body(request, max_bytes), DEFAULT_REGION)
    signature = read_signature(sent)
    check_claims(signature, sent, SERVICE, datetime.now(UTC))
    pair = await _pair(signature, keys)
    body = await receive_body(request, max_bytes)
    if pair is not None:
        check_signature(signature, sent, body, pair.secret)
    return Call(await _identity(pair, keys), body, signature.region)


async def _identify_bearer(token: str | None, keys: KeyRing) -> Identity:
    if token is not None and token.startswith(SHORT_TERM_PREFIX):
        return await _identify_short_term(token.removeprefix(SHORT_TERM_PREFIX), keys)
    identity = await keys.identify(token)
    if identity is not None:
        return identity
    if token is None:
        raise AuthenticationFailed(
            "Missing Authentication Token", error_code="MissingAuthenticationTokenException"
        )
    raise _bad_token()


async def _identify_short_term(token: str, keys: KeyRing) -> Identity:
    """A short-term API key: whoever holds it speaks for the pair that has signed it."""
    try:
        url = base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        raise _bad_token() from None
    address, _, query = url.partition(b"?")
    host, _, path = address.partition(b"/")
    headers = [("host", host.decode("latin-1"))]
    sent = SentRequest("POST", b"/" + path, query.removesuffix(_VERSION_OF_TOKEN), headers)
    if (
        host != _SHORT_TERM_HOST.encode()
        or _SHORT_TERM_ACTION not in query.split(b"&")
        or not is_signed(sent)
    ):
        raise _bad_token()
    signature = read_signature(sent)
    check_claims(signature, sent, SERVICE, datetime.now(UTC))
    if signature.lifetime is None or signature.lifetime > _MAX_SHORT_TERM:
        raise _bad_token()
    pair = await _pair(signature, keys)
    if pair is not None:
        check_signature(signature, sent, b"", pair.secret)
    return await _identity(pair, keys)


async def _pair(signature: Signature, keys: KeyRing) -> AccessPair | None:
    """The pair that claims to have signed; None where nobody knows it and everybody is let in."""
    pair = await keys.access_pair(signature.access_key_id)
    if pair is None and not keys.open_access:
        raise AuthenticationFailed(
            "The security token included in the request is invalid.", error_code="UnrecognizedClientException"
        )
    if pair is not None and pair.is_expired:
        raise AuthenticationFailed(
            "The security token included in the request is expired", error_code="ExpiredTokenException"
        )
    return pair


async def _identity(pair: AccessPair | None, keys: KeyRing) -> Identity:
    identity = pair.identity if pair else await keys.identify(None)
    assert identity is not None, "without a pair the server is open"
    return identity


def _sent(request: Request) -> SentRequest:
    scope = request.scope
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    # A server need not tell the path as it was sent (the ASGI specification); ours does.
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    return SentRequest(scope["method"], path, scope["query_string"], headers)


def _bad_token() -> AuthenticationFailed:
    return AuthenticationFailed("Authentication failed: Please make sure your API Key is valid.")
