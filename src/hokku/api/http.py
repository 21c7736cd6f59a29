"""The front door: one Starlette application for every wire, with what all of them share.

Request ids, the error envelope for whatever goes wrong, cross-origin answers and the record of every exchange live
here; the wires bring their own routes.
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

from hokku.api.anthropic.admin import admin_routes
from hokku.api.anthropic.batches import batch_routes
from hokku.api.anthropic.files import file_routes
from hokku.api.anthropic.routes import anthropic_routes
from hokku.api.config import ApiConfig, Services
from hokku.api.envelope import error_response, status_and_type
from hokku.api.operations import operations_routes
from hokku.protocol.errors import InvalidRequest, NotFound, RequestError
from hokku.protocol.exchange import NO_ROUTE, Exchange, Observer
from hokku.service.ids import request_id

log = logging.getLogger(__name__)

Closer = Callable[[], Awaitable[None]]

EXPOSED_HEADERS = (
    "request-id, anthropic-organization-id, anthropic-workspace-id, retry-after, x-should-retry, "
    "hokku-model, hokku-fallback, "
    + ", ".join(
        f"anthropic-ratelimit-{name}-{field}"
        for name in ("requests", "tokens", "input-tokens", "output-tokens")
        for field in ("limit", "remaining", "reset")
    )
)


def create_app(services: Services, config: ApiConfig, closers: Sequence[Closer] = ()) -> Starlette:
    """The whole HTTP side of Hokku over the given services; `closers` are called when the server ends."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        for close in closers:
            await close()

    routes = [
        *operations_routes(services, config),
        *anthropic_routes(services, config),
        *batch_routes(services, config),
        *file_routes(services, config),
        *admin_routes(services, config),
    ]
    front_door = Middleware(
        FrontDoor,
        config=config,
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
    """404 and 405 of the router, in the envelope."""
    if not isinstance(error, HTTPException):
        raise error
    request_id = request.scope["hokku.request_id"]
    if error.status_code == 404:
        raise NotFound("Not found")
    refusal = InvalidRequest(f"Method {request.method} is not allowed here")
    request.scope["hokku.exchange"].error_type = status_and_type(refusal)[1]
    response = error_response(refusal, request_id, status=error.status_code)
    response.headers.update(error.headers or {})
    return response


class FrontDoor:
    """Outermost layer: gives the request its id, finishes every response's headers, answers every failure."""

    def __init__(
        self,
        app: ASGIApp,
        config: ApiConfig,
        *,
        cross_origin: bool,
        paths: Mapping[Any, str],
        observers: Sequence[Observer],
    ) -> None:
        """`paths` are the routes' own by their endpoints."""
        self._app = app
        self._organization_id = config.organization_id
        self._cross_origin = cross_origin
        self._paths = paths
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, finish what comes back, and tell the observers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["hokku.request_id"] = request_id()
        scope["hokku.send"] = send
        scope["hokku.exchange"] = exchange = _exchange(scope)
        try:
            await self._answer(scope, receive, send, exchange)
        finally:
            exchange.end(self._paths.get(scope.get("endpoint"), NO_ROUTE))
            for observe in self._observers:
                observe(exchange)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        async def send_finished(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                self._finish_headers(MutableHeaders(scope=message), exchange.request_id)
            await send(message)

        try:
            if scope["method"] == "OPTIONS":
                await self._preflight(scope)(scope, receive, send_finished)
            else:
                await self._app(scope, receive, send_finished)
        except ClientDisconnect:
            return  # left while sending the request; nobody is there to answer
        except Exception as error:
            exchange.error_type = status_and_type(error)[1]
            if not isinstance(error, RequestError):
                log.exception("request %s failed", exchange.request_id)
            if exchange.status:
                raise  # the server closes the connection, which is all that can still be said
            await error_response(error, exchange.request_id)(scope, receive, send_finished)

    def _finish_headers(self, headers: MutableHeaders, request_id: str) -> None:
        headers["request-id"] = request_id
        headers["anthropic-organization-id"] = self._organization_id
        if self._cross_origin:
            headers["access-control-allow-origin"] = "*"
            headers["access-control-expose-headers"] = EXPOSED_HEADERS

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
