"""Documents, search results and images on the wire: what is accepted, what the model is shown, what is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hokku.protocol.records import BEGINNING, UploadedFile
from hokku.service.attachments import Attachments
from hokku.service.files import FileContent
from tests.api.conftest import client_of, services_of
from tests.api.test_body_errors import GOOD, MARK, assistant, call, calls, result, text, user
from tests.documents.pdfs import pdf
from tests.documents.pictures import bare_png, picture
from tests.fakes import MODEL_ID, FakeEngine

Fields = dict[str, Any]
EXTRA = "Extra inputs are not permitted"
CITED = {"enabled": True}
UNABLE = "Unable to download the file. Please verify the URL and try again."
HERE = "messages.0.content.0"
NO_SIGHT = f"'{MODEL_ID}' does not support image input."


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def inline(media_type: str, data: bytes) -> Fields:
    return {"type": "base64", "media_type": media_type, "data": encoded(data)}


def document(source: Any, **fields: Any) -> Fields:
    return {"type": "document", "source": source, **fields}


def plain(words: str, **fields: Any) -> Fields:
    return document({"type": "text", "media_type": "text/plain", "data": words}, **fields)


def paged(*pages: str, **fields: Any) -> Fields:
    return document(inline("application/pdf", pdf(pages)), **fields)


def blocks(*content: Fields, **fields: Any) -> Fields:
    return document({"type": "content", "content": list(content)}, **fields)


def image(data: bytes | None = None, media_type: str = "image/png", **fields: Any) -> Fields:
    return {"type": "image", "source": inline(media_type, picture() if data is None else data), **fields}


def found(*words: str, **fields: Any) -> Fields:
    return {
        "type": "search_result",
        "source": "s",
        "title": "t",
        "content": [text(each) for each in words],
        **fields,
    }


def by_url(kind: str, url: str) -> Fields:
    return {"type": kind, "source": {"type": "url", "url": url}}


def by_id(kind: str, file_id: str) -> Fields:
    return {"type": kind, "source": {"type": "file", "file_id": file_id}}


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine(context_window_tokens=100_000)
    yield engine
    engine.close()


async def shown(client: httpx.AsyncClient, engine: FakeEngine, changes: Fields) -> str:
    """What the model reads; count_tokens says the same of its length."""
    response = await client.post("/v1/messages", json=GOOD | changes)
    assert response.status_code == 200, response.text
    prompt = bytes(engine.requests[-1].prompt)
    counted = {name: value for name, value in (GOOD | changes).items() if name != "max_tokens"}
    response = await client.post("/v1/messages/count_tokens", json=counted)
    assert response.json() == {"input_tokens": len(prompt)}
    return prompt.decode()


async def refused(client: httpx.AsyncClient, changes: Fields, *, status: int = 400) -> str:
    """The sentence, which is the same for count_tokens."""
    counted = {name: value for name, value in (GOOD | changes).items() if name != "max_tokens"}
    said = []
    for path, body in (("/v1/messages", GOOD | changes), ("/v1/messages/count_tokens", counted)):
        response = await client.post(path, json=body)
        assert response.status_code == status, response.text
        said.append(response.json()["error"]["message"])
    assert said[0] == said[1]
    return str(said[0])


@pytest.mark.parametrize(
    ("changes", "prompt"),
    [
        (
            user([plain("All of it.", title="Report", context="2024"), text("And?")]),
            'user: <document index="1">\n<title>Report</title>\n<context>2024</context>\nAll of it.\n</document>'
            " And?\n",
        ),
        (user([plain("", title=None, context=None)]), 'user: <document index="1">\n\n</document>\n'),
        (
            user([paged("One.", "", "Three.")]),
            'user: <document index="1">\n<page number="1">\nOne.\n</page>\n<page number="2">\n\n</page>\n'
            '<page number="3">\nThree.\n</page>\n</document>\n',
        ),
        (
            user([blocks(text("a"), text("b")), document({"type": "content", "content": "c"})]),
            'user: <document index="1">\na\n\nb\n</document> <document index="2">\nc\n</document>\n',
        ),
        (
            user([found("a", "b")]),
            'user: <search_result index="1">\n<source>s</source>\n<title>t</title>\na\n\nb\n</search_result>\n',
        ),
        (
            assistant([plain("mine")]),
            'user: Hi\nassistant: <document index="1">\nmine\n</document>\nuser: Hi\n',
        ),
        (
            user([plain("x", citations=None), plain("y", citations={"enabled": False})]),
            'user: <document index="1">\nx\n</document> <document index="2">\ny\n</document>\n',
        ),
    ],
)
async def test_the_model_is_shown_documents(
    client: httpx.AsyncClient, engine: FakeEngine, changes: Fields, prompt: str
) -> None:
    assert await shown(client, engine, changes) == prompt


async def test_the_model_is_shown_what_tools_give(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    content = [text("See:"), plain("x"), paged("y")]
    prompt = await shown(client, engine, calls([call()], result(content=content)))
    assert '<document index="1">\nx\n</document>' in prompt
    assert '<document index="2">\n<page number="1">\ny\n</page>\n</document>' in prompt
    prompt = await shown(client, engine, calls([call()], result(content=[found("a"), found("b")])))
    assert '<search_result index="2">' in prompt


SOURCE = f"{HERE}.document.source"
IMAGE = f"{HERE}.image.source"
FORM: list[tuple[Fields, str]] = [
    (document(7), f"{SOURCE}: Input should be an object"),
    ({"type": "document"}, f"{SOURCE}: Field required"),
    (
        document({"type": "ftp"}),
        f"{SOURCE}: Input tag 'ftp' found using 'type' does not match any of the expected tags: 'base64', 'content', "
        "'file', 'text', 'url'",
    ),
    (
        document(inline("text/html", b"x")),
        f"{SOURCE}.base64.media_type: Input should be 'application/pdf'",
    ),
    (
        document({"type": "text", "media_type": "text/html", "data": ""}),
        f"{SOURCE}.text.media_type: Input should be 'text/plain'",
    ),
    (
        document({"type": "text", "media_type": "text/plain", "data": 7}),
        f"{SOURCE}.text.data: Input should be a valid string",
    ),
    (document(inline("application/pdf", b"")), f"{SOURCE}.base64: PDF cannot be empty"),
    *[
        (
            document({"type": "base64", "media_type": "application/pdf", "data": data}),
            f"{SOURCE}.base64: invalid base64 data",
        )
        for data in (
            *(
                "A",
                "AB",
                "ABC",
                "A===",
                "AA==AA==",
                "=AAA",
                "AAA\n",
                " AAAA",
                "data:application/pdf;base64,AAAA",
            ),
            *("AA-_", "ÄÄÄÄ", "AAA=A", "A" * (1 << 20) + "=" * 4, "AA==" + "A" * (1 << 20)),
        )
    ],
    (document({"type": "content", "content": 7}), f"{SOURCE}.content.content: Input should be a valid array"),
    (
        blocks({"type": "document"}),
        f"{SOURCE}.content.content.0: Input tag 'document' found using 'type' does not match any of the expected tags: "
        "'image', 'text'",
    ),
    (blocks(text(7)), f"{SOURCE}.content.content.0.text.text: Input should be a valid string"),  # type: ignore[arg-type]
    (
        blocks(image(b"")),
        f"{SOURCE}.content.content.0.image.source.base64: image cannot be empty",
    ),
    (by_url("document", 7), f"{SOURCE}.url.url: Input should be a valid string"),  # type: ignore[arg-type]
    (by_id("document", 7), f"{SOURCE}.file.file_id: Input should be a valid string"),  # type: ignore[arg-type]
    (document({"type": "url", "url": "u", "x": 1}), f"{SOURCE}.url.x: {EXTRA}"),
    (document({"type": "file", "file_id": "f", "x": 1}), f"{SOURCE}.file.x: {EXTRA}"),
    (document({"type": "content", "content": "", "x": 1}), f"{SOURCE}.content.x: {EXTRA}"),
    (
        document({"type": "text", "media_type": "text/plain", "data": "", "x": 1}),
        f"{SOURCE}.text.x: {EXTRA}",
    ),
    (plain("x", title=""), f"{HERE}.document.title: String should have at least 1 character"),
    (plain("x", title="t" * 501), f"{HERE}.document.title: String should have at most 500 characters"),
    (plain("x", context=""), f"{HERE}.document.context: String should have at least 1 character"),
    (plain("x", context=7), f"{HERE}.document.context: Input should be a valid string"),
    (plain("x", citations=True), f"{HERE}.document.citations: Input should be an object"),
    (
        plain("x", citations={"enabled": 1}),
        f"{HERE}.document.citations.enabled: Input should be a valid boolean",
    ),
    (plain("x", citations={"enabled": True, "x": 1}), f"{HERE}.document.citations.x: {EXTRA}"),
    (plain("x", x=1), f"{HERE}.document.x: {EXTRA}"),
    ({"type": "search_result"}, f"{HERE}.search_result.source: Field required"),
    (found("x", title=None), f"{HERE}.search_result.title: Input should be a valid string"),
    (found(), f"{HERE}.search_result.content: at least one text block is required"),
    (found("x") | {"content": "x"}, f"{HERE}.search_result.content: Input should be a valid array"),
    (
        found("x") | {"content": [image()]},
        f"{HERE}.search_result.content.0: Input tag 'image' found using 'type' does not match any of the expected tags:"
        " 'text'",
    ),
    (found("x", x=1), f"{HERE}.search_result.x: {EXTRA}"),
    ({"type": "image", "source": {}}, f"{IMAGE}.type: Field required"),
    (
        image() | {"source": {"type": "text"}},
        f"{IMAGE}: Input tag 'text' found using 'type' does not match any of the expected tags: 'base64', 'file', "
        "'url'",
    ),
    (
        image(media_type="image/tiff"),
        f"{IMAGE}.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'",
    ),
    (image(b""), f"{IMAGE}.base64: image cannot be empty"),
    (
        image(bytes(7_864_323)),
        f"{IMAGE}.base64: image exceeds 10 MB maximum: 10485764 bytes > 10485760 bytes",
    ),
    (image(transformations=7), f"{HERE}.image.transformations: Input should be an object"),
    (
        image(transformations={"oversized_image": "crop"}),
        f"{HERE}.image.transformations.oversized_image: Input should be 'downsize' or 'error'",
    ),
    (image(transformations={"x": 1}), f"{HERE}.image.transformations.x: {EXTRA}"),
    (image(x=1), f"{HERE}.image.x: {EXTRA}"),
]


@pytest.mark.parametrize(("block", "sentence"), FORM)
async def test_a_malformed_block_is_refused_with_its_place(
    client: httpx.AsyncClient, block: Fields, sentence: str
) -> None:
    assert await refused(client, user([block])) == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (assistant([image()]), "messages.1.content.0: `image` blocks can only be in `user` messages"),
        (
            assistant([found("x")]),
            "messages.1.content.0: `search_result` blocks can only be in `user` messages",
        ),
        (
            user([plain("x", citations=CITED), plain("y")]),
            "messages.0.content.1.document.citations: citations must be enabled on all documents, or on none",
        ),
        (
            user([found("x", citations=CITED), found("y")]),
            "messages: citations must be enabled on all search results, or on none",
        ),
        (
            calls([call()], result(content=[found("x"), text("y")])),
            "messages.2.content.0.tool_result.content: a `tool_result` that contains `search_result` blocks must "
            "contain no others",
        ),
        (
            calls([call()], result(content=[image(b"x")])),
            "messages.2.content.0.tool_result.content.0.image.source.base64.data: Could not process image",
        ),
        (
            calls([call()], result(content=[plain("x"), image()])),
            f"messages.2.content.0.tool_result.content.1.image: {NO_SIGHT}",
        ),
        (
            user([plain("x", cache_control=MARK)] * 5),
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
    ],
)
async def test_what_does_not_go_together_is_refused(
    client: httpx.AsyncClient, changes: Fields, sentence: str
) -> None:
    assert await refused(client, changes) == sentence


async def test_documents_of_the_assistant_went_with_the_older_version(client: httpx.AsyncClient) -> None:
    newer = {"anthropic-version": "2026-10-21"}
    response = await client.post("/v1/messages", json=GOOD | assistant([plain("x")]), headers=newer)
    assert response.status_code == 400
    sentence = "messages.1.content.0: `document` blocks can only be in `user` messages"
    assert response.json()["error"]["message"] == sentence


DATA = f"{HERE}.pdf.source.base64.data"
BYTES = f"{HERE}.image.source.base64.data"


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (document(inline("application/pdf", b"%PDF-1.4")), f"{DATA}: The PDF specified was not valid."),
        (
            document(inline("application/pdf", pdf(["x"], is_locked=True))),
            f"{DATA}: The PDF specified is password protected.",
        ),
        (paged(*["x"] * 101), f"{DATA}: A maximum of 100 PDF pages may be provided."),
        (
            paged("", " ", ""),
            f"{DATA}: The PDF has no text: its pages are pictures, which this model cannot see",
        ),
        (by_id("document", "file_1"), "File `file_1` not found."),
        (by_id("image", "file_1"), "File `file_1` not found."),
        (by_url("document", "https://127.0.0.1/a.pdf"), f"{SOURCE}.url: {UNABLE}"),
        (by_url("image", "http://example.com/a.png"), f"{IMAGE}.url: {UNABLE}"),
        (image(), f"{HERE}.image: {NO_SIGHT}"),
        (blocks(text("a"), image()), f"{HERE}.document.source.content.content.1.image: {NO_SIGHT}"),
        (image(picture("image/webp"), "image/webp"), f"{HERE}.image: {NO_SIGHT}"),
        (image(picture("image/jpeg")), f"{BYTES}: Image does not match the provided media type image/png"),
        (image(b"not an image"), f"{BYTES}: Could not process image"),
        (
            image(bare_png(8_001, 1)),
            f"{BYTES}: At least one of the image dimensions exceed max allowed size: 8000 pixels",
        ),
        (
            image(picture(width=1_600), transformations={"oversized_image": "error"}),
            f"{BYTES}: the image has 1600 x 6 pixels, more than the model takes, and `transformations.oversized_image` "
            "is 'error'",
        ),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_with_its_place(
    client: httpx.AsyncClient, block: Fields, sentence: str
) -> None:
    status = 404 if "not found" in sentence else 400
    assert await refused(client, user([block]), status=status) == sentence


async def test_the_form_comes_before_what_is_in_a_file(client: httpx.AsyncClient) -> None:
    broken = user([image(b"x")])
    assert await refused(client, broken | {"cache_control": 7}) == "cache_control: Input should be an object"
    thinking = {"thinking": {"type": "adaptive"}}
    assert await refused(client, broken | thinking) == "adaptive thinking is not supported on this model"


async def test_too_much_media(client: httpx.AsyncClient) -> None:
    sentence = "messages.0.content.1.pdf.source.base64.data: A maximum of 100 PDF pages may be provided."
    assert await refused(client, user([paged(*["x"] * 60), paged(*["x"] * 41)])) == sentence
    sentence = "messages.0.content.100.pdf.source.base64.data: A maximum of 100 PDF pages may be provided."
    assert await refused(client, user([paged("x")] * 101)) == sentence
    sentence = "Too much media: 0 document pages + 101 images > 100"
    assert await refused(client, user([image()] * 101)) == sentence
    both = user([paged(*["x"] * 99), image(), blocks(image())])
    assert await refused(client, both) == "Too much media: 99 document pages + 2 images > 100"


async def test_many_images_may_be_smaller_only(client: httpx.AsyncClient) -> None:
    large = image(picture(width=2_001, height=1))
    assert await refused(client, user([large] * 20)) == f"{HERE}.image: {NO_SIGHT}"
    assert await refused(client, user([large] * 21)) == (
        f"{BYTES}: At least one of the image dimensions exceed max allowed size for many-image requests: 2000 pixels"
    )


class Files:
    """A store of one workspace's files."""

    def __init__(self, files: dict[str, FileContent]) -> None:
        self._files = files

    async def find(self, file_id: str, workspace_id: str) -> UploadedFile | None:
        assert workspace_id == "wrkspc_default"
        file = self._files.get(file_id)
        if file is None:
            return None
        size = len(file.data)
        return UploadedFile(file_id, workspace_id, "name", file.media_type, size, "", "blob", BEGINNING)

    async def content(self, file: UploadedFile) -> bytes | None:
        return None if file.id == "file_gone" else self._files[file.id].data


