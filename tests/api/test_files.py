"""The Files API over a real store: every route, both generations, and whatever can go wrong with an upload."""

from __future__ import annotations

import asyncio
import errno
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig, Services
from hokku.api.http import create_app
from hokku.blobs.directory import Directory, DirectoryWriter
from hokku.protocol.errors import StorageFull
from hokku.protocol.records import ApiKey, UploadedFile
from hokku.service.attachments import Attachments
from hokku.service.draining import Drain
from hokku.service.files import Files, FilesConfig
from hokku.service.keys import KeyRing, hash_key
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.readiness import Readiness
from hokku.storage.storage import Storage
from tests.api.conftest import HEADERS, KEY, NO_ADMINISTRATION, NO_BATCHES, NO_REPORTS
from tests.documents.pdfs import pdf
from tests.fakes import MODEL_ID, FakeEngine, fake_manifest, fake_model

OTHER_KEY = "sk-ant-api03-of-another-workspace"
OLD = {"anthropic-beta": "files-api-2025-04-14"}
AUTH = {name: value for name, value in HEADERS.items() if name != "content-type"}
CONFIG = FilesConfig(max_file_bytes=3_000_000, max_total_bytes=9_000_000)
NOW = datetime.now(UTC)


class House:
    """The application over files of its own, and a look behind it."""

    def __init__(self, folder: Path, engine: FakeEngine) -> None:
        self.blobs = folder / "blobs"
        self.storage = Storage(f"sqlite:///{folder}/hokku.db")
        self.files = Files(self.storage, Directory(self.blobs), CONFIG)
        catalogue = Catalogue([fake_manifest()], {})
        catalogue.put(fake_model(engine, fake_manifest()))
        messages = MessagesService(catalogue, attachments=Attachments(files=self.files))
        keys = KeyRing([hash_key(KEY)], _Keys())
        readiness = Readiness(catalogue, Drain())
        services = Services(
            messages, catalogue, keys, NO_REPORTS, NO_ADMINISTRATION, NO_BATCHES, readiness, self.files
        )
        self.app = create_app(services, ApiConfig())
        self.client = self.client_of(KEY)

    def client_of(self, key: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(
            transport=transport, base_url="http://hokku", headers=AUTH | {"x-api-key": key}
        )

    def kept(self) -> list[str]:
        """What is in the store of blobs, unfinished ones too."""
        return sorted(path.name for path in self.blobs.iterdir()) if self.blobs.exists() else []

    async def upload(self, name: str = "a.txt", content: bytes = b"hello", **fields: Any) -> dict[str, Any]:
        response = await self.client.post("/v1/files", files={"file": (name, content)}, data=fields)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def expire(self, file_id: str) -> None:
        """As if its time had come."""
        rows = self.storage.files
        file = rows.remove(file_id, "wrkspc_default")
        assert file is not None
        old = UploadedFile(
            **{
                name: getattr(file, name)
                for name in UploadedFile.__dataclass_fields__
                if name != "expires_at"
            },
            expires_at=NOW - timedelta(seconds=1),
        )
        rows.add(old, CONFIG.max_total_bytes)


class _Keys:
    """Somebody else's key."""

    reads_at_once = True

    @property
    def keys(self) -> _Keys:
        return self

    def find(self, key_hash: bytes) -> ApiKey | None:
        if key_hash != hash_key(OTHER_KEY):
            return None
        return ApiKey("apikey_2", "wrkspc_other", "theirs", "user", "sk-…", "active", NOW)


@pytest.fixture
async def house(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[House]:
    house = House(tmp_path, engine)
    async with house.client:
        yield house
    house.files.close()
    house.storage.close()


async def refused(house: House, status: int = 400, **request: Any) -> str:
    response = await house.client.post("/v1/files", **request)
    assert response.status_code == status, response.text
    assert house.kept() == [], "nothing of a refused upload stays"
    return str(response.json()["error"]["message"])


async def test_a_file_goes_through_its_life(house: House) -> None:
    response = await house.client.post(
        "/v1/files", files={"file": ("report.pdf", b"%PDF-", "application/pdf")}
    )
    file = response.json()
    assert response.headers["anthropic-workspace-id"] == "wrkspc_default"
    assert file == {
        "type": "file",
        "id": file["id"],
        "filename": "report.pdf",
        "mime_type": "application/pdf",
        "size_bytes": 5,
        "created_at": file["created_at"],
        "downloadable": False,
        "expires_at": None,
    }
    assert abs(datetime.fromisoformat(file["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    path = f"/v1/files/{file['id']}"
    assert (await house.client.get(path)).json() == file
    assert (await house.client.get("/v1/files")).json() == {"data": [file], "next_page": None}
    content = await house.client.get(f"{path}/content")
    assert content.status_code == 400
    assert content.json()["error"]["details"]["error_code"] == "file_not_downloadable"
    assert len(house.kept()) == 1
    assert (await house.client.delete(path)).json() == {"id": file["id"], "type": "file_deleted"}
    assert house.kept() == []
    for method in ("GET", "DELETE"):
        gone = await house.client.request(method, path)
        assert (gone.status_code, gone.json()["error"]["message"]) == (404, f"File `{file['id']}` not found.")


async def test_another_workspace_finds_nothing(house: House) -> None:
    """Isolation, route by route."""
    file_id = (await house.upload())["id"]
    message = {"model": MODEL_ID, "max_tokens": 5, "messages": [
        {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": file_id}}]}
    ]}  # fmt: skip
    async with house.client_of(OTHER_KEY) as other:
        for method, path, body in [
            ("GET", f"/v1/files/{file_id}", None),
            ("GET", f"/v1/files/{file_id}/content", None),
            ("DELETE", f"/v1/files/{file_id}", None),
            ("POST", "/v1/messages", message),
            ("POST", "/v1/messages/count_tokens", {name: message[name] for name in ("model", "messages")}),
        ]:
            response = await other.request(method, path, json=body)
            assert response.status_code == 404, path
            assert response.json()["error"]["message"] == f"File `{file_id}` not found."
        assert (await other.get("/v1/files")).json()["data"] == []
        assert (await other.get("/v1/files", params={"ids[]": file_id})).json()["data"] == []
        assert (await other.get("/v1/files", params={"after_id": file_id}, headers=OLD)).json()["data"] == []
    assert (await house.client.get(f"/v1/files/{file_id}")).status_code == 200


async def test_every_route_asks_for_a_key(house: House) -> None:
    async with house.client_of("wrong") as stranger:
        for method, path in [
            ("POST", ""),
            ("GET", ""),
            ("GET", "/f"),
            ("DELETE", "/f"),
            ("GET", "/f/content"),
        ]:
            assert (await stranger.request(method, f"/v1/files{path}")).status_code == 401
    assert (await house.client.put("/v1/files")).status_code == 405


async def test_lists_of_both_generations(house: House) -> None:
    ids = [(await house.upload(f"{number}.txt"))["id"] for number in range(5)][::-1]

    async def page(old: bool, **query: Any) -> tuple[list[str], dict[str, Any]]:
        response = await house.client.get("/v1/files", params=query, headers=OLD if old else {})
        assert response.status_code == 200, response.text
        body = response.json()
        return [file["id"] for file in body.pop("data")], body

    first, rest = await page(False, limit=3)
    assert first == ids[:3]
    assert rest["next_page"].startswith("page_")
    assert await page(False, limit=3, page=rest["next_page"]) == (ids[3:], {"next_page": None})
    assert await page(False, **{"ids[]": [ids[3], "file_unknown", ids[1], ids[3]]}) == (
        [ids[1], ids[3]],
        {"next_page": None},
    )
    assert await page(False, scope_id="session_1") == ([], {"next_page": None})
    ends = {"first_id": ids[0], "last_id": ids[1], "has_more": True}
    assert await page(True, limit=2) == (ids[:2], ends)
    ends = {"first_id": ids[2], "last_id": ids[4], "has_more": False}
    assert await page(True, limit=3, after_id=ids[1]) == (ids[2:], ends)
    ends = {"first_id": ids[2], "last_id": ids[3], "has_more": True}
    assert await page(True, limit=2, before_id=ids[4]) == (ids[2:4], ends)
    assert await page(True, before_id=ids[0]) == ([], {"first_id": None, "last_id": None, "has_more": False})
    assert await page(True, scope_id="session_1", after_id=ids[0]) == (
        [],
        {"first_id": None, "last_id": None, "has_more": False},
    )


async def test_a_list_goes_on_after_what_has_been_deleted(house: House) -> None:
    ids = [(await house.upload())["id"] for _ in range(3)][::-1]
    first = (await house.client.get("/v1/files", params={"limit": 1})).json()
    await house.client.delete(f"/v1/files/{ids[0]}")
    for query, headers in [({"page": first["next_page"]}, {}), ({"after_id": ids[0]}, OLD)]:
        found = (await house.client.get("/v1/files", params=query, headers=headers)).json()["data"]
        assert [file["id"] for file in found] == ids[1:]


@pytest.mark.parametrize(
    ("query", "headers", "sentence"),
    [
        ({"limit": "0"}, {}, "limit: Input should be greater than or equal to 1"),
        ({"limit": "1001"}, OLD, "limit: Input should be less than or equal to 1000"),
        ({"limit": "x"}, {}, "limit: Input should be a valid integer, unable to parse string as an integer"),
        ({"page": "page_x"}, {}, "page: is not a page that a list has named"),
        ({"page": "1"}, {}, "page: is not a page that a list has named"),
        ({"ids[]": "f", "page": "p"}, {}, "ids: cannot be combined with page"),
        ({"ids[]": "f", "limit": "1"}, {}, "ids: cannot be combined with limit"),
        (
            {"ids[]": [f"file_{number}" for number in range(101)]},
            {},
            "ids: List should have at most 100 items after validation, not 101",
        ),
        ({"after_id": "msg_1"}, OLD, "after_id: is not the id of a file"),
        ({"before_id": "file_1"}, OLD, "before_id: is not the id of a file"),
        ({"before_id": "a", "after_id": "b"}, OLD, "before_id: cannot be combined with after_id"),
    ],
)
async def test_bad_queries_are_refused(
    house: House, query: dict[str, Any], headers: dict[str, str], sentence: str
) -> None:
    response = await house.client.get("/v1/files", params=query, headers=headers)
    assert (response.status_code, response.json()["error"]["message"]) == (400, sentence)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.txt", "a.txt"),
        ("dir/b.txt", "b.txt"),
        ("C:\\dir\\c.txt", "c.txt"),
        ("Zwölf 文.md", "Zwölf 文.md"),
        ("..", ".."),
        ("../../etc/passwd", "passwd"),
        ("x" * 255, "x" * 255),
        ("dir/", "unnamed.txt"),
        ("", "unnamed.txt"),
    ],
)
async def test_file_names(house: House, given: str, kept: str) -> None:
    form = form_of(("file", given, "text/plain", b"x"))
    response = await house.client.post("/v1/files", **form)
    assert response.json()["filename"] == kept


@pytest.mark.parametrize("given", ["x" * 256, "a<b", "a>b", "a:b", "a|b", "a?b", "a*b", "a\x07b", "a\x1fb"])
async def test_bad_file_names_are_refused(house: House, given: str) -> None:
    sentence = await refused(house, **form_of(("file", given, "text/plain", b"x")))
    assert sentence.startswith("file: file name should have")


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("a.pdf", "Application/PDF; charset=binary", "application/pdf"),
        ("a.pdf", "", "application/pdf"),
        ("a.webp", "", "image/webp"),
        ("a", "", "application/octet-stream"),
        ("", "image/png", "image/png"),
    ],
)
async def test_media_types(house: House, name: str, given: str, kept: str) -> None:
    response = await house.client.post("/v1/files", **form_of(("file", name, given, b"x")))
    assert response.json()["mime_type"] == kept


def form_of(*parts: tuple[str, str | None, str, bytes], boundary: bytes = b"-b-") -> dict[str, Any]:
    """A request with exactly these parts: name, file name, media type, content."""
    body = io.BytesIO()
    for name, filename, media_type, content in parts:
        named = "" if filename is None else f'; filename="{filename.replace(chr(92), chr(92) * 2)}"'
        body.write(b'--%s\r\nContent-Disposition: form-data; name="%s"' % (boundary, name.encode()))
        body.write(named.encode() + b"\r\n")
        if media_type:
            body.write(f"Content-Type: {media_type}\r\n".encode())
        body.write(b"\r\n" + content + b"\r\n")
    body.write(b"--%s--\r\n" % boundary)
    return {
        "content": body.getvalue(),
        "headers": {"content-type": f"multipart/form-data; boundary={boundary.decode()}"},
    }


FILE = ("file", "a.txt", "text/plain", b"x")
PROBLEM = "The request body is not a valid form: "


@pytest.mark.parametrize(
    ("request_of", "sentence"),
    [
        (lambda: form_of(), "file: Field required"),
        (lambda: form_of(("purpose", None, "", b"x"), FILE), "purpose: Extra inputs are not permitted"),
        (lambda: form_of(FILE, ("other", None, "", b"x")), "other: Extra inputs are not permitted"),
        (lambda: form_of(FILE, FILE), "file: is there more than once"),
        (lambda: form_of(("file", "a", "no type", b"x")), "file: Content-Type should be a media type"),
        (lambda: form_of(*[FILE] * 20), PROBLEM + "it has more than 16 parts"),
        (lambda: form_of(FILE) | {"content": b""}, PROBLEM + "it ends before its last boundary"),
        (lambda: form_of(FILE) | {"content": form_of(FILE)["content"][:-8]}, PROBLEM + "it ends before"),
        (lambda: form_of(FILE) | {"content": b"{}"}, PROBLEM),
        (lambda: form_of(FILE) | {"content": b"---b-\r\nX: " + b"x" * 9_000}, PROBLEM),
        (lambda: form_of(FILE) | {"content": b"---b-\r\n" + b"X: y\r\n" * 100}, PROBLEM),
        (lambda: form_of(FILE) | {"content": b"---b-\r\nX: y\r\n\r\n"}, PROBLEM + "a part has no name"),
        (
            lambda: form_of(FILE) | {"content": form_of(FILE)["content"].replace(b"a.txt", b"\xff")},
            PROBLEM + "a name is not UTF-8",
        ),
        (
            lambda: form_of(FILE) | {"headers": {"content-type": "application/json"}},
            "content-type: Input should be 'multipart/form-data'",
        ),
        (lambda: {"content": b""}, "content-type: Input should be 'multipart/form-data'"),
        (
            lambda: form_of(FILE) | {"headers": {"content-type": "multipart/form-data"}},
            "content-type: a boundary of 1 to 70 characters is missing",
        ),
        (
            lambda: form_of(FILE) | {"headers": form_of(FILE)["headers"] | {"content-encoding": "gzip"}},
            "a form comes without content-encoding",
        ),
        (
            lambda: form_of(FILE, expiry(b"3599")),
            "expires_in_seconds: Input should be greater than or equal to 3600",
        ),
        (
            lambda: form_of(FILE, expiry(b"7776001")),
            "expires_in_seconds: Input should be less than or equal",
        ),
        (lambda: form_of(FILE, expiry(b"1e9")), "expires_in_seconds: Input should be a valid integer"),
        (lambda: form_of(FILE, expiry(b"-1")), "expires_in_seconds: Input should be a valid integer"),
        (lambda: form_of(FILE, expiry(b"")), "expires_in_seconds: Input should be a valid integer"),
        (lambda: form_of(FILE, expiry(b"9" * 99)), "expires_in_seconds: Input should be a valid integer"),
    ],
)
async def test_bad_forms_are_refused_and_nothing_stays(
    house: House, request_of: Callable[[], dict[str, Any]], sentence: str
) -> None:
    assert (await refused(house, **request_of())).startswith(sentence)


def expiry(text: bytes) -> tuple[str, str | None, str, bytes]:
    return "expires_in_seconds", None, "", text


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_file_may_expire(house: House, is_first: bool) -> None:
    parts = [expiry(b"3600"), FILE] if is_first else [FILE, expiry(b"3600")]
    file = (await house.client.post("/v1/files", **form_of(*parts))).json()
    lasts = datetime.fromisoformat(file["expires_at"]) - datetime.fromisoformat(file["created_at"])
    assert lasts == timedelta(hours=1)
    assert "expires_at" not in (await house.client.get(f"/v1/files/{file['id']}", headers=OLD)).json()


async def test_an_expired_file_keeps_its_metadata_for_a_while(house: House) -> None:
    file_id, other_id = (await house.upload())["id"], (await house.upload())["id"]
    house.expire(file_id)
    content = await house.client.get(f"/v1/files/{file_id}/content")
    assert content.status_code == 404
    assert content.json()["error"]["details"]["error_code"] == "file_expired"
    assert await house.files.find(file_id, "wrkspc_default") is None
    house.files.tidy(datetime.now(UTC))
    assert len(house.kept()) == 1
    assert (await house.client.get(f"/v1/files/{file_id}")).status_code == 200
    assert len((await house.client.get("/v1/files")).json()["data"]) == 2
    house.files.tidy(datetime.now(UTC) + timedelta(days=31))
    assert (await house.client.get(f"/v1/files/{file_id}")).status_code == 404
    assert (await house.client.get(f"/v1/files/{other_id}")).status_code == 200
    assert len(house.kept()) == 1


async def test_metadata_goes_where_no_file_is_left(house: House) -> None:
    file_id = (await house.upload())["id"]
    house.expire(file_id)
    house.files.tidy(datetime.now(UTC))
    assert house.kept() == []
    house.files.tidy(datetime.now(UTC) + timedelta(days=31))
    assert (await house.client.get("/v1/files")).json()["data"] == []


async def test_what_a_crash_has_left_is_removed_a_day_later(house: House) -> None:
    await house.upload()
    writer = Directory(house.blobs).writer()
    writer.write(b"of a process that was killed")
    with Directory(house.blobs).writer() as finished:
        finished.keep()  # and its row was never written
    house.files.tidy(datetime.now(UTC))
    assert len(house.kept()) == 3, "somebody may be about to write its row"
    house.files.tidy(datetime.now(UTC) + timedelta(days=2))
    assert len(house.kept()) == 1
    writer.discard()


def test_tidying_nothing_opens_no_database(tmp_path: Path) -> None:
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    storage.check()
    files = Files(storage, Directory(tmp_path / "blobs"))
    files.tidy(datetime.now(UTC))
    assert list(tmp_path.iterdir()) == []


async def test_a_file_over_the_limit_is_refused(house: House) -> None:
    exactly = bytes(CONFIG.max_file_bytes)
    for size in (CONFIG.max_file_bytes + 1, CONFIG.max_file_bytes + (1 << 20)):
        response = await house.client.post("/v1/files", **form_of(("file", "a", "", bytes(size))))
        assert response.status_code == 413
        assert response.json()["error"]["type"] == "request_too_large"
        assert house.kept() == []
    assert (await house.client.post("/v1/files", **form_of(("file", "a", "", exactly)))).status_code == 200


async def test_a_body_without_an_end_is_not_read_for_ever(house: House) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield form_of(FILE)["content"][:-9]
        while True:
            sent += 65_536
            yield bytes(65_536)

    response = await house.client.post("/v1/files", content=endless(), headers=form_of(FILE)["headers"])
    assert response.status_code == 413
    assert sent < 3 * CONFIG.max_file_bytes
    assert house.kept() == []


async def test_all_files_together_have_a_limit(house: House) -> None:
    for _ in range(3):
        await house.upload("a", bytes(CONFIG.max_file_bytes))
    full = await house.client.post("/v1/files", **form_of(FILE))
    assert full.status_code == 400
    assert full.json()["error"]["details"]["error_code"] == "storage_quota_exceeded"
    assert len(house.kept()) == 3


async def test_uploads_at_once_do_not_mix(house: House) -> None:
    contents = [bytes([number]) * (150_000 + number) for number in range(12)]
    files = await asyncio.gather(*(house.upload("a", content) for content in contents))
    for content, file in zip(contents, files, strict=True):
        assert file["size_bytes"] == len(content)
        found = await house.files.find(file["id"], "wrkspc_default")
        assert found is not None
        assert await house.files.content(found) == content


async def test_an_empty_file_is_a_file(house: House) -> None:
    assert (await house.upload("empty.txt", b""))["size_bytes"] == 0


async def test_a_full_disk_is_said_and_nothing_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, piece: bytes) -> None:
        raise StorageFull("The disk of the file storage is full") from OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryWriter, "write", full)
        assert await refused(house, 503, **form_of(FILE)) == "The disk of the file storage is full"
    await house.upload()


