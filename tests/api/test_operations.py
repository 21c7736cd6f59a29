"""What operators ask: readiness, metrics and who may read them, one record for every exchange."""

from __future__ import annotations

import threading
from dataclasses import replace

import httpx
import pytest

from hokku.api.config import ApiConfig, MetricsAccess, Services
from hokku.protocol.engine import EngineStats
from hokku.protocol.errors import EngineFailed, StorageUnavailable
from hokku.protocol.exchange import Exchange
from hokku.service import readiness
from hokku.service.draining import Drain, DrainingReplies
from hokku.service.keys import Identity, KeyRing
from hokku.service.readiness import Readiness
from hokku.telemetry.metrics import Metrics
from tests.api.conftest import client_of, services_of
from tests.api.test_body_errors import GOOD
from tests.fakes import MODEL_ID, FakeEngine, Script


def measured(services: Services) -> Services:
    def engines() -> list[tuple[str, EngineStats]]:
        return [(model.id, model.engine.stats()) for model in services.catalogue.served]

    metrics = Metrics(engines, lambda: 0)
    return replace(services, metrics=metrics, observers=(metrics.observe,))


def watched(services: Services) -> tuple[httpx.AsyncClient, list[Exchange]]:
    exchanges: list[Exchange] = []
    return client_of(replace(services, observers=(exchanges.append,))), exchanges


async def test_metrics_of_a_reply(engine: FakeEngine) -> None:
    services = measured(services_of(engine))
    async with client_of(services, ApiConfig(metrics=MetricsAccess.OPEN)) as client:
        await client.post("/v1/messages", json=GOOD | {"stream": True})
        await client.post("/v1/messages", json={})
        await client.get("/nowhere/at/all")
        response = await client.get("/metrics", headers={"x-api-key": ""})
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    assert 'hokku_http_requests_total{route="/v1/messages",status="200"} 1.0' in lines
    assert 'hokku_http_requests_total{route="/v1/messages",status="400"} 1.0' in lines
    assert 'hokku_http_requests_total{route="unknown",status="404"} 1.0' in lines
    assert 'hokku_errors_total{type="invalid_request_error"} 1.0' in lines
    assert 'hokku_errors_total{type="not_found_error"} 1.0' in lines
    assert f'hokku_replies_total{{model="{MODEL_ID}",outcome="succeeded",tier="standard"}} 1.0' in lines
    assert f'hokku_time_to_first_token_seconds_count{{model="{MODEL_ID}"}} 1.0' in lines
    assert f'hokku_running_requests{{model="{MODEL_ID}"}} 0.0' in lines
    assert "nowhere" not in response.text


class TwoKeys(KeyRing):
    """An administrator's key and a user's."""

    async def identify(self, secret: str | None) -> Identity | None:
        known = {"boss": Identity(role="admin"), "user": Identity(role="user")}
        return known.get(secret or "")


@pytest.mark.parametrize(
    ("access", "headers", "status"),
    [
        (MetricsAccess.OFF, {"x-api-key": "boss"}, 404),
        (MetricsAccess.ADMIN, {}, 401),
        (MetricsAccess.ADMIN, {"x-api-key": "user"}, 403),
        (MetricsAccess.ADMIN, {"x-api-key": "boss"}, 200),
        (MetricsAccess.THIS_MACHINE, {}, 200),
        (MetricsAccess.THIS_MACHINE, {"x-forwarded-for": "203.0.113.1"}, 401),
        (MetricsAccess.THIS_MACHINE, {"origin": "https://example.com"}, 401),
        (MetricsAccess.THIS_MACHINE, {"origin": "https://example.com", "x-api-key": "boss"}, 200),
        (MetricsAccess.OPEN, {"x-forwarded-for": "203.0.113.1"}, 200),
    ],
)
async def test_who_may_read_the_metrics(
    engine: FakeEngine, access: MetricsAccess, headers: dict[str, str], status: int
) -> None:
    services = replace(measured(services_of(engine)), keys=TwoKeys())
    async with client_of(services, ApiConfig(metrics=access)) as client:
        response = await client.get("/metrics", headers={"x-api-key": "", **headers})
    assert response.status_code == status