async def test_uploaded_files_are_looked_up(engine: FakeEngine) -> None:
    files = Files(
        {
            "file_pdf": FileContent(pdf(["One."]), "application/pdf"),
            "file_text": FileContent("\ufeffZwölf".encode(), "text/plain"),
            "file_bytes": FileContent(b"\xff", "text/plain"),
            "file_png": FileContent(picture(), "image/png"),
            "file_gone": FileContent(b"deleted since its row was read", "text/plain"),
            "file_large": FileContent(bytes((32 << 20) + 1), "text/plain"),
            "file_half": FileContent(bytes((16 << 20) + 1), "text/plain"),
        }
    )
    async with client_of(services_of(engine, attachments=Attachments(files=files))) as client:
        prompt = await shown(
            client, engine, user([by_id("document", "file_pdf"), by_id("document", "file_text")])
        )
        assert '<page number="1">\nOne.\n</page>' in prompt
        assert '<document index="2">\nZwölf\n</document>' in prompt
        assert await refused(client, user([by_id("image", "file_png")])) == f"{HERE}.image: {NO_SIGHT}"
        assert await refused(client, user([by_id("image", "file_pdf")])) == (
            f"{IMAGE}.file: File `file_pdf` is of the type application/pdf; this block takes image/jpeg, image/png, "
            "image/gif, image/webp"
        )
        assert await refused(client, user([by_id("document", "file_bytes")])) == (
            f"{SOURCE}.file: the file is not text in UTF-8"
        )
        for missing in ("file_gone", "file_nowhere"):
            sentence = await refused(client, user([by_id("document", missing)]), status=404)
            assert sentence == f"File `{missing}` not found."
        assert await refused(client, user([by_id("document", "file_large")])) == (
            f"{SOURCE}.file: File `file_large` has 33554433 bytes; the files of a request may have 33554432 together"
        )
        assert "may have 33554432 together" in await refused(
            client, user([by_id("document", "file_half")] * 2)
        )