async def test_a_database_that_refuses_leaves_no_blob(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageFull("full")

    with monkeypatch.context() as patched:
        patched.setattr(type(house.storage.files), "add", full)
        assert await refused(house, 503, **form_of(FILE)) == "full"


@pytest.mark.parametrize("num_sent", [10, 100_000, 2_500_000])
async def test_a_client_that_leaves_in_the_middle_leaves_nothing(house: House, num_sent: int) -> None:
    form = form_of(("file", "a", "", bytes(2_900_000)))
    body = iter([form["content"][:num_sent]])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        chunk = next(body, None)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in (AUTH | form["headers"]).items()]
    scope = {"type": "http", "method": "POST", "path": "/v1/files", "headers": headers, "query_string": b""}
    await house.app(scope, receive, send)
    assert sent == []
    assert house.kept() == []
    assert (await house.client.get("/v1/files")).json()["data"] == []


async def test_an_upload_that_is_cancelled_leaves_nothing(house: House) -> None:
    started = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield form_of(("file", "a", "", bytes(2_000_000)))["content"][:1_500_000]
        started.set()
        await asyncio.Event().wait()

    form = form_of(FILE)
    task = asyncio.create_task(house.client.post("/v1/files", content=slow(), headers=form["headers"]))
    await started.wait()
    while not house.kept():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while house.kept():
        await asyncio.sleep(0.01)


