"""Pictures with the default model, seen through eyes with random weights: what holds whatever they see."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hokku.opening import OpenedModel, open_model
from hokku.protocol.errors import BadModelFile, BadSetting, ModelNotFound
from hokku.protocol.events import Reply, fold
from hokku.protocol.messages import (
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    MessagesRequest,
    Part,
    PdfFile,
    TextPart,
    Turn,
)
from hokku.service.keys import Identity
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.settings import load_settings
from tests.documents.pdfs import pdf
from tests.house.desk import Desk
from tests.house.towers import ROWS, write_tower

WIDTH = 576
QUESTION = TextPart("What do you see?")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedModel]:
    """The default model with random eyes."""
    eyes = write_tower(tmp_path_factory.mktemp("eyes"), WIDTH)
    opened = open_model(load_settings({"eyes": str(eyes), "cache_disk": "0", "kv_cache": "100MB"}, {}))
    yield opened
    opened.engine.close()


@pytest.fixture(scope="module")
def desk(seeing: OpenedModel) -> Iterator[Desk]:
    with Desk(seeing) as desk:
        yield desk


def noise(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def shown(image: Image.Image, form: str = "PNG", cache_secs: int | None = None) -> ImagePart:
    file = io.BytesIO()
    image.save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    return ImagePart(
        InlineFile(f"image/{form.lower()}", file.getvalue(), "here"), "here", cache_secs=cache_secs
    )


def asked(*parts: Part) -> Conversation:
    return Conversation((), (Turn("user", parts),))


def test_a_picture_takes_its_rows_and_is_counted_so(desk: Desk) -> None:
    text = desk.count(asked(TextPart("x"), QUESTION))
    one = asked(shown(noise(1)), TextPart("x"), QUESTION)
    two = asked(shown(noise(1)), shown(noise(2, 10, 200)), TextPart("x"), QUESTION)
    assert desk.count(one) - text > ROWS
    assert desk.count(two) - desk.count(one) == ROWS + 1  # a paragraph's break
    for conversation in (one, two):
        start, _ = desk.reply(conversation, "counting")
        assert start.usage.prompt_tokens == desk.count(conversation)


def test_the_same_pixels_are_the_same_prompt_whatever_the_file(desk: Desk) -> None:
    first, reply = desk.reply(asked(shown(noise(3), cache_secs=300), QUESTION), "files")
    again, same = desk.reply(asked(shown(noise(3), "WEBP", cache_secs=300), QUESTION), "files")
    assert first.usage.cache_read_tokens == 0
    assert first.usage.cache_write_5m_tokens == again.usage.cache_read_tokens > ROWS
    assert same.content == reply.content
    other, _ = desk.reply(asked(shown(noise(4), cache_secs=300), QUESTION), "files")
    assert other.usage.cache_read_tokens == 0


def test_a_picture_decides_what_is_said(desk: Desk) -> None:
    replies = {str(desk.reply(asked(shown(noise(seed)), QUESTION), "a", 12)[1].content) for seed in range(6)}
    assert len(replies) > 1


def test_the_same_request_gives_the_same_tokens_beside_others(seeing: OpenedModel, desk: Desk) -> None:
    conversations = [
        asked(TextPart("Hello"), shown(noise(7)), QUESTION),
        asked(shown(noise(8)), shown(noise(7)), QUESTION),
        asked(QUESTION),
        asked(shown(noise(7, 500, 20)), TextPart("And here?"), shown(noise(9))),
    ]
    alone = [desk.reply(each, f"alone {number}", 16)[1] for number, each in enumerate(conversations)]

    async def together() -> list[Reply]:
        catalogue = Catalogue([seeing.served.manifest], {})
        catalogue.put(seeing.served)
        service = MessagesService(catalogue)

        async def one(conversation: Conversation, number: int) -> Reply:
            request = MessagesRequest(seeing.served.id, conversation, 16)
            stream = await service.reply(request, Identity(workspace_id=f"crowd {number}"))
            return fold(await stream.all_events())

        crowd = [one(each, number) for number in range(3) for each in conversations]
        return await asyncio.gather(*crowd)

    for index, reply in enumerate(asyncio.run(together())):
        assert reply.content == alone[index % len(alone)].content


def test_text_is_answered_as_without_eyes(desk: Desk, opened: OpenedModel) -> None:
    with Desk(opened) as blind:
        for words in ("Name three colours.", "Write a line of Python.", "Hello"):
            with_eyes, without = (each.reply(asked(TextPart(words)), "w", 24)[1] for each in (desk, blind))
            assert with_eyes.content == without.content


def test_pages_of_a_pdf_are_seen(desk: Desk) -> None:
    scanned = DocumentPart(PdfFile(InlineFile("application/pdf", pdf(["", ""]), "here")), "here")
    start, _ = desk.reply(asked(scanned, QUESTION), "pages")
    assert start.usage.prompt_tokens > 2 * ROWS


def test_the_manifest_says_what_the_weights_can_do(seeing: OpenedModel) -> None:
    assert {"image_input", "pdf_input"} <= seeing.served.manifest.capabilities
    assert any(label == "eyes" for label, _ in seeing.facts)


def test_eyes_of_another_model_are_refused(tmp_path: Path) -> None:
    eyes = write_tower(tmp_path / "eyes", 64)
    with pytest.raises(BadModelFile, match="width 64"):
        open_model(load_settings({"eyes": str(eyes)}, {}))
    (eyes / "config.json").write_text(json.dumps({"model_type": "idefics3"}))
    with pytest.raises(BadModelFile):
        open_model(load_settings({"eyes": str(eyes)}, {}))
    with pytest.raises(ModelNotFound):
        open_model(load_settings({"eyes": str(tmp_path / "nowhere")}, {}))


def test_a_manifest_cannot_promise_eyes_that_are_not_there(
    opened: OpenedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = replace(opened.served.manifest, capabilities=frozenset({"image_input"}), eyes=None)
    monkeypatch.setattr("hokku.opening.resolve", lambda settings: (manifest, {}))
    with pytest.raises(BadSetting, match="cannot see"):
        open_model(load_settings({}, {}))
