"""What a request costs: the manifest's prices with cache and batch multipliers, in whole micro-cents."""

from __future__ import annotations

from collections.abc import Mapping

from hokku.protocol.events import Usage
from hokku.protocol.records import ServiceTier, TokenKind
from hokku.registry.manifest import Prices

# The hosted service's own list, for the comparison in reports (wire.md section 18).
HOSTED_PRICES = Prices(
    input=80, output=400, cache_write_5m=100, cache_write_1h=160, cache_read=8, batch_percent=50
)


def tokens_of(usage: Usage) -> dict[TokenKind, int]:
    """A request's tokens by kind; each kind has a price of its own."""
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_write_5m": usage.cache_write_5m_tokens,
        "cache_write_1h": usage.cache_write_1h_tokens,
        "cache_read": usage.cache_read_tokens,
    }


def cost(tokens: Mapping[TokenKind, int], prices: Prices, tier: ServiceTier) -> dict[TokenKind, int]:
    """Micro-cents by kind. A batch pays a share of every price; half a micro-cent is rounded up."""
    percent = prices.batch_percent if tier == "batch" else 100
    a_token: dict[TokenKind, int] = {
        "input": prices.input,
        "output": prices.output,
        "cache_write_5m": prices.cache_write_5m,
        "cache_write_1h": prices.cache_write_1h,
        "cache_read": prices.cache_read,
    }
    return {kind: (number * a_token[kind] * percent + 50) // 100 for kind, number in tokens.items()}
