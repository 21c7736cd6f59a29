"""The Hugging Face source against a stand-in on this machine that speaks the hub's download protocol."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hokku.protocol.errors import DigestMismatch, ModelNotFound, SourceUnreachable
from hokku.registry.cache import ModelCache
from hokku.registry.manifest import Manifest
from hokku.registry.pull import pull
from tests.registry.conftest import MANIFEST, manifest_from

FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": bytes(range(256)) * 400}
COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        content = FILES.get(self.path.removeprefix("/owner/name/resolve/v1/"))
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def repository(folder: Path, files: dict[str, bytes]) -> Manifest:
    pins = "\n".join(f'"{name}" = "{hashlib.sha256(content).hexdigest()}"' for name, content in files.items())
    head = MANIFEST.split("[weights]")[0]
    source = '[weights]\nsource = "huggingface"\nrepository="owner/name"\nrevision="v1"\n[weights.sha256]\n'
    return manifest_from(head + source + pins, folder)


def test_the_named_files_arrive_in_one_folder(hub: None, tmp_path: Path) -> None:
    told: list[int] = []
    cache = ModelCache(tmp_path / "cache")
    manifest = repository(tmp_path, FILES)
    place = pull(manifest, cache, progress=lambda done, total: told.append(done))
    assert {file.name: file.read_bytes() for file in place.iterdir()} == FILES
    assert max(told) == len(FILES["model.safetensors"])
    assert cache.locate(manifest.weights) == place


def test_a_single_file_is_the_place_itself(hub: None, tmp_path: Path) -> None:
    only = {"model.safetensors": FILES["model.safetensors"]}
    place = pull(repository(tmp_path, only), ModelCache(tmp_path / "cache"))
    assert place.read_bytes() == FILES["model.safetensors"]


def test_a_missing_file_and_wrong_bytes_are_named(hub: None, tmp_path: Path) -> None:
    cache = ModelCache(tmp_path / "cache")
    with pytest.raises(ModelNotFound, match="owner/name@v1"):
        pull(repository(tmp_path, {"absent.bin": b""}), cache)
    with pytest.raises(DigestMismatch, match=r"config\.json"):
        pull(repository(tmp_path, {"config.json": b"other"}), cache)


def test_a_hub_that_does_not_answer_shows_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda secs: None)  # the hub's client waits between its retries
    with pytest.raises(SourceUnreachable, match="hokku models pull --from FILE"):
        pull(repository(tmp_path, FILES), ModelCache(tmp_path / "cache"))
