"""The default model, opened once for all tests of the house."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hokku.api.config import ApiConfig, Services
from hokku.api.http import create_app
from hokku.blobs.directory import Directory
from hokku.models.packing import PackedModel
from hokku.opening import OpenedModel, open_model
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
from hokku.settings import load_settings
from hokku.storage.storage import Storage
from tests.house.server import RealServer
from tests.live import live_server

KEY = "sk-ant-api03-tests-of-the-house"


@pytest.fixture(scope="session")
def opened() -> Iterator[OpenedModel]:
    """The default model with an engine of its own, which leaves nothing on disk."""
    opened = open_model(load_settings({"cache_disk": "0"}, os.environ))
    yield opened
    opened.engine.close()


@pytest.fixture(scope="session")
def default_packed(opened: OpenedModel) -> PackedModel:
    """The default model's weights in their packed form."""
    return opened.packed


@pytest.fixture(scope="session")
def real_server(opened: OpenedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """The default model behind a socket."""
    manifest = opened.served.manifest
    catalogue = Catalogue([manifest], dict.fromkeys(manifest.aliases, manifest.id))
    catalogue.put(opened.served)
    folder = tmp_path_factory.mktemp("state")
    storage = Storage(f"sqlite:///{folder}/hokku.db")
    files = Files(storage, Directory(folder / "blobs"))
    services = Services(
        MessagesService(catalogue, attachments=Attachments(files=files)),
        catalogue,
        KeyRing([hash_key(KEY)]),
        Reports(storage),
        Administration(storage),
        Batches(storage, Directory(folder / "batches")),
        Readiness(catalogue, Drain()),
        files,
    )
    with live_server(create_app(services, ApiConfig())) as url:
        yield RealServer(url, KEY, opened.engine)
