"""Credentials as headers carry them, on more than one wire."""

from __future__ import annotations

from starlette.datastructures import Headers


def bearer_token(headers: Headers) -> str | None:
    """The token of `Authorization: Bearer …`; None where there is no such header or it is of another scheme."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
