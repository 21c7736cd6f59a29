"""Cited replies: the same text in other blocks, and every citation word for word where it says, whatever was attached,
whatever was said, and however it came in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.chat.formats.plain import PLAIN
from hokku.protocol.citations import (
    BlockLocation,
    CharLocation,
    Citation,
    PageLocation,
    SearchResultLocation,
)
from hokku.protocol.events import (
    Reply,
    ReplyEnd,
    ReplyEvent,
    ReplyStart,
    TextBlock,
    ToolUseBlock,
    Usage,
    fold,
)
from hokku.protocol.messages import (
    Attachment,
    ContentBlocks,
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    MessagesRequest,
    PdfFile,
    PlainText,
    SearchResultPart,
    TextPart,
    Tool,
    ToolResultPart,
    ToolUsePart,
    Turn,
)
from hokku.service.citing import MAX_SENTENCE_CHARS, Citer, CitingDecoder
from hokku.service.keys import Identity
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.reply_blocks import CitedProse, ReplyBlocks
from tests.fakes import MODEL_ID, FakeEngine, fake_manifest, fake_model, says

FILE = InlineFile("application/pdf", b"", "somewhere")
PLANETS = "Jupiter is the largest planet. It has 95 known moons. Saturn's rings are made of ice."
MEADOW = "The grass is green because of chlorophyll. Water boils at 100 degrees Celsius at sea level."
SKY = DocumentPart(PlainText(PLANETS), "", title="Sky", is_cited=True)


def attached(*parts: Attachment) -> Conversation:
    return Conversation((), (Turn("user", (*parts, TextPart("Tell me."))),))


def plain(text: str = PLANETS, title: str | None = None) -> DocumentPart:
    return DocumentPart(PlainText(text), "", title=title, is_cited=True)


def blocks(*texts: str | None) -> DocumentPart:
    """A document of these blocks, None being an image."""
    parts = tuple(ImagePart(FILE, "") if text is None else TextPart(text) for text in texts)
    return DocumentPart(ContentBlocks(parts), "", is_cited=True)


def cited(sentence: str, *parts: Attachment) -> tuple[Citation, ...]:
    return Citer(attached(*parts)).cite(sentence)


class Spoken:
    """A decoder whose tokens are characters."""

    stop_sequence: str | None = None

    def feed(self, token_ids: Sequence[int]) -> list[str]:
        return ["".join(map(chr, token_ids))]

    def finish(self) -> list[str]:
        return []


def reply_of(conversation: Conversation, chunks: Sequence[str]) -> Reply:
    """The reply that comes in these chunks."""
    decoder, reply_blocks = CitingDecoder(Spoken(), Citer(conversation)), ReplyBlocks()
    usage = Usage(1, 1)
    events: list[ReplyEvent] = [ReplyStart("msg_1", MODEL_ID, usage)]
    for chunk in chunks:
        events += reply_blocks.events_of(decoder.feed([*map(ord, chunk)]))
    events += reply_blocks.events_of(decoder.finish())
    return fold([*events, *reply_blocks.close(), ReplyEnd("end_turn", None, usage)])


def texts_and_counts(reply: Reply) -> list[tuple[str, int]]:
    return [(block.text, len(block.citations)) for block in reply.content if isinstance(block, TextBlock)]


# Where passages are found ------------------------------------------------------------------------------------------


def test_plain_text_is_cited_by_characters() -> None:
    found = cited("There are 95 known moons, and it has them.", plain("Hello. 😀 Yes. " + PLANETS, "Sky"))
    assert found == (CharLocation("It has 95 known moons.", 0, "Sky", 45, 67),)


def test_a_pdf_is_cited_by_page() -> None:
    pages = ("Jupiter is the largest planet.", "", "It has 95 known moons.")
    pdf = DocumentPart(PdfFile(FILE, pages), "", is_cited=True)
    sentence = "Jupiter is the largest planet, and has 95 known moons."
    assert cited(sentence, plain("Nothing."), pdf) == (
        PageLocation("Jupiter is the largest planet.", 1, None, 1, 2),
        PageLocation("It has 95 known moons.", 1, None, 3, 4),
    )
    scanned = DocumentPart(PdfFile(FILE, ("", " \n")), "", is_cited=True)
    assert cited(sentence, scanned) == ()


def test_blocks_are_cited_whole_and_neighbours_together() -> None:
    sentence = "Jupiter is the largest planet, and has 95 known moons."
    first, second = "Jupiter, by the way, is the largest planet. So they say.", "It has 95 known moons."
    assert cited(sentence, blocks("A cover.", first, second)) == (
        BlockLocation(first + second, 0, None, 1, 3),
    )
    assert cited(sentence, blocks(first, None, second)) == (
        BlockLocation(first, 0, None, 0, 1),
        BlockLocation(second, 0, None, 2, 3),
    ), "an image is no text, but counts as a block"
    assert cited(sentence, blocks(first), blocks(second)) == (
        BlockLocation(first, 0, None, 0, 1),
        BlockLocation(second, 1, None, 0, 1),
    )


def test_search_results_are_cited_by_block() -> None:
    parts = (TextPart("Jupiter is the largest planet."), TextPart("It has 95 known moons."))
    result = SearchResultPart("https://a.example/sky", "Sky", parts, is_cited=True)
    other = SearchResultPart("https://a.example/sea", "Sea", (TextPart("Whales."),), is_cited=True)
    assert cited("Jupiter has 95 known moons.", plain("No."), other, result) == (
        SearchResultLocation("It has 95 known moons.", 1, "https://a.example/sky", "Sky", 1, 2),
    )


def test_documents_are_counted_over_all_turns_and_results_of_tools() -> None:
    result = ToolResultPart("toolu_1", (plain("No."), plain(MEADOW)))
    turns = (
        Turn("user", (replace(plain("Nor this."), is_cited=False), TextPart("Look it up."))),
        Turn("assistant", (ToolUsePart("toolu_1", "look", {}),)),
        Turn("user", (result, plain(PLANETS))),
    )
    citer = Citer(Conversation((), turns))
    (meadow,) = citer.cite("Water boils at 100 degrees Celsius.")
    (sky,) = citer.cite("Saturn's rings are made of ice.")
    assert isinstance(meadow, CharLocation)
    assert isinstance(sky, CharLocation)
    assert (meadow.document_index, sky.document_index) == (2, 3)


def test_only_what_may_be_cited_is() -> None:
    conversation = attached(replace(SKY, is_cited=False))
    assert not conversation.asks_for_citations
    assert attached(SKY).asks_for_citations
    assert Citer(conversation).cite("Jupiter is the largest planet.") == ()


def test_titles_and_contexts_are_not_cited() -> None:
    titled = DocumentPart(PlainText("Whales."), "", title=PLANETS, context=PLANETS, is_cited=True)
    assert cited("Jupiter is the largest planet.", titled) == ()


# What a cited reply looks like -------------------------------------------------------------------------------------


def test_a_cited_sentence_has_a_block_of_its_own() -> None:
    said = "Of course! I can help. Jupiter is the largest planet. Saturn's rings are ice. Ask me more. Bye."
    assert texts_and_counts(reply_of(attached(SKY), [said])) == [
        ("Of course! I can help.", 0),
        (" Jupiter is the largest planet.", 1),
        (" Saturn's rings are ice.", 1),
        (" Ask me more. Bye.", 0),
    ]


def test_sentences_with_the_same_citations_share_a_block() -> None:
    said = "Saturn's rings are ice. Indeed: rings, made of ice, are Saturn's.\n\nBye."
    assert texts_and_counts(reply_of(attached(SKY), [said])) == [
        ("Saturn's rings are ice. Indeed: rings, made of ice, are Saturn's.", 1),
        ("\n\nBye.", 0),
    ]


def test_white_space_is_never_a_block_of_its_own() -> None:
    for said in ("Saturn's rings are ice.\n\n", "\n\nSaturn's rings are ice. \n", " \n "):
        assert [text for text, _ in texts_and_counts(reply_of(attached(SKY), [said]))] == [said]


def test_a_sentence_is_sent_when_it_ends() -> None:
    decoder = CitingDecoder(Spoken(), Citer(attached(SKY)))
    assert decoder.feed([*map(ord, "Well. Saturn's rings are ice.")]) == ["Well."], "more may belong to it"
    (sentence,) = decoder.feed([ord(" ")])
    assert isinstance(sentence, CitedProse)
    assert sentence.text == " Saturn's rings are ice."
    assert decoder.finish() == [" "]


def test_a_sentence_without_an_end_is_let_go_of_in_pieces() -> None:
    words = " ".join(f"word{number}" for number in range(1_000))
    decoder = CitingDecoder(Spoken(), Citer(attached(SKY)))
    most_held = num_let_go = 0
    for number, character in enumerate(words, 1):
        num_let_go += sum(len(piece) for piece in decoder.feed([ord(character)]) if isinstance(piece, str))
        most_held = max(most_held, number - num_let_go)
    assert most_held <= MAX_SENTENCE_CHARS
    assert reply_of(attached(SKY), [words]).text == words


# The properties ----------------------------------------------------------------------------------------------------

NOUNS = st.sampled_from(
    ["tin", "gold", "iron", "zinc", "neon", "argon", "Köln", "鉄。", "of", "the", "Dr.", "3.5", "é"]
)
ENDS = st.sampled_from([". ", "! ", ".\n", "\n\n", "?\n- ", "。", '." ', "… ", " "])
SENTENCES = st.builds(lambda words, end: " ".join(words) + end, st.lists(NOUNS, min_size=1, max_size=9), ENDS)
TEXTS = st.lists(SENTENCES, max_size=8).map("".join)
TITLES = st.none() | st.sampled_from(["Ores", "Gases"])
TEXT_PARTS = TEXTS.map(TextPart)
BODIES = st.one_of(
    TEXTS.map(PlainText),
    st.lists(TEXTS, max_size=4).map(lambda pages: PdfFile(FILE, tuple(pages))),
    st.lists(TEXT_PARTS | st.just(ImagePart(FILE, "")), max_size=4).map(
        lambda parts: ContentBlocks(tuple(parts))
    ),
)
DOCUMENTS = st.builds(DocumentPart, BODIES, st.just(""), TITLES, TITLES, st.booleans())
RESULTS = st.builds(
    SearchResultPart,
    TITLES.map(str),
    TITLES.map(str),
    st.lists(TEXT_PARTS, min_size=1, max_size=4).map(tuple),
    st.booleans(),
)
INNER = st.lists(DOCUMENTS | RESULTS, max_size=3)
TURNS = st.lists(
    INNER.map(tuple) | INNER.map(lambda parts: (ToolResultPart("id", tuple(parts)),)), max_size=3
)
CONVERSATIONS = TURNS.map(lambda turns: Conversation((), tuple(Turn("user", parts) for parts in turns)))


@st.composite
def replies(draw: st.DrawFn) -> tuple[Conversation, str]:
    """A conversation, and a reply of sentences that are copied from it, altered, or new."""
    conversation = draw(CONVERSATIONS)
    known = [text + " " for text in texts_of(conversation) if text] or ["Nothing. "]
    copied = st.sampled_from(known)
    altered = st.builds(lambda text, cut, extra: text[cut:] + extra, copied, st.integers(0, 20), SENTENCES)
    return conversation, "".join(draw(st.lists(copied | altered | SENTENCES, max_size=6)))


def texts_of(conversation: Conversation) -> Iterator[str]:
    for part in (*conversation.documents, *conversation.search_results):
        match part:
            case DocumentPart(body=PlainText(text=text)):
                yield text
            case DocumentPart(body=PdfFile(pages=pages)):
                yield from pages or ()
            case DocumentPart(body=ContentBlocks(parts=parts)) | SearchResultPart(parts=parts):
                yield from (each.text for each in parts if isinstance(each, TextPart))


def cut_up(text: str, places: Sequence[int]) -> list[str]:
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(borders)]


def check_citation(citation: Citation, conversation: Conversation) -> tuple[bool, int, int]:
    """Word for word where it says; returns what its order among others is by."""
    assert citation.cited_text.strip()
    assert citation.start < citation.end
    if isinstance(citation, SearchResultLocation):
        result = conversation.search_results[citation.search_result_index]
        assert result.is_cited
        assert (citation.source, citation.title) == (result.source, result.title)
        check_blocks(citation.cited_text, result.parts, citation.start, citation.end)
        return True, citation.search_result_index, citation.start
    document = conversation.documents[citation.document_index]
    assert document.is_cited
    assert citation.document_title == document.title
    match citation, document.body:
        case CharLocation(start=start, end=end), PlainText(text=text):
            assert text[start:end] == citation.cited_text
        case PageLocation(start=start, end=end), PdfFile(pages=tuple(pages)):
            assert start >= 1
            (page,) = pages[start - 1 : end - 1]
            assert citation.cited_text in page
        case BlockLocation(start=start, end=end), ContentBlocks(parts=parts):
            check_blocks(citation.cited_text, parts, start, end)
        case _:
            pytest.fail(f"{citation} is of another kind than {document}")
    return False, citation.document_index, citation.start


def check_blocks(cited_text: str, parts: Sequence[TextPart | ImagePart], start: int, end: int) -> None:
    assert start >= 0
    assert end <= len(parts)
    assert cited_text == "".join(part.text for part in parts[start:end] if isinstance(part, TextPart))
    assert all(isinstance(part, TextPart) for part in parts[start:end])


@given(replies(), st.lists(st.integers(0, 10_000), max_size=40))
def test_every_citation_is_verbatim_and_the_text_is_the_same(
    said: tuple[Conversation, str], places: list[int]
) -> None:
    conversation, text = said
    whole = reply_of(conversation, [text] if text else [])
    assert whole.text == text
    assert reply_of(conversation, cut_up(text, places)) == whole
    for block in whole.content:
        assert isinstance(block, TextBlock)
        assert block.text.strip() or len(whole.content) == 1
        orders = [check_citation(citation, conversation) for citation in block.citations]
        for is_result in (False, True):
            kind = [order[1:] for order in orders if order[0] == is_result]
            assert kind == sorted(kind)
        assert len(set(block.citations)) == len(block.citations)  # of one page there may be several
    for before, after in pairwise(whole.content):
        assert before.citations != after.citations  # type: ignore[union-attr]
    assert conversation.asks_for_citations or not any(count for _, count in texts_and_counts(whole))


# Through the service -----------------------------------------------------------------------------------------------

SAID = "Well. Saturn's rings are made of ice. It has 95 known moons"
LOOK = Tool("look", "", {"type": "object"})


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine(says(SAID))
    yield engine
    engine.close()


async def replied(
    engine: FakeEngine, conversation: Conversation, *stops: str, max_tokens: int = 500
) -> Reply:
    """The reply, the same streamed and whole."""
    catalogue = Catalogue([fake_manifest()], {})
    catalogue.put(fake_model(engine))
    service = MessagesService(catalogue)
    request = MessagesRequest(MODEL_ID, conversation, max_tokens, stops)
    engine.step_secs = 0.001
    streamed = fold([event async for event in await service.reply(request, Identity())])
    engine.step_secs = 0
    whole = fold(await (await service.reply(request, Identity())).all_events())
    assert _without_ids(whole) == _without_ids(streamed)
    return whole


def _without_ids(reply: Reply) -> Reply:
    content = [replace(block, id="") if isinstance(block, ToolUseBlock) else block for block in reply.content]
    return replace(reply, id="", content=tuple(content))


async def test_tokens_and_usage_are_those_of_the_uncited_reply(engine: FakeEngine) -> None:
    uncited = await replied(engine, attached(replace(SKY, is_cited=False)))
    reply = await replied(engine, attached(SKY))
    assert uncited.content == (TextBlock(SAID),)
    assert reply.text == SAID
    assert (reply.usage, reply.stop_reason) == (uncited.usage, "end_turn")
    assert texts_and_counts(reply) == [
        ("Well.", 0),
        (" Saturn's rings are made of ice.", 1),
        (" It has 95 known moons", 1),
    ]


@pytest.mark.parametrize("stop", ["known", " rings are", "95", "!"])
async def test_a_stop_sequence_lets_go_of_what_was_held(engine: FakeEngine, stop: str) -> None:
    reply = await replied(engine, attached(SKY), stop)
    assert reply.text == SAID.partition(stop)[0]
    assert reply.stop_sequence == (stop if stop in SAID else None)


@pytest.mark.parametrize("length", range(1, len(SAID), 9))
async def test_max_tokens_lets_go_of_what_was_held(engine: FakeEngine, length: int) -> None:
    reply = await replied(engine, attached(SKY), max_tokens=length)
    assert (reply.text, reply.stop_reason) == (SAID[:length], "max_tokens")


async def test_prose_before_a_call_is_cited_and_the_call_is_not(engine: FakeEngine) -> None:
    engine.script = says(
        "Saturn's rings are made of ice." + PLAIN.syntax.spell([ToolUsePart("", "look", {"at": "ice"})])
    )
    conversation = replace(attached(SKY), tools=(LOOK,))
    prose, call = (await replied(engine, conversation)).content
    assert isinstance(prose, TextBlock)
    assert isinstance(call, ToolUseBlock)
    assert (prose.text, len(prose.citations), call.input) == (
        "Saturn's rings are made of ice.",
        1,
        {"at": "ice"},
    )