async def test_uploaded_files_are_shown_to_the_model(house: House) -> None:
    document = await house.client.post(
        "/v1/files", files={"file": ("a.pdf", pdf(["Page one."]), "application/pdf")}
    )
    text = await house.upload("b.txt", "Zwölf.".encode())
    picture = await house.client.post("/v1/files", files={"file": ("c.png", b"not one", "image/png")})
    table = await house.upload("d.csv", b"a,b")

    async def ask(kind: str, file_id: str, path: str = "/v1/messages/count_tokens") -> httpx.Response:
        source = {"type": "file", "file_id": file_id}
        body = {
            "model": MODEL_ID,
            "messages": [{"role": "user", "content": [{"type": kind, "source": source}]}],
        }
        limit = {} if path.endswith("count_tokens") else {"max_tokens": 5}
        return await house.client.post(path, json=body | limit)

    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        assert (await ask("document", document.json()["id"], path)).status_code == 200
        assert (await ask("document", text["id"], path)).status_code == 200
        wrong = await ask("document", table["id"], path)
        assert wrong.status_code == 400
        assert "is of the type text/csv; this block takes application/pdf, text/plain" in wrong.text
        assert (await ask("image", text["id"], path)).status_code == 400
        assert "Could not process image" in (await ask("image", picture.json()["id"], path)).text
        house.expire(text["id"])
        assert (await ask("document", text["id"], path)).status_code == 404
        text = await house.upload("b.txt", "Zwölf.".encode())
