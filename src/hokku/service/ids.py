"""Identifiers in the wire's own shape: a prefix and unguessable base58 characters (wire.md section 1.6)."""

from __future__ import annotations

import re
import secrets
from datetime import datetime

from hokku.protocol.records import BEGINNING, MICROSECOND

MESSAGE_BATCH = "msgbatch_"
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
    return random_id(f"{MESSAGE_BATCH}01", 22)


def worker_request_id() -> str:
    """A new `workerreq_…`: a batch's request, as logs and the ledger name it."""
    return random_id("workerreq_011C", 24)


_FILE = "file_011C"
_MOMENT_CHARS = 9  # 58 to the ninth microseconds last until the year 2205
_FILE_ID = re.compile(f"{_FILE}([{BASE58}]{{{_MOMENT_CHARS}}})[{BASE58}]{{15}}")


def file_id(now: datetime) -> str:
    """A new `file_…`. It holds the moment it was made, so that a list can go on after a file that is gone."""
    micros = (now - BEGINNING) // MICROSECOND
    digits = ""
    for _ in range(_MOMENT_CHARS):
        micros, digit = divmod(micros, 58)
        digits = BASE58[digit] + digits
    return random_id(_FILE + digits, 15)


def moment_of_file_id(given: str) -> datetime | None:
    """When the file of this id was made; None if it is no such id."""
    found = _FILE_ID.fullmatch(given)
    if found is None:
        return None
    micros = 0
    for digit in found[1]:
        micros = micros * 58 + BASE58.index(digit)
    return BEGINNING + micros * MICROSECOND
