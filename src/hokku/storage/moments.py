"""Moments as the tables hold them: microseconds since 1970 in UTC."""

from __future__ import annotations

from datetime import datetime

from hokku.protocol.records import BEGINNING, MICROSECOND


def to_micros(moment: datetime) -> int:
    """Exact; the moment has a time zone."""
    return (moment - BEGINNING) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """In UTC."""
    return BEGINNING + micros * MICROSECOND


def from_micros_or_none(micros: int | None) -> datetime | None:
    """Null stays null."""
    return None if micros is None else from_micros(micros)


def to_micros_or_none(moment: datetime | None) -> int | None:
    """None stays null."""
    return None if moment is None else to_micros(moment)
