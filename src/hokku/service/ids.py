"""Identifiers in the wire's own shape: a prefix and unguessable base58 characters (wire.md section 1.6)."""

from __future__ import annotations

import secrets

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def random_id(prefix: str, num_chars: int) -> str:
    """`prefix` followed by `num_chars` random base58 characters."""
    # The modulo's bias of 256 over 58 costs a fraction of a bit a character; 22 of them stay far beyond
    # guessing.
    return prefix + "".join(BASE58[byte % 58] for byte in secrets.token_bytes(num_chars))


def message_id() -> str:
    """A new `msg_…`."""
    return random_id("msg_01", 22)


def tool_use_id() -> str:
    """A new `toolu_…`."""
    return random_id("toolu_01", 22)


def request_id() -> str:
    """A new `req_…`."""
    return random_id("req_011C", 24)


def batch_id() -> str:
    """A new `msgbatch_…`."""
    return random_id("msgbatch_01", 22)


def worker_request_id() -> str:
    """A new `workerreq_…`: a batch's request, as logs and the ledger name it."""
    return random_id("workerreq_011C", 24)
