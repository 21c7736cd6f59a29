"""The committed stub is what the built module deserves."""

from __future__ import annotations

from tools.native_stub import STUB, native_stub


def test_stub_is_up_to_date() -> None:
    assert STUB.read_text(encoding="utf-8") == native_stub(), "run: python tools/native_stub.py"
