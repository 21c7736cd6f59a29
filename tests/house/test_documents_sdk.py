"""Documents and search results of the default model through the official Python SDK."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.documents.pdfs import pdf
from tests.house.server import RealServer

pytestmark = [pytest.mark.clients, pytest.mark.model]

MODEL = "claude-3-5-haiku-latest"
PAGES = [
    "The lighthouse of Amberholm was built in 1871.\nIts lamp can be seen from twenty miles away.",
    "The keeper's name is Ingrid Solvang.\nShe has lived on the island for thirty years.",
]
PDF: dict[str, Any] = {
    "type": "base64",
    "media_type": "application/pdf",
    "data": base64.b64encode(pdf(PAGES)).decode(),
}
PLAIN: dict[str, Any] = {"type": "text", "media_type": "text/plain", "data": "\n".join(PAGES)}
BLOCKS: dict[str, Any] = {"type": "content", "content": [{"type": "text", "text": page} for page in PAGES]}
QUESTION = {"type": "text", "text": "When was the lighthouse built? Answer with a full sentence."}


@pytest.fixture
def sdk(real_server: RealServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=real_server.url, api_key=real_server.key, max_retries=0) as sdk:
        yield sdk


def asking(*blocks: Any) -> list[Any]:
    return [{"role": "user", "content": [*blocks, QUESTION]}]


@pytest.mark.parametrize("source", [PDF, PLAIN, BLOCKS])
def test_a_question_about_a_document(sdk: anthropic.Anthropic, source: Any) -> None:
    """The answer is in the document and nowhere else; streamed, whole and counted are the same."""
    messages = asking({"type": "document", "source": source, "title": "Amberholm"})
    message = sdk.messages.create(model=MODEL, max_tokens=60, messages=messages)
    [block] = message.content
    assert block.type == "text"
    assert "1871" in block.text
    counted = sdk.messages.count_tokens(model=MODEL, messages=messages)
    assert message.usage.input_tokens == counted.input_tokens
    with sdk.messages.stream(model=MODEL, max_tokens=60, messages=messages) as stream:
        assert "".join(stream.text_stream) == block.text


def test_a_question_about_search_results(sdk: anthropic.Anthropic) -> None:
    results: list[Any] = [
        {
            "type": "search_result",
            "source": f"https://amberholm.example/{number}",
            "title": "Amberholm",
            "content": [{"type": "text", "text": page}],
        }
        for number, page in enumerate(PAGES)
    ]
    message = sdk.messages.create(model=MODEL, max_tokens=60, messages=asking(*results))
    [block] = message.content
    assert block.type == "text"
    assert "1871" in block.text


def test_pages_are_cited_word_for_word(sdk: anthropic.Anthropic) -> None:
    # Of one page: shown both, the model mixes them up, and what it makes up is rightly not cited.
    source = PDF | {"data": base64.b64encode(pdf(PAGES[:1])).decode()}
    document = {"type": "document", "source": source, "title": "Amberholm", "citations": {"enabled": True}}
    message = sdk.messages.create(model=MODEL, max_tokens=60, messages=asking(document))
    cited = [
        citation for block in message.content if block.type == "text" for citation in block.citations or ()
    ]
    assert cited
    for citation in cited:
        assert citation.type == "page_location"
        assert (citation.document_title, citation.document_index) == ("Amberholm", 0)
        assert (citation.start_page_number, citation.end_page_number) == (1, 2)
        assert citation.cited_text in PAGES[0]


@pytest.mark.parametrize(
    ("source", "error", "sentence"),
    [
        (
            PDF | {"data": base64.b64encode(b"%PDF-1.4").decode()},
            anthropic.BadRequestError,
            "The PDF specified was not valid",
        ),
        ({"type": "file", "file_id": "file_1"}, anthropic.NotFoundError, "File `file_1` not found"),
    ],
)
def test_what_cannot_be_read_is_the_sdk_s_own_error(
    sdk: anthropic.Anthropic, source: Any, error: type[anthropic.APIStatusError], sentence: str
) -> None:
    messages = asking({"type": "document", "source": source})
    with pytest.raises(error, match=sentence):
        sdk.messages.create(model=MODEL, max_tokens=9, messages=messages)
