"""Documents and search results in the prompt."""

from __future__ import annotations

import pytest

from hokku.chat.attachments import written_out
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import (
    Attachment,
    ContentBlocks,
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    PdfFile,
    PlainText,
    SearchResultPart,
    TextPart,
    ToolResultPart,
    Turn,
)

PDF = InlineFile("application/pdf", b"%PDF", "here")
IMAGE = ImagePart(InlineFile("image/png", b"", "here"), "messages.0.content.0.image")


def shown(*parts: Attachment | TextPart | ToolResultPart) -> list[str]:
    conversation = written_out(Conversation((), (Turn("user", parts),)))
    texts = []
    for part in conversation.turns[0].parts:
        inner = part.parts if isinstance(part, ToolResultPart) else (part,)
        texts += [text.text for text in inner if isinstance(text, TextPart)]
    return texts


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (
            DocumentPart(PlainText("All of it."), "here", title="Report", context="from 2024"),
            '<document index="1">\n<title>Report</title>\n<context>from 2024</context>\nAll of it.\n</document>',
        ),
        (
            DocumentPart(PdfFile(PDF, ("one", "")), "here"),
            '<document index="1">\n<page number="1">\none\n</page>\n<page number="2">\n\n</page>\n</document>',
        ),
        (
            DocumentPart(ContentBlocks((TextPart("one"), TextPart("two"))), "here"),
            '<document index="1">\none\n\ntwo\n</document>',
        ),
        (
            SearchResultPart("https://a.example", "A", (TextPart("one"),)),
            '<search_result index="1">\n<source>https://a.example</source>\n<title>A</title>\none\n</search_result>',
        ),
    ],
)
def test_the_model_reads(part: Attachment, text: str) -> None:
    assert shown(part) == [text]


def test_each_kind_is_counted_by_itself_also_inside_results() -> None:
    document = DocumentPart(PlainText("x"), "here")
    result = SearchResultPart("s", "t", (TextPart("x"),))
    texts = shown(ToolResultPart("call", (document, result)), document, TextPart("and?"), result)
    assert [text.splitlines()[0] for text in texts] == [
        '<document index="1">',
        '<search_result index="1">',
        '<document index="2">',
        "and?",
        '<search_result index="2">',
    ]


def test_a_mark_stays_with_its_attachment() -> None:
    marked = DocumentPart(PlainText("x"), "here", cache_secs=300)
    conversation = written_out(Conversation((), (Turn("user", (marked, TextPart("and?"))),)))
    assert [part.cache_secs for part in conversation.turns[0].parts] == [300, None]


@pytest.mark.parametrize("part", [IMAGE, DocumentPart(ContentBlocks((IMAGE,)), "here")])
def test_text_cannot_say_an_image(part: Attachment) -> None:
    with pytest.raises(InvalidRequest, match="messages.0.content.0.image: this model reads text only"):
        shown(part)
