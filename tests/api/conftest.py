"""The ASGI app over a fake engine, called in process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path

import httpx
import pytest

from hokku.api.config import ApiConfig, Services
from hokku.api.http import create_app
from hokku.blobs.directory import Directory
from hokku.protocol.pictures import Tiling
from hokku.registry.manifest import Manifest
from hokku.service.administration import Administration
from hokku.service.attachments import Attachments
from hokku.service.batches import Batches
from hokku.service.draining import Drain
from hokku.service.files import Files
from hokku.service.keys import KeyRing, hash_key
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.readiness import Readiness
from hokku.service.reports import Reports
from hokku.storage.storage import Storage
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, fake_manifest, fake_model

KEY = "sk-ant-api03-test"
NO_REPORTS = Reports(Storage("sqlite://"))  # of a ledger without entries
NO_ADMINISTRATION = Administration(Storage("sqlite://"))
NO_BATCHES = Batches(Storage("sqlite://"), Directory(Path("no-blobs")))
NO_FILES = Files(Storage("sqlite://"), Directory(Path(os.devnull)))
HEADERS = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": "application/json"}


def services_of(
    engine: FakeEngine | None,
    *,
    open_access: bool = False,
    names: Collection[str] = (),
    attachments: Attachments | None = None,
    manifest: Manifest | None = None,
    files: Files | None = None,
    tiling: Tiling | None = None,
) -> Services:
    """Services over `engine`; without one the model is still loading. `names` stand for it too. With a `tiling`, the
    model sees."""
    manifest = manifest or fake_manifest()
    catalogue = Catalogue([manifest], dict.fromkeys([ALIAS, *names], MODEL_ID))
    if engine:
        catalogue.put(fake_model(engine, manifest, tiling))
    service = MessagesService(catalogue, attachments=attachments)
    keys = KeyRing([hash_key(KEY)], open_access=open_access)
    return Services(
        service,
        catalogue,
        keys,
        NO_REPORTS,
        NO_ADMINISTRATION,
        NO_BATCHES,
        Readiness(catalogue, Drain()),
        files or NO_FILES,
    )


def client_of(services: Services, config: ApiConfig | None = None) -> httpx.AsyncClient:
    """An in-process client with good headers."""
    transport = httpx.ASGITransport(create_app(services, config or ApiConfig()))
    return httpx.AsyncClient(transport=transport, base_url="http://hokku", headers=HEADERS)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture
async def client(engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(services_of(engine)) as client:
        yield client
