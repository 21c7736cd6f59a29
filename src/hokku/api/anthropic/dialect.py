"""Which of the wire's versions and betas a body is written in (wire.md sections 0.1 and 1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hokku.api.anthropic.fields import a_string, an_array
from hokku.api.config import Compatibility
from hokku.protocol.errors import InvalidRequest

VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
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
    """How to read a body, and what may be done with it; which wire it comes by does not show."""

    version: str
    betas: frozenset[str]
    compatibility: Compatibility
    may_fall_back: bool = True  # whether another model may answer where the one that is named cannot
    takes_named_files: bool = True  # whether files may be named by URL or id, which the clouds did not offer

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


def unknown_betas(betas: Iterable[str]) -> list[str]:
    """Those that the hosted service would not know."""
    return [beta for beta in betas if beta not in KNOWN_BETAS and not beta.startswith(KNOWN_BETA_PREFIX)]


def checked_betas(betas: Iterable[str], place: str, compatibility: Compatibility) -> frozenset[str]:
    """The betas that were named in `place`, in the words of a sentence. Raises `InvalidRequest` for one that the hosted
    service would not know, where it is to be imitated."""
    named = frozenset(betas)
    unknown = sorted(unknown_betas(named))
    if unknown and compatibility is Compatibility.HOSTED:
        listed = ", ".join(f"`{beta}`" for beta in unknown)
        raise InvalidRequest(
            f"Unexpected value(s) {listed} for the {place}. Send only values this server documents, or leave it out."
        )
    return named


def betas_of_body(value: object) -> list[str]:
    """The member `anthropic_beta` of a body, which some clients of the clouds send instead of the header."""
    given = an_array(value, "anthropic_beta")
    return [a_string(beta, f"anthropic_beta.{index}") for index, beta in enumerate(given)]