async def test_every_exchange_is_told_of_once(engine: FakeEngine) -> None:
    client, exchanges = watched(services_of(engine))
    async with client:
        whole = await client.post("/v1/messages", json=GOOD)
        await client.post("/v1/messages", json=GOOD | {"stream": True, "metadata": {"user_id": "u"}})
        await client.get("/v1/models/claude-3-5-haiku-latest", headers={"traceparent": "00-ab-cd-01"})
        await client.get("/v1/messages")
        await client.options("/v1/messages")
    first, second, model, not_allowed, preflight = exchanges
    assert (first.request_id, first.status) == (whole.headers["request-id"], 200)
    assert first.reply is not None
    assert first.reply.usage.output_tokens == whole.json()["usage"]["output_tokens"]
    assert (first.reply.model_id, first.outcome) == (MODEL_ID, "succeeded")
    assert (first.reply.message_id, first.reply.stop_reason) == (
        whole.json()["id"],
        whole.json()["stop_reason"],
    )
    assert first.first_token_secs is None
    assert second.reply is not None
    assert second.reply.asked.user_id == "u"
    assert second.first_token_secs is not None
    assert 0 < second.first_token_secs <= second.secs
    assert (model.route, model.reply, model.traceparent) == ("/v1/models/{name:path}", None, "00-ab-cd-01")
    assert (not_allowed.status, not_allowed.error_type) == (405, "invalid_request_error")
    assert (preflight.method, preflight.route, preflight.status) == ("OPTIONS", "unknown", 204)


async def test_an_error_in_the_middle_of_a_stream_is_told_of(engine: FakeEngine) -> None:
    engine.script = lambda _request: Script(list(b"Hello"), EngineFailed("as arranged"), error_after=3)
    client, exchanges = watched(services_of(engine))
    async with client:
        await client.post("/v1/messages", json=GOOD | {"stream": True})
    (exchange,) = exchanges
    assert (exchange.status, exchange.error_type, exchange.outcome) == (200, "api_error", "errored")


async def test_readiness_while_the_server_ends(engine: FakeEngine) -> None:
    drain = Drain()
    services = services_of(engine)
    services = replace(
        services,
        messages=DrainingReplies(services.messages, drain),
        readiness=Readiness(services.catalogue, drain),
    )
    async with client_of(services) as client:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        drain.begin()
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"status": "draining"})
        refused = await client.post("/v1/messages", json=GOOD)
        assert (refused.status_code, refused.json()["error"]["type"]) == (529, "overloaded_error")
        assert (await client.get("/healthz")).status_code == 200


async def test_a_stream_ends_with_the_wire_s_error(engine: FakeEngine) -> None:
    engine.step_secs = 0.01
    drain = Drain()
    services = services_of(engine)
    services = replace(services, messages=DrainingReplies(services.messages, drain))
    threading.Timer(0.06, drain.end).start()
    async with client_of(services) as client:
        response = await client.post("/v1/messages", json=GOOD | {"stream": True})
    last = response.text.strip().split("\n\n")[-1]
    assert last.startswith("event: error")
    assert '"overloaded_error"' in last


async def test_readiness_without_a_database(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    looks: list[str] = []

    def look() -> None:
        looks.append("look")
        if not answers.is_set():
            raise StorageUnavailable("The database is unavailable")

    services = services_of(engine)
    services = replace(services, readiness=Readiness(services.catalogue, Drain(), look))
    async with client_of(services) as client:
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"status": "database unavailable"})
        answers.set()
        assert (await client.get("/readyz")).status_code == 200
    assert len(looks) == 2

    # One that hangs is away too, and is not asked again meanwhile.
    monkeypatch.setattr(readiness, "_DATABASE_SECS", 0.01)
    hangs = threading.Event()

    def hang() -> None:
        looks.append("hang")
        hangs.wait()

    services = replace(services, readiness=Readiness(services.catalogue, Drain(), hang))
    async with client_of(services) as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/readyz")).status_code == 503
        hangs.set()
    assert looks.count("hang") == 1
