"""Who calls: the checks that come before the body, which on this wire are few (wire.md section 15)."""

from __future__ import annotations

from starlette.datastructures import Headers

from hokku.api.credentials import bearer_token
from hokku.protocol.errors import AuthenticationFailed
from hokku.service.keys import Identity, KeyRing


async def authenticate(headers: Headers, keys: KeyRing) -> Identity:
    """Whose key it is: that of `Authorization: Bearer`, or of `x-api-key` as on Messages. Raises
    `AuthenticationFailed`."""
    bearer, api_key = bearer_token(headers), headers.get("x-api-key")
    identity = await keys.identify(bearer)
    if identity is None and api_key is not None:
        identity = await keys.identify(api_key)
    if identity is not None:
        return identity
    if bearer is not None or api_key is not None:
        raise AuthenticationFailed("this API key is not known to this server")
    raise AuthenticationFailed("an API key is needed: send it as `Authorization: Bearer <key>`")
