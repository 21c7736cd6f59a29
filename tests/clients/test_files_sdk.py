"""The Files API through the official Python SDK: today's form and the beta's before it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anthropic
import pytest
from anthropic.pagination import SyncPage
from anthropic.types import FileMetadata

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.blobs.directory import Directory
from hokku.service.attachments import Attachments
from hokku.service.files import Files
from hokku.storage.storage import Storage
from tests.api.conftest import KEY, services_of
from tests.documents.pdfs import pdf
from tests.fakes import ALIAS, FakeEngine
from tests.live import live_server

pytestmark = pytest.mark.clients

OLD_BETA = "files-api-2025-04-14"


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[anthropic.Anthropic]:
    folder, engine = tmp_path_factory.mktemp("files"), FakeEngine()
    storage = Storage(f"sqlite:///{folder}/hokku.db")
    files = Files(storage, Directory(folder / "blobs"))
    services = services_of(engine, attachments=Attachments(files=files), files=files)
    with (
        live_server(create_app(services, ApiConfig())) as url,
        anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as sdk,
    ):
        yield sdk
    engine.close()
    files.close()
    storage.close()


@pytest.fixture(autouse=True)
def no_files_left(sdk: anthropic.Anthropic) -> Iterator[None]:
    yield
    for file in sdk.files.list():
        sdk.files.delete(file.id)
    assert sdk.files.list().data == []


def test_a_file_s_life(sdk: anthropic.Anthropic, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf(["Page one."]))
    file = sdk.files.upload(file=path, expires_in_seconds=7_200)
    assert (file.type, file.filename, file.mime_type) == ("file", "report.pdf", "application/pdf")
    assert (file.size_bytes, file.downloadable) == (path.stat().st_size, False)
    assert file.expires_at == file.created_at + timedelta(hours=2)
    assert sdk.files.retrieve_metadata(file.id) == file
    with pytest.raises(anthropic.BadRequestError, match="not downloadable"):
        sdk.files.download(file.id)
    assert sdk.files.delete(file.id).type == "file_deleted"
    with pytest.raises(anthropic.NotFoundError, match=f"File `{file.id}` not found"):
        sdk.files.retrieve_metadata(file.id)


def test_a_large_file_in_pieces(sdk: anthropic.Anthropic) -> None:
    file = sdk.files.upload(file=("größe 文.bin", io.BytesIO(bytes(20_000_000)), "application/x-large"))
    assert (file.filename, file.size_bytes) == ("größe 文.bin", 20_000_000)
    assert (file.mime_type, file.expires_at) == ("application/x-large", None)


def test_pages(sdk: anthropic.Anthropic) -> None:
    ids = [sdk.files.upload(file=(f"{number}.txt", b"x")).id for number in range(5)][::-1]
    assert [file.id for file in sdk.files.list(limit=2)] == ids
    assert [file.id for file in sdk.files.list(ids=[ids[3], ids[0], "file_none"])] == [ids[0], ids[3]]
    assert [file.id for file in sdk.beta.files.list(limit=2)] == ids


def test_the_beta_before(sdk: anthropic.Anthropic) -> None:
    """What `client.beta.files` of older SDKs sends and how it turns pages."""
    ids = [sdk.beta.files.upload(file=(f"{number}.txt", b"x"), betas=[OLD_BETA]).id for number in range(5)][
        ::-1
    ]
    page = sdk.get_api_list(
        "/v1/files",
        page=SyncPage[FileMetadata],
        model=FileMetadata,
        options={"headers": {"anthropic-beta": OLD_BETA}, "params": {"limit": 2, "beta": "true"}},
    )
    assert (page.first_id, page.last_id, page.has_more) == (ids[0], ids[1], True)
    assert [file.id for file in page] == ids
    metadata = sdk.beta.files.retrieve_metadata(ids[0], betas=[OLD_BETA])
    assert "expires_at" not in metadata.model_fields_set
    assert sdk.beta.files.delete(ids[0], betas=[OLD_BETA]).id == ids[0]


def test_messages_name_files(sdk: anthropic.Anthropic) -> None:
    text = "Jupiter has 95 known moons."
    file = sdk.files.upload(file=("moons.txt", text.encode(), "text/plain"))
    question: anthropic.types.MessageParam = {
        "role": "user",
        "content": [
            {"type": "document", "source": {"type": "file", "file_id": file.id}},
            {"type": "text", "text": "How many?"},
        ],
    }
    inline: anthropic.types.MessageParam = {
        "role": "user",
        "content": [
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}},
            {"type": "text", "text": "How many?"},
        ],
    }
    counted = sdk.messages.count_tokens(model=ALIAS, messages=[question])
    assert counted == sdk.messages.count_tokens(model=ALIAS, messages=[inline])
    message = sdk.messages.create(model=ALIAS, max_tokens=20, messages=[question])
    assert message.usage.input_tokens == counted.input_tokens
    sdk.files.delete(file.id)
    with pytest.raises(anthropic.NotFoundError, match=f"File `{file.id}` not found"):
        sdk.messages.create(model=ALIAS, max_tokens=20, messages=[question])
