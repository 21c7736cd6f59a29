"""Access keys as AWS has them: an id that travels with each request, and a secret that signs it and stays at home.

Who verifies a signature must know the secret itself, so that a hash of it would not do. None is kept: the secrets of
all pairs are made from one signing secret and the pair's id (docs/decisions/020-access-pairs.md), and the database has
a row that says whose pair it is, found by a hash that needs the signing secret too.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from hokku.protocol.records import ApiKey, KeyRole
from hokku.service.key_making import new_key
from hokku.service.secret_file import SecretFile

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_NUM_RANDOM_CHARS = 16  # of an id, after its prefix: 20 in all, as AWS has them
_NUM_SECRET_BYTES = 30  # 40 characters, as AWS has them


class SigningSecret:
    """What the secrets of access keys are made from: the operator's own, or one that lies in the data directory."""

    def __init__(self, configured: str, data_dir: Path) -> None:
        self._known = configured or None
        self._file = SecretFile(data_dir / "signing-secret")

    def known(self) -> str | None:
        """None where no pair was ever made. Raises `BadSetting` where the file cannot be read."""
        if self._known is None:
            self._known = self._file.stored()
        return self._known

    def known_or_made(self) -> str:
        """Made now if there is none. Raises `BadSetting` where the directory cannot be written."""
        return self.known() or self._file.stored_or_made(lambda: secrets.token_urlsafe(32))


@dataclass(frozen=True, slots=True)
class NewPair:
    """A pair that was just made; `key` is what is to be remembered of it, besides `key_hash`."""

    access_key_id: str
    secret: str
    key: ApiKey
    key_hash: bytes


def new_pair(
    signing_secret: str,
    name: str,
    workspace_id: str,
    role: KeyRole,
    lifetime: timedelta | None = None,
    now: datetime | None = None,
) -> NewPair:
    """A fresh pair."""
    access_key_id = "HKIA" + "".join(secrets.choice(_BASE32) for _ in range(_NUM_RANDOM_CHARS))
    _, key = new_key(name, workspace_id, role, lifetime, now)
    return NewPair(
        access_key_id,
        secret_of(signing_secret, access_key_id),
        replace(key, hint=access_key_id),
        hash_of(signing_secret, access_key_id),
    )


def secret_of(signing_secret: str, access_key_id: str) -> str:
    """The secret of a pair: 240 bits that nobody can tell from chance who does not have the signing secret."""
    return base64.b64encode(_derived(signing_secret, "secret", access_key_id)[:_NUM_SECRET_BYTES]).decode()


def hash_of(signing_secret: str, access_key_id: str) -> bytes:
    """What the database finds a pair by. No key that a client could show as a bearer has this hash."""
    return _derived(signing_secret, "id", access_key_id)


def _derived(signing_secret: str, purpose: str, access_key_id: str) -> bytes:
    message = f"hokku access key {purpose}\0{access_key_id}"
    return hmac.digest(signing_secret.encode(), message.encode("utf-8", "surrogateescape"), "sha256")
