"""A server with a pair of access keys, and clients that sign with it as AWS's own library does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer

from hokku.api.config import ApiConfig, Services
from hokku.api.http import create_app
from hokku.protocol.records import DEFAULT_WORKSPACE_ID
from hokku.service.access_pairs import NewPair, SigningSecret, new_pair
from hokku.service.keys import KeyRing, hash_key
from hokku.storage.storage import Storage
from tests.api.conftest import KEY, services_of
from tests.fakes import FakeEngine

SIGNING_SECRET = "of-these-tests-and-long-enough-for-one"
MODEL = "anthropic.claude-3-5-haiku-20241022-v1:0"
PROFILE = f"us.{MODEL}"
BODY: dict[str, Any] = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "Hi"}],
}
BEARER = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


@dataclass
class Signing(httpx.Auth):
    """Signs each request with a pair."""

    access_key_id: str
    secret: str
    token: str | None = None
    service: str = "bedrock"

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        headers = {name: value for name, value in request.headers.items() if name != "connection"}
        signed = AWSRequest(request.method, str(request.url), headers=headers, data=request.content)
        credentials = Credentials(self.access_key_id, self.secret, self.token)
        SigV4Auth(credentials, self.service, "us-west-2").add_auth(signed)
        request.headers.update(dict(signed.headers))
        yield request


@dataclass
class Bedrock:
    """The services behind the wire, what they keep, and a pair of the default workspace."""

    services: Services
    storage: Storage
    pair: NewPair

    @property
    def signing(self) -> Signing:
        return Signing(self.pair.access_key_id, self.pair.secret)

    def another_pair(
        self, workspace_id: str = DEFAULT_WORKSPACE_ID, lifetime: timedelta | None = None
    ) -> NewPair:
        return add_pair(self.storage, workspace_id, lifetime)

    def client(self, config: ApiConfig | None = None, auth: httpx.Auth | None = None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(create_app(self.services, config or ApiConfig()))
        return httpx.AsyncClient(transport=transport, base_url="http://hokku", auth=auth, headers=BEARER)


def add_pair(storage: Storage, workspace_id: str, lifetime: timedelta | None = None) -> NewPair:
    pair = new_pair(SIGNING_SECRET, "boto3", workspace_id, "user", lifetime)
    storage.keys.add_key(pair.key, pair.key_hash)
    return pair


@pytest.fixture
def bedrock(engine: FakeEngine, tmp_path: Path) -> Bedrock:
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    keys = KeyRing([hash_key(KEY)], storage, SigningSecret(SIGNING_SECRET, tmp_path))
    pair = add_pair(storage, DEFAULT_WORKSPACE_ID)
    return Bedrock(replace(services_of(engine), keys=keys), storage, pair)


@pytest.fixture
async def client(bedrock: Bedrock) -> AsyncIterator[httpx.AsyncClient]:
    """Shows a bearer key."""
    async with bedrock.client() as client:
        yield client


@pytest.fixture
async def signing(bedrock: Bedrock) -> AsyncIterator[httpx.AsyncClient]:
    """Signs."""
    async with bedrock.client(auth=bedrock.signing) as client:
        yield client


def frames(data: bytes) -> list[tuple[dict[str, str], Any]]:
    """Headers and payloads of an event stream."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, json.loads(message.payload)) for message in buffer]
