"""Prompt caching with the default model: the counts of random conversations add up, and replies stay the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.opening import OpenedModel, open_model
from hokku.protocol.messages import (
    ContentBlocks,
    Conversation,
    DocumentPart,
    InlineFile,
    Part,
    PdfFile,
    PlainText,
    SearchResultPart,
    TextPart,
    Turn,
)
from hokku.settings import load_settings
from tests.documents.pdfs import pdf
from tests.house.desk import MIN_TOKENS, Desk

TEXT = "the quick brown fox jumps over a lazy dog while others look on and say nothing of it"
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def small_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedModel]:
    """The default model with memory for about 2,000 tokens, and a data directory of its own."""
    folder = tmp_path_factory.mktemp("house")
    opened = open_model(load_settings({"kv_cache": "25MB", "data_dir": str(folder)}, {}))
    yield opened
    opened.engine.close()


def a_text_document(text: str, cache_secs: int | None) -> Part:
    return DocumentPart(PlainText(text), "here", title="a fox", context="seen today", cache_secs=cache_secs)


def a_document_in_blocks(text: str, cache_secs: int | None) -> Part:
    blocks = ContentBlocks(tuple(map(TextPart, text.split(" ", 2))))
    return DocumentPart(blocks, "here", is_cited=True, cache_secs=cache_secs)


def a_pdf(text: str, cache_secs: int | None) -> Part:
    file = InlineFile("application/pdf", pdf([text, "", "The end."]), "here")
    return DocumentPart(PdfFile(file), "here", cache_secs=cache_secs)


def a_search_result(text: str, cache_secs: int | None) -> Part:
    return SearchResultPart(
        "https://a.example", "A", (TextPart(text), TextPart("more")), cache_secs=cache_secs
    )


PART_KINDS = (TextPart, TextPart, a_text_document, a_document_in_blocks, a_pdf, a_search_result)


@pytest.fixture(scope="module")
def desk(small_house: OpenedModel) -> Iterator[Desk]:
    """One service for all, which keeps what it has read."""
    with Desk(small_house) as desk:
        yield desk


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Up to four breakpoints, hours before minutes, over texts that begin alike."""
    num_turns = draw(st.sampled_from([1, 3, 5]))
    texts = [
        [
            " ".join(WORDS[draw(st.integers(0, 2)) :][: draw(st.integers(3, 15))])
            for _ in range(draw(st.integers(1, 3)))
        ]
        for _ in range(num_turns + 1)
    ]
    places = [(group, index) for group, parts in enumerate(texts) for index in range(len(parts))]
    marked = sorted(draw(st.sets(st.sampled_from(places), max_size=4)))
    num_long = draw(st.integers(0, len(marked)))
    lifetimes = dict(zip(marked, itertools.chain([3600] * num_long, itertools.repeat(300)), strict=False))
    groups = [
        [(text, lifetimes.get((group, index))) for index, text in enumerate(group_texts)]
        for group, group_texts in enumerate(texts)
    ]
    system, *spoken = groups
    turns = [
        Turn("assistant", tuple(TextPart(*part) for part in said))
        if index % 2
        else Turn("user", tuple(draw(st.sampled_from(PART_KINDS))(*part) for part in said))
        for index, said in enumerate(spoken)
    ]
    return Conversation(tuple(TextPart(*part) for part in system), tuple(turns))


def unmarked(conversation: Conversation) -> Conversation:
    system = tuple(replace(part, cache_secs=None) for part in conversation.system)
    turns = tuple(
        replace(turn, parts=tuple(replace(part, cache_secs=None) for part in turn.parts))
        for turn in conversation.turns
    )
    return replace(conversation, system=system, turns=turns)


numbers = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=conversations())
def test_the_counts_of_any_conversation_add_up(desk: Desk, asked: Conversation) -> None:
    num_tokens = desk.count(asked)
    workspace = f"w{next(numbers)}"  # nobody has been here before
    plain_start, plain = desk.reply(unmarked(asked), workspace)
    assert plain_start.usage.input_tokens == num_tokens
    replies = [desk.reply(asked, workspace) for _ in range(2)]
    for start, reply in replies:
        assert start.usage.prompt_tokens == reply.usage.prompt_tokens == num_tokens
        assert replace(reply.usage, output_tokens=1) == start.usage
        assert reply.text == plain.text
    first, second = (reply.usage for _, reply in replies)
    assert first.cache_read_tokens == 0
    assert second.cache_read_tokens == first.cache_write_5m_tokens + first.cache_write_1h_tokens
    assert second.input_tokens == first.input_tokens
    assert desk.reply(asked, f"{workspace}-other")[0].usage == replies[0][0].usage


def test_memory_was_short_and_the_disk_was_used(small_house: OpenedModel, desk: Desk) -> None:
    """Prompts whose entries together need more memory than there is are all found again, with the same replies."""
    asked = [
        Conversation(
            (), (Turn("user", (TextPart(f"{number}: " + " ".join(WORDS * 16), 300), TextPart("Go on."))),)
        )
        for number in range(8)
    ]
    before = [desk.reply(each, "pressed")[1] for each in asked]
    after = [desk.reply(each, "pressed")[1] for each in asked]
    for first, second in zip(before, after, strict=True):
        assert second.usage.cache_read_tokens == first.usage.cache_write_5m_tokens > 0
        assert second.text == first.text
    stats = small_house.engine.stats()
    assert stats.num_pages_free + stats.num_pages_cached + stats.num_pages_pinned == stats.num_pages
    assert sum(reply.usage.cache_read_tokens for reply in after) > 16 * stats.num_pages


def test_an_hour_outlasts_a_restart_and_no_other_format_reads_it(tmp_path: Path) -> None:
    asked = Conversation((TextPart(" ".join(WORDS * 8), 3600),), (Turn("user", (TextPart("Go on."),)),))
    usages = []
    for kv_format in ("int8", "bf16", "int8"):
        options = {"kv_cache": "25MB", "kv_format": kv_format, "data_dir": str(tmp_path)}
        opened = open_model(load_settings(options, {}))
        with Desk(opened) as desk:
            usages.append(desk.reply(asked, "w")[1].usage)
        opened.engine.close()
    written, other, read = usages
    assert written.cache_write_1h_tokens == other.cache_write_1h_tokens == read.cache_read_tokens > MIN_TOKENS
    assert other.cache_read_tokens == read.cache_write_1h_tokens == 0
