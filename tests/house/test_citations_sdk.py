"""Cited replies of the default model through the official Python SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.house.server import RealServer

pytestmark = [pytest.mark.clients, pytest.mark.model]

MODEL = "claude-3-5-haiku-latest"
LINE = """\
The Merrow Island Ferry has connected the mainland port of Aldersund with Merrow Island since 1923.

Today the line runs three ships: the Tern, the Petrel and the Guillemot. The Guillemot is a battery-electric ferry and
entered service in May 2021. Its batteries hold 4.3 megawatt-hours, and are expected to last ten years."""
QUESTION = "Which ships does the line run today?"


@pytest.fixture
def sdk(real_server: RealServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=real_server.url, api_key=real_server.key, max_retries=0) as sdk:
        yield sdk


def asked(**fields: Any) -> Any:
    source = {"type": "text", "media_type": "text/plain", "data": LINE}
    document = {"type": "document", "source": source, "title": "The line"} | fields
    content = [document, {"type": "text", "text": QUESTION}]
    return {"model": MODEL, "max_tokens": 80, "messages": [{"role": "user", "content": content}]}


def told(message: anthropic.types.Message) -> list[tuple[str, list[Any]]]:
    """The texts of a reply, each with its citations."""
    return [(block.text, list(block.citations or ())) for block in message.content if block.type == "text"]


def said(message: anthropic.types.Message) -> str:
    return "".join(text for text, _ in told(message))


def test_the_reply_is_the_uncited_one_with_passages_of_the_document(sdk: anthropic.Anthropic) -> None:
    uncited = sdk.messages.create(**asked())
    cited = sdk.messages.create(**asked(citations={"enabled": True}))
    with sdk.messages.stream(**asked(citations={"enabled": True})) as stream:
        streamed = stream.get_final_message()
    assert told(uncited) == [(said(cited), [])]
    assert told(streamed) == told(cited)
    assert streamed.usage.output_tokens == cited.usage.output_tokens == uncited.usage.output_tokens
    citations = [citation for _, found in told(cited) for citation in found]
    assert citations
    for citation in citations:
        assert citation.type == "char_location"
        assert citation.cited_text == LINE[citation.start_char_index : citation.end_char_index]
        assert (citation.document_index, citation.document_title) == (0, "The line")


def test_a_conversation_goes_on_from_a_cited_reply(sdk: anthropic.Anthropic) -> None:
    """What was cut into blocks is one text again: the prompt is as long as if it had never been cut."""
    request = asked(citations={"enabled": True})
    first = sdk.messages.create(**request)
    counts = []
    for content in (first.content, said(first)):
        turns = [
            *request["messages"],
            {"role": "assistant", "content": content},
            {"role": "user", "content": "Go on."},
        ]
        counts.append(sdk.messages.count_tokens(model=MODEL, messages=turns).input_tokens)
    assert counts[0] == counts[1]
