"""Who is calling: API keys, kept only as hashes, and the identity a good one stands for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT_WORKSPACE_ID = "wrkspc_default"


@dataclass(frozen=True, slots=True)
class Identity:
    """On whose behalf a request runs. The workspace is also the scope in which prompts share their cache."""

    workspace_id: str = DEFAULT_WORKSPACE_ID


def hash_key(secret: str) -> bytes:
    """SHA-256 of a key. Keys are long and random, so a plain fast hash is enough to keep them unreadable."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


class KeyRing:
    """The keys this server honours.

    Args:
        key_hashes: `hash_key` of every valid key.
        open_access: also serve callers that show no key, or a wrong one.
    """

    def __init__(self, key_hashes: Iterable[bytes] = (), *, open_access: bool = False) -> None:
        self._key_hashes = tuple(key_hashes)
        self.open_access = open_access

    def identify(self, secret: str | None) -> Identity | None:
        """The identity behind `secret`, or None. Takes the same time whichever key is right, or none."""
        if self.open_access:
            return Identity()
        if secret is None:
            return None
        shown = hash_key(secret)
        matches = [hmac.compare_digest(shown, known) for known in self._key_hashes]
        return Identity() if any(matches) else None
