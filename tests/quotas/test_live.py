"""Limits under two hundred clients of a live server, with levels in memory and in a Valkey.

Nobody outside can tell the order in which the server let requests in. What can be told: an answer that has come before
a request was sent was given before it. So every level has a ceiling (what others had used up by then) and a floor (what
everybody may have used by the time the answer came), and between the answers of one client it never rises by more
than flows in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.protocol.records import LimitRule
from hokku.quotas.buckets import Buckets, LocalBuckets
from hokku.quotas.valkey import ValkeyBuckets
from hokku.service.keys import KeyRing, hash_key
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.rate_limits import RateLimits
from hokku.storage.storage import Storage
from tests.api.conftest import HEADERS, KEY, services_of
from tests.fakes import ALIAS, FakeEngine
from tests.live import live_server
from tests.valkey import Valkey

NUM_CLIENTS = 200
NUM_ASKED = 2  # by each client, one after the other
NUM_LET_IN = 60  # at once; some more while time goes by
SLACK_SECS = 0.2  # between the clocks of this test and of the buckets
MAX_TOKENS = 20
INPUT_TOKENS, OUTPUT_TOKENS = 9, 14  # that each request uses


@dataclass(frozen=True)
class Case:
    """A limit, what a good request uses of it, and what it takes at first."""

    name: str
    rule: LimitRule
    limit: int
    used: int
    taken: int

    def flows_in(self, secs: float) -> float:
        """At most, in this time."""
        return self.limit * (secs + SLACK_SECS) / 60 + 1


CASES = [
    Case("requests", LimitRule(None, None, requests_per_minute=60), 60, 1, 1),
    Case("input-tokens", LimitRule(None, None, input_tokens_per_minute=540), 540, INPUT_TOKENS, INPUT_TOKENS),
    Case(
        "output-tokens", LimitRule(None, None, output_tokens_per_minute=1200), 1200, OUTPUT_TOKENS, MAX_TOKENS
    ),
]


@dataclass(frozen=True)
class Answer:
    """What one request was told, and when."""

    client: int
    sent_at: float
    got_at: float
    response: httpx.Response

    @property
    def is_good(self) -> bool:
        return self.response.status_code == 200

    def remaining(self, case: Case) -> int:
        headers = self.response.headers
        assert int(headers[f"anthropic-ratelimit-{case.name}-limit"]) == case.limit
        return int(headers[f"anthropic-ratelimit-{case.name}-remaining"])


@pytest.fixture(params=["local", "valkey"])
def buckets(request: pytest.FixtureRequest) -> Buckets:
    if request.param == "local":
        return LocalBuckets()
    server: Valkey = request.getfixturevalue("valkey")
    server.stop()
    server.start()  # with nothing of the last test
    return ValkeyBuckets(server.url)


@pytest.fixture
def url(buckets: Buckets, storage: Storage) -> Iterator[str]:
    engine = FakeEngine(max_requests=NUM_CLIENTS)
    services = services_of(engine)
    limits = RateLimits(storage, buckets, "org")
    limited = LimitedReplies(MessagesService(services.catalogue), limits, services.catalogue.manifest)
    services = replace(services, messages=limited, keys=KeyRing([hash_key(KEY)], storage))
    with live_server(create_app(services, ApiConfig(), [buckets.close])) as url:
        yield url
    engine.close()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    yield storage
    storage.close()


BODY = {"model": ALIAS, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Hi"}]}


async def asked_by(client: int, connection: httpx.AsyncClient) -> list[Answer]:
    answers = []
    for _ in range(NUM_ASKED):
        sent_at = time.monotonic()
        response = await connection.post("/v1/messages", json=BODY)
        answers.append(Answer(client, sent_at, time.monotonic(), response))
    return answers


async def all_answers(url: str) -> list[Answer]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, limits=limits, timeout=60) as connection:
        answers = await asyncio.gather(*(asked_by(client, connection) for client in range(NUM_CLIENTS)))
    return [answer for each in answers for answer in each]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_limits_hold(storage: Storage, url: str, case: Case) -> None:
    storage.limits.put(case.rule)
    began = time.monotonic()
    answers = await all_answers(url)
    elapsed = time.monotonic() - began
    good = [answer for answer in answers if answer.is_good]
    assert len(good) >= NUM_LET_IN
    assert len(good) * case.used <= case.limit + case.flows_in(elapsed)
    for answer in answers:
        check_level(answer, good, case)
        if not answer.is_good:
            assert answer.response.status_code == 429
            assert int(answer.response.headers["retry-after"]) >= 1
    if case.used == case.taken:  # otherwise a level also rises when others give back what they did not use
        for client in range(NUM_CLIENTS):
            check_falling([answer for answer in answers if answer.client == client], case)


def check_level(answer: Answer, good: list[Answer], case: Case) -> None:
    num_before = sum(other.got_at < answer.sent_at for other in good)
    num_at_most = sum(other.sent_at < answer.got_at for other in good)
    own = case.taken if answer.is_good else 0
    since_first = answer.got_at - min(other.sent_at for other in good)
    floor = case.limit - num_at_most * case.taken
    ceiling = case.limit - num_before * case.used - own + case.flows_in(since_first)
    assert floor <= answer.remaining(case) <= ceiling


def check_falling(answers: list[Answer], case: Case) -> None:
    for one, later in pairwise(answers):
        most = one.remaining(case) + case.flows_in(later.got_at - one.sent_at)
        assert later.remaining(case) <= most - (case.taken if later.is_good else 0)
