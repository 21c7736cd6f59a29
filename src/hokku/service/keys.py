"""Who is calling: API keys, kept only as hashes, and the identity a good one stands for."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from hokku.protocol.records import DEFAULT_WORKSPACE_ID, ApiKey, KeyRole


@dataclass(frozen=True, slots=True)
class Identity:
    """On whose behalf a request runs. The workspace is also the scope in which prompts share their cache."""

    workspace_id: str = DEFAULT_WORKSPACE_ID
    key_id: str | None = None  # None: a key of the settings, or open access
    role: KeyRole = "user"


class KnownKeys(Protocol):
    """Keys that can change while the server runs. Blocks."""

    def find(self, key_hash: bytes) -> ApiKey | None:
        """The key of this hash, good or not. Raises `StorageUnavailable`."""


class OpensKeys(Protocol):
    """Opens the database of keys when it is first needed."""

    @property
    def reads_at_once(self) -> bool:
        """Whether a row is read in less time than it takes to ask a thread for it: the database is open, and a file."""

    @property
    def keys(self) -> KnownKeys:
        """The opened keys. Raises `StorageUnavailable`."""


def hash_key(secret: str) -> bytes:
    """SHA-256 of a key. Keys are long and random, so a plain fast hash is enough to keep them unreadable."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


class KeyRing:
    """The keys this server honours.

    Args:
        key_hashes: `hash_key` of every key of the settings. They are the operator's own: an admin's, in the default
            workspace.
        storage: further keys, asked anew for every request, so that one that is revoked is refused at once.
        open_access: also serve callers that show no key, or a wrong one.
    """

    def __init__(
        self, key_hashes: Iterable[bytes] = (), storage: OpensKeys | None = None, *, open_access: bool = False
    ) -> None:
        self._key_hashes = tuple(key_hashes)
        self._storage = storage
        self.open_access = open_access

    async def identify(self, secret: str | None) -> Identity | None:
        """The identity behind `secret`, or None. Raises `StorageUnavailable`.

        Keys of the settings are compared in constant time; the others are looked up by their hash, whose bits tell
        nothing about theirs.
        """
        identity = None
        if secret is not None:
            shown = hash_key(secret)
            matches = [hmac.compare_digest(shown, known) for known in self._key_hashes]
            identity = Identity(role="admin") if any(matches) else await self._find(shown)
        return Identity(role="admin") if identity is None and self.open_access else identity

    async def _find(self, shown: bytes) -> Identity | None:
        storage = self._storage
        if storage is None:
            return None
        if storage.reads_at_once:
            key = storage.keys.find(shown)
        else:
            key = await asyncio.to_thread(lambda: storage.keys.find(shown))
        if key is None or not key.is_good(datetime.now(UTC)):
            return None
        return Identity(key.workspace_id, key.id, key.role)
