"""Who calls, and in which dialect: the checks that come before the body (wire.md section 1.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.datastructures import Headers

from hokku.api.anthropic.dialect import VERSIONS, Dialect, checked_betas
from hokku.api.anthropic.rate_headers import rate_headers
from hokku.api.config import ApiConfig, Compatibility, Services
from hokku.api.credentials import bearer_token
from hokku.api.fallback import read_may_fall_back
from hokku.protocol.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from hokku.protocol.records import RateLevels
from hokku.service.call_limits import Calls
from hokku.service.keys import Identity, KeyRing


@dataclass(frozen=True, slots=True)
class Caller:
    """A request whose headers are in order."""

    identity: Identity
    dialect: Dialect
    rate_levels: RateLevels | None = None  # of the endpoint, where it has limits of its own

    @property
    def answer_headers(self) -> dict[str, str]:
        """What every answer tells this caller."""
        return {"anthropic-workspace-id": self.identity.workspace_id, **rate_headers(self.rate_levels)}


async def read_headers(headers: Headers, keys: KeyRing, compatibility: Compatibility) -> Caller:
    """Check credential, version, betas and the header of ours, in this order. Raises the error of the first that is
    wrong."""
    identity = await authenticate(headers, keys)
    version = read_version(headers)
    betas = read_betas(headers, compatibility)
    return Caller(identity, Dialect(version, betas, compatibility, read_may_fall_back(headers)))


async def read_call(headers: Headers, services: Services, config: ApiConfig, calls: Calls) -> Caller:
    """Like `read_headers`, for endpoints with limits of their own. Raises `RateLimited` too."""
    caller = await read_headers(headers, services.keys, config.compatibility)
    if services.call_limits is None:
        return caller
    return replace(caller, rate_levels=await services.call_limits.admit(caller.identity, calls))


async def authenticate(headers: Headers, keys: KeyRing) -> Identity:
    """Whose key it is. With both credentials present either may be the good one."""
    api_key = headers.get("x-api-key")
    bearer = bearer_token(headers)
    identity = await keys.identify(api_key)
    if identity is None and bearer is not None:
        identity = await keys.identify(bearer)
    if identity is None:
        if api_key is not None:
            raise AuthenticationFailed("invalid x-api-key")
        if bearer is not None:
            raise AuthenticationFailed("Invalid bearer token")
        raise AuthenticationFailed("x-api-key header is required")
    asked_for = headers.get("anthropic-workspace-id")
    if asked_for is not None and asked_for != identity.workspace_id:
        raise PermissionDenied("anthropic-workspace-id: this key belongs to another workspace")
    return identity


def is_openai_client(headers: Headers) -> bool:
    """Whether a caller of a path that both forms have speaks OpenAI's: the vendor's own clients name a version."""
    return "anthropic-version" not in headers


def read_version(headers: Headers) -> str:
    """The API version."""
    version = headers.get("anthropic-version")
    if version is None:
        raise InvalidRequest("header is required", place="anthropic-version")
    if version not in VERSIONS:
        raise InvalidRequest(f'"{version}" is not a valid version', place="anthropic-version")
    return version


def read_betas(headers: Headers, compatibility: Compatibility) -> frozenset[str]:
    """The betas asked for, out of comma lists and repeated headers."""
    lists = headers.getlist("anthropic-beta")
    betas = [beta.strip() for each in lists for beta in each.split(",") if beta.strip()]
    return checked_betas(betas, "`anthropic-beta` header", compatibility)
