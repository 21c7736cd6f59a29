"""Who calls, and in which dialect: the checks that come before the body (wire.md section 1.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.datastructures import Headers

from hokku.api.config import ApiConfig, Compatibility, Services
from hokku.api.rate_headers import rate_headers
from hokku.protocol.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from hokku.protocol.records import RateLevels
from hokku.service.call_limits import Calls
from hokku.service.keys import Identity, KeyRing

VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
FALLBACK_HEADER = "hokku-fallback"  # ours: in a request, whether; in a response, why
MODEL_HEADER = "hokku-model"  # ours: who answered instead
WINDOW_OVERRUN_BETA = "model-context-window-exceeded-2025-08-26"

KNOWN_BETAS = frozenset(
    {
        "advanced-tool-use-2025-11-20",
        "cache-diagnosis-2026-04-07",
        "claude-code-20250219",
        "code-execution-2025-05-22",
        "code-execution-2025-08-25",
        "compact-2026-01-12",
        "compact-2026-09-04",
        "computer-use-2024-10-22",
        "computer-use-2025-01-24",
        "computer-use-2025-11-24",
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "dev-full-thinking-2025-05-14",
        "effort-2025-11-24",
        "extended-cache-ttl-2025-04-11",
        "fallback-credit-2026-06-01",
        "fast-mode-2026-02-01",
        "files-api-2025-04-14",
        "fine-grained-tool-streaming-2025-05-14",
        "inline-tools-2026-09-15",
        "interleaved-thinking-2025-05-14",
        "managed-agents-2026-04-01",
        "mcp-client-2025-04-04",
        "mcp-client-2025-11-20",
        "mcp-client-2026-09-15",
        "message-batches-2024-09-24",
        "model-context-window-exceeded-2025-08-26",
        "oauth-2025-04-20",
        "output-128k-2025-02-19",
        "output-300k-2026-03-24",
        "pdfs-2024-09-25",
        "per-turn-control-2026-07-01",
        "prompt-caching-2024-07-31",
        "server-side-fallback-2026-06-01",
        "server-side-fallback-2026-07-01",
        "skills-2025-10-02",
        "structured-outputs-2025-11-13",
        "task-budgets-2026-03-13",
        "thinking-token-count-2026-05-13",
        "token-counting-2024-11-01",
        "token-efficient-tools-2025-02-19",
    }
)
KNOWN_BETA_PREFIX = "mid-conversation-"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the headers say about how to read the body."""

    version: str
    betas: frozenset[str]
    compatibility: Compatibility
    may_fall_back: bool = True  # whether another model may answer where the one that is named cannot

    @property
    def refuses_sampling(self) -> bool:
        """Whether `temperature`, `top_p` and `top_k` are errors, even at their defaults (section 0.1)."""
        return self.version == "2026-10-21" and self.compatibility is Compatibility.HOSTED

    @property
    def serves_structured_output(self) -> bool:
        """Whether `output_config.format` and `strict` work, which the hosted model never had (section 2.8)."""
        return self.compatibility is not Compatibility.HOSTED

    @property
    def serves_system_turns(self) -> bool:
        """Whether turns of `role: "system"` work, which the hosted model never had (section 2.2)."""
        return self.compatibility is not Compatibility.HOSTED

    @property
    def takes_assistant_documents(self) -> bool:
        """Whether `document` blocks may stand in assistant messages (section 0.1)."""
        return self.version != "2026-10-21"

    @property
    def users_may_cite(self) -> bool:
        """Whether text blocks of the user's side may carry citations (section 0.1)."""
        return self.version != "2026-10-21"

    @property
    def window_overrun_allowed(self) -> bool:
        """Whether the client knows the stop reason `model_context_window_exceeded`."""
        return WINDOW_OVERRUN_BETA in self.betas


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
    bearer = _bearer_token(headers)
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
    unknown = [beta for beta in betas if beta not in KNOWN_BETAS and not beta.startswith(KNOWN_BETA_PREFIX)]
    if unknown and compatibility is Compatibility.HOSTED:
        named = ", ".join(f"`{beta}`" for beta in unknown)
        raise InvalidRequest(
            f"Unexpected value(s) {named} for the `anthropic-beta` header. "
            "Send only values this server documents, or leave the header out."
        )
    return frozenset(betas)


def read_may_fall_back(headers: Headers) -> bool:
    """Whether another model may answer; a client says no with `hokku-fallback: none`."""
    said = headers.get(FALLBACK_HEADER)
    if said not in (None, "none"):
        raise InvalidRequest('may only be "none"', place=FALLBACK_HEADER)
    return said is None


def _bearer_token(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
