"""Who is calling: API keys, kept only as hashes, access keys that sign, and the identity a good one stands for."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from hokku.protocol.records import DEFAULT_WORKSPACE_ID, ApiKey, KeyRole
from hokku.service.access_pairs import SigningSecret, hash_of, secret_of


@dataclass(frozen=True, slots=True)
class Identity:
    """On whose behalf a request runs. The workspace is also the scope in which prompts share their cache."""

    workspace_id: str = DEFAULT_WORKSPACE_ID
    key_id: str | None = None  # None: a key of the settings, or open access
    role: KeyRole = "user"


@dataclass(frozen=True, slots=True)
class AccessPair:
    """What a signature by this access key has to be made with, and on whose behalf it speaks."""

    secret: str
    identity: Identity
    is_expired: bool


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
        signing: what the secrets of access keys are made from; without it there are none.
        open_access: also serve callers that show no key, or a wrong one.
    """

    def __init__(
        self,
        key_hashes: Iterable[bytes] = (),
        storage: OpensKeys | None = None,
        signing: SigningSecret | None = None,
        *,
        open_access: bool = False,
    ) -> None:
        self._key_hashes = tuple(key_hashes)
        self._storage = storage
        self._signing = signing
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
            identity = Identity(role="admin") if any(matches) else await self._find_good(shown)
        return Identity(role="admin") if identity is None and self.open_access else identity

    async def access_pair(self, access_key_id: str) -> AccessPair | None:
        """The pair of this id; None where there is none, or it is closed. Raises `StorageUnavailable`, and
        `BadSetting` where the signing secret cannot be read."""
        signing_secret = self._signing.known() if self._signing else None
        if signing_secret is None:
            return None
        key = await self._find(hash_of(signing_secret, access_key_id))
        if key is None or key.status != "active":
            return None
        is_expired = not key.is_good(datetime.now(UTC))
        return AccessPair(secret_of(signing_secret, access_key_id), _identity(key), is_expired)

    async def _find_good(self, shown: bytes) -> Identity | None:
        key = await self._find(shown)
        return None if key is None or not key.is_good(datetime.now(UTC)) else _identity(key)

    async def _find(self, key_hash: bytes) -> ApiKey | None:
        storage = self._storage
        if storage is None:
            return None
        if storage.reads_at_once:
            return storage.keys.find(key_hash)
        return await asyncio.to_thread(lambda: storage.keys.find(key_hash))


def _identity(key: ApiKey) -> Identity:
    return Identity(key.workspace_id, key.id, key.role)
