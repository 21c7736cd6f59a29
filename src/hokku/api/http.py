"""The front door: one Starlette application for every wire, with what all of them share.

Who a request belongs to, its id, the answer to whatever goes wrong, cross-origin answers and the record of every
exchange live here; the wires (`wire.py`) bring their own routes, and say how their errors look.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hokku.api.anthropic.wire import AnthropicWire
from hokku.api.bedrock.wire import BedrockWire
from hokku.api.config import ApiConfig, Services
from hokku.api.openai.wire import OpenAiWire
from hokku.api.operations import operations_routes
from hokku.api.vertex.wire import VertexWire
from hokku.api.wire import Wire, wire_of
from hokku.protocol.errors import InvalidRequest, NotFound, RequestError
from hokku.protocol.exchange import NO_ROUTE, Exchange, Observer

log = logging.getLogger(__name__)

Closer = Callable[[], Awaitable[None]]


def wires_of(services: Services, config: ApiConfig) -> tuple[Wire, ...]:
    """Every wire. The last one has the paths that no other has."""
    return (
        BedrockWire(services, config),
        OpenAiWire(services, config),
        VertexWire(services, config),
        AnthropicWire(services, config),
    )


def create_app(services: Services, config: ApiConfig, closers: Sequence[Closer] = ()) -> Starlette:
    """The whole HTTP side of Hokku over the given services; `closers` are called when the server ends."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        for close in closers:
            await close()

    wires = wires_of(services, config)
    routes = [*operations_routes(services, config), *(route for wire in wires for route in wire.routes())]
    front_door = Middleware(
        FrontDoor,
        wires=wires,
        # In open mode any web page could otherwise drive a server on the visitor's own machine.
        cross_origin=not services.keys.open_access,
        paths={route.endpoint: route.path for route in routes},
        observers=services.observers,
    )
    app = Starlette(
        routes=routes,
        middleware=[front_door],
        exception_handlers={HTTPException: answer_http_exception},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a path is known or it is not; a redirect would lose the envelope
    return app


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, as the path's wire says such things."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 404:
        raise NotFound("Not found")
    wire: Wire = request.scope["hokku.wire"]
    refusal = InvalidRequest(f"Method {request.method} is not allowed here")
    request.scope["hokku.exchange"].error_type = wire.error_type(refusal)
    response = wire.error_response(refusal, request.scope["hokku.request_id"], status=error.status_code)
    response.headers.update(error.headers or {})
    return response


class FrontDoor:
    """Outermost layer: gives the request its id, finishes every response's headers, answers every failure."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        wires: Sequence[Wire],
        cross_origin: bool,
        paths: Mapping[Any, str],
        observers: Sequence[Observer],
    ) -> None:
        """`paths` are the routes' own by their endpoints; the last of the wires has what no other has."""
        self._app = app
        self._wires = wires
        self._cross_origin = cross_origin
        self._paths = paths
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, finish what comes back, and tell the observers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["hokku.wire"] = wire = wire_of(scope["path"], self._wires)
        scope["hokku.request_id"] = wire.new_request_id()
        scope["hokku.send"] = send
        scope["hokku.exchange"] = exchange = _exchange(scope)
        try:
            await self._answer(scope, receive, send, exchange, wire)
        finally:
            exchange.end(self._paths.get(scope.get("endpoint"), NO_ROUTE))
            for observe in self._observers:
                observe(exchange)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, exchange: Exchange, wire: Wire
    ) -> None:
        async def send_finished(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                self._finish_headers(MutableHeaders(scope=message), exchange.request_id, wire)
            await send(message)

        try:
            if scope["method"] == "OPTIONS":
                await self._preflight(scope)(scope, receive, send_finished)
            else:
                await self._app(scope, receive, send_finished)
        except ClientDisconnect:
            return  # left while sending the request; nobody is there to answer
        except Exception as error:
            exchange.error_type = wire.error_type(error)
            if not isinstance(error, RequestError):
                log.exception("request %s failed", exchange.request_id)
            if exchange.status:
                raise  # the server closes the connection, which is all that can still be said
            await wire.error_response(error, exchange.request_id)(scope, receive, send_finished)

    def _finish_headers(self, headers: MutableHeaders, request_id: str, wire: Wire) -> None:
        wire.finish_headers(headers, request_id)
        if self._cross_origin:
            headers["access-control-allow-origin"] = "*"
            headers["access-control-expose-headers"] = ", ".join(wire.exposed_headers)

    def _preflight(self, scope: Scope) -> Response:
        if not self._cross_origin:
            return Response(status_code=204)
        # A star would not cover Authorization, so the asked-for headers are named back.
        asked_for = Headers(scope=scope).get("access-control-request-headers", "*")
        return Response(
            status_code=204,
            headers={
                "access-control-allow-methods": "GET, HEAD, POST, DELETE, OPTIONS",
                "access-control-allow-headers": asked_for,
                "access-control-max-age": "86400",
            },
        )


def _exchange(scope: Scope) -> Exchange:
    headers = Headers(scope=scope)
    return Exchange(
        scope["hokku.request_id"],
        scope["method"],
        scope["path"],
        headers.get("traceparent", ""),
        headers.get("tracestate", ""),
    )
