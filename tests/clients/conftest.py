"""Live servers for the clients: over the fake engine, and on random weights with a long window."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.chat.formats.plain import PLAIN
from hokku.protocol.engine import GenerationRequest
from hokku.protocol.messages import ToolUsePart
from hokku.protocol.records import DEFAULT_WORKSPACE_ID
from hokku.service.access_pairs import SigningSecret
from hokku.service.keys import KeyRing, hash_key
from hokku.storage.storage import Storage
from tests.api.bedrock.conftest import SIGNING_SECRET, add_pair
from tests.api.conftest import KEY, services_of
from tests.clients.long_window import write_long_window
from tests.fakes import FakeEngine, Script, says
from tests.house.towers import write_tower
from tests.live import live_server

HOKKU = (sys.executable, "-m", "hokku")
WIDTH = 576  # of the default model
CALLED: list[tuple[str, dict[str, Any]]] = [("clock", {"zone": 'Ü "x" \\ 😀'}), ("clock", {})]


@dataclass(frozen=True)
class FieldServer:
    """A server whose prompts may be as long as those of agents, the engine behind it, and a pair of its access keys."""

    url: str
    engine: FakeEngine
    pair: str  # ACCESS_KEY_ID:SECRET


@dataclass(frozen=True)
class Served:
    """A `hokku serve` of its own, and what its clients show."""

    url: str
    key: str
    pair: str  # ACCESS_KEY_ID:SECRET


CITED_TEXT = "The grass is green. 😀 Jupiter is the largest planet, and has 95 known moons."
CITED_REPLY = "Well. Jupiter has 95 known moons."
CITED_DOCUMENT: Any = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": CITED_TEXT},
    "title": "Sky",
    "citations": {"enabled": True},
}


def answers_what_is_shown(request: GenerationRequest) -> Script:
    """Two calls where tools are shown, a sentence to cite beside a document, and else a greeting."""
    if b"<document" in bytes(request.prompt):
        return says(CITED_REPLY)(request)
    if b"<tools>" not in bytes(request.prompt):
        return says("Hello, world!")(request)
    return says(PLAIN.syntax.spell([ToolUsePart("", *call) for call in CALLED]))(request)


@pytest.fixture(scope="session")
def live_engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def base_url(live_engine: FakeEngine) -> Iterator[str]:
    with live_server(create_app(services_of(live_engine), ApiConfig())) as url:
        yield url


@contextmanager
def field_server(*names: str) -> Iterator[FieldServer]:
    """A server of its own for one client, with further names for the model; closed when the block ends."""
    engine = FakeEngine(context_window_tokens=200_000, step_secs=0.0002)
    with TemporaryDirectory() as folder:
        storage = Storage(f"sqlite:///{folder}/hokku.db")
        pair = add_pair(storage, DEFAULT_WORKSPACE_ID)
        keys = KeyRing([hash_key(KEY)], storage, SigningSecret(SIGNING_SECRET, Path(folder)))
        services = replace(services_of(engine, names=names), keys=keys)
        with live_server(create_app(services, ApiConfig())) as url:
            yield FieldServer(url, engine, f"{pair.access_key_id}:{pair.secret}")
        storage.close()
    engine.close()


def access_pair(environ: Mapping[str, str]) -> str:
    """A pair that `hokku keys create --aws` makes."""
    printed = subprocess.check_output([*HOKKU, "keys", "create", "boto3", "--aws"], env=environ, text=True)
    return ":".join(line.partition("=")[2] for line in printed.splitlines())


@contextmanager
def hokku_serve(folder: Path, *options: str, **environ: str) -> Iterator[Served]:
    """`hokku serve` with these options, which keeps what it remembers in `folder`."""
    told = os.environ | {"HOKKU_API_KEY": KEY, "HOKKU_DATA_DIR": str(folder / "data"), **environ}
    pair = access_pair(told)
    command = [*HOKKU, "serve", "--port", "0", *options]
    with subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed = iter(process.stdout or ())
            address = next(line for line in printed if line.strip().startswith("address"))
            yield Served(address.split()[1], KEY, pair)
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def long_window(default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """On random weights with a window of 65,536 tokens."""
    folder = tmp_path_factory.mktemp("long-window")
    weights = folder / "long-window.gguf"
    write_long_window(default_gguf, weights)
    environ = {"HOKKU_CACHE_DIR": str(folder / "cache"), "HOKKU_KV_CACHE": "512MB"}
    with hokku_serve(folder, "--model", str(weights), **environ) as served:
        yield served


@pytest.fixture(scope="session")
def seeing(default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With the default model and eyes of random weights; fetches pictures from this machine."""
    folder = tmp_path_factory.mktemp("seeing")
    eyes = write_tower(folder / "eyes", WIDTH)
    options = ("--eyes", str(eyes), "--url-sources", "any", "--cache-disk", "0")
    with hokku_serve(folder, *options, HOKKU_KV_CACHE="256MB") as served:
        yield served


@pytest.fixture(scope="session")
def seeing_url(seeing: Served) -> str:
    return seeing.url
