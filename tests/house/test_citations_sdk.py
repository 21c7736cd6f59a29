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


def test_the_reply_is_the_uncited_one_with_passages_of_the_document(sdk: anthropic.Anthropic) -> None:
    uncited = sdk.messages.create(**asked())
    cited = sdk.messages.create(**asked(citations={"enabled": True}))
    with sdk.messages.stream(**asked(citations={"enabled": True})) as stream:
        streamed = stream.get_final_message()
    told = [
        [(block.text, block.citations) for block in each.content if block.type == "text"]
        for each in (cited, streamed)
    ]
    assert told[0] == told[1]
    assert cited.usage.output_tokens == uncited.usage.output_tokens
    (whole,) = uncited.content
    assert whole.type == "text"
    assert whole.text == "".join(text for text, _ in told[0])
    citations = [citation for _, found in told[0] for citation in found or []]
    assert citations
    for citation in citations:
        assert citation.type == "char_location"
        assert citation.cited_text == LINE[citation.start_char_index : citation.end_char_index]
        assert (citation.document_index, citation.document_title) == (0, "The line")


def test_a_conversation_goes_on_from_a_cited_reply(sdk: anthropic.Anthropic) -> None:
    """What was cut into blocks is one text again: the prompt goes on where the first one and its reply ended."""
    request = asked(citations={"enabled": True}, cache_control={"type": "ephemeral"})
    first = sdk.messages.create(**request)
    text = "".join(block.text for block in first.content if block.type == "text")
    counts = []
    for content in (first.content, text):
        turns = [
            *request["messages"],
            {"role": "assistant", "content": content},
            {"role": "user", "content": "Go on."},
        ]
        counts.append(sdk.messages.count_tokens(model=MODEL, messages=turns).input_tokens)
    assert counts[0] == counts[1]
