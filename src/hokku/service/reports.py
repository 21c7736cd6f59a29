"""Reports on usage and cost: sums of the ledger, and what the hosted service would have asked for the same tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from hokku.protocol.records import Dimension, ServiceTier, TokenKind, UsageQuery, UsageSum
from hokku.service.prices import HOSTED_PRICES, cost


class Sums(Protocol):
    """Sums of the ledger. Blocks."""

    def usage(self, query: UsageQuery) -> list[UsageSum]:
        """By bucket and group, in this order. Raises `StorageUnavailable`."""


class OpensSums(Protocol):
    """Opens the ledger when it is first needed."""

    @property
    def ledger(self) -> Sums:
        """The opened ledger. Raises `StorageUnavailable`."""


class Reports:
    """What an administrator may ask."""

    def __init__(self, storage: OpensSums) -> None:
        self._storage = storage

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums by bucket and group. Raises `StorageUnavailable`."""
        return await asyncio.to_thread(lambda: self._storage.ledger.usage(query))

    async def costs(self, query: UsageQuery) -> list[UsageSum]:
        """The same, by tier at least: a batch's tokens have prices of their own."""
        group_by: tuple[Dimension, ...] = query.group_by
        return await self.usage(replace(query, group_by=tuple(dict.fromkeys((*group_by, "tier")))))


def hosted_cost(total: UsageSum) -> Mapping[TokenKind, int]:
    """Micro-cents that the hosted service would have asked for these tokens. The sum has the tier in its group."""
    tier: ServiceTier = "batch" if total.group["tier"] == "batch" else "standard"
    return cost(total.tokens, HOSTED_PRICES, tier)
