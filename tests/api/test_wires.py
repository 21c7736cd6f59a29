"""Whose a path is, and what everybody may read of an error."""

from __future__ import annotations

import pytest
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.wire import MAX_MESSAGE_CHARS, Wire, public_message, wire_of
from hokku.protocol.errors import EngineFailed, InvalidRequest


class OneOfTwo(Wire):
    exposed_headers = ()

    def routes(self) -> list[Route]:
        return []

    def new_request_id(self) -> str:
        return "req"

    def error_type(self, error: Exception) -> str:
        return "error"

    def error_response(self, error: Exception, request_id: str, status: int | None = None) -> Response:
        return Response(public_message(error), status or 400)

    def finish_headers(self, headers: MutableHeaders, request_id: str) -> None:
        headers["id"] = request_id


class Narrow(OneOfTwo):
    prefixes = ("/model", "/v1/chat/completions")


class Rest(OneOfTwo):
    prefixes = ()


@pytest.mark.parametrize("path", ["/model", "/model/", "/model/x/invoke", "/v1/chat/completions"])
def test_a_wire_has_what_is_below_its_prefixes(path: str) -> None:
    narrow, rest = Narrow(), Rest()
    assert wire_of(path, (narrow, rest)) is narrow


@pytest.mark.parametrize("path", ["/", "", "/models", "/v1/model", "/v1/chat", "/v1/chat/completionsx"])
def test_the_last_wire_has_the_rest(path: str) -> None:
    narrow, rest = Narrow(), Rest()
    assert wire_of(path, (narrow, rest)) is rest


def test_internals_never_show() -> None:
    assert public_message(EngineFailed("kernel exploded")) == "Internal server error"
    assert public_message(InvalidRequest("is wrong", place="a.b")) == "a.b: is wrong"
    assert len(public_message(InvalidRequest("x" * 100_000))) == MAX_MESSAGE_CHARS + 1
