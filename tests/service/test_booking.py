"""Every reply is booked once, however it ends, and for what it used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hokku.protocol.errors import EngineFailed, NotFound, PromptTooLong
from hokku.protocol.messages import Conversation, MessagesRequest, TextPart, Turn
from hokku.protocol.records import LedgerEntry
from hokku.registry.manifest import Manifest, Prices
from hokku.service.booking import BookedReplies, booked_if_refused
from hokku.service.keys import Identity
from hokku.service.ledger import Ledger
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.prices import HOSTED_PRICES, cost
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, fake_manifest, fake_model

ME = Identity("wrkspc_mine", "apikey_mine")
HI = Conversation((), (Turn("user", (TextPart("Hi"),)),))  # nine tokens
REQUEST = MessagesRequest(ALIAS, HI, max_tokens=100, id="req_1")


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


class Book(Ledger):
    """A ledger that keeps its entries to itself."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []

    def book(self, entry: LedgerEntry) -> None:
        self.entries.append(entry)


def booked_by(engine: FakeEngine, book: Book) -> BookedReplies:
    manifest = replace(fake_manifest(), prices=Prices(input=80, output=400))
    catalogue = Catalogue([manifest], {ALIAS: MODEL_ID})
    catalogue.put(fake_model(engine, manifest))
    return BookedReplies(MessagesService(catalogue), book, catalogue.manifest)


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_reply_is_booked_at_its_end(engine: FakeEngine, is_whole: bool) -> None:
    book = Book()
    stream = await booked_by(engine, book).reply(REQUEST, ME)
    assert not book.entries
    while not stream.is_finished:
        await (stream.all_events() if is_whole else stream.next_events())
    stream.cancel()
    (entry,) = book.entries
    num_out = len("Hello, world!") + 1
    assert entry.outcome == "succeeded"
    assert (entry.request_id, entry.workspace_id, entry.key_id) == ("req_1", "wrkspc_mine", "apikey_mine")
    assert (entry.model, entry.tier) == (MODEL_ID, "standard")
    assert (entry.tokens["input"], entry.tokens["output"]) == (9, num_out)
    assert (entry.micro_cents["input"], entry.micro_cents["output"]) == (9 * 80, num_out * 400)


async def test_a_client_that_leaves_pays_for_what_was_made(engine: FakeEngine) -> None:
    engine.step_secs = 0.005
    book = Book()
    stream = await booked_by(engine, book).reply(REQUEST, ME)
    for _ in range(3):
        await stream.next_events()
    stream.cancel()
    stream.cancel()
    (entry,) = book.entries
    assert entry.outcome == "canceled"
    assert 1 <= entry.tokens["output"] <= 13


async def test_a_failure_is_booked(engine: FakeEngine) -> None:
    engine.script = lambda _request: Script(list(b"Hello"), EngineFailed("as arranged"), error_after=3)
    book = Book()
    stream = await booked_by(engine, book).reply(REQUEST, ME)
    with pytest.raises(EngineFailed):
        await stream.all_events()
    stream.cancel()
    (entry,) = book.entries
    assert entry.outcome == "errored"
    assert entry.tokens["output"] == 3


async def test_what_is_refused_is_booked_for_nothing(engine: FakeEngine) -> None:
    engine.context_window_tokens = 5
    book = Book()
    with pytest.raises(PromptTooLong):
        await booked_by(engine, book).reply(REQUEST, ME)
    (entry,) = book.entries
    assert (entry.outcome, entry.request_id, entry.model) == ("errored", "req_1", MODEL_ID)
    assert (entry.tokens, entry.micro_cents) == ({}, {})


def test_what_a_wire_refuses_is_booked_for_nothing() -> None:
    book = Book()
    with booked_if_refused(book.book, "req_1", ME):
        pass
    assert not book.entries
    with pytest.raises(NotFound), booked_if_refused(book.book, "req_1", ME):
        raise NotFound("claude-foo", place="model")
    (entry,) = book.entries
    assert (entry.outcome, entry.request_id, entry.model, entry.tokens) == ("errored", "req_1", "", {})
    assert (entry.workspace_id, entry.key_id, entry.tier) == ("wrkspc_mine", "apikey_mine", "standard")


async def test_another_service_s_model_has_the_prices_of_the_one_that_was_asked() -> None:
    def manifest_of(name: str) -> Manifest:
        if name != ALIAS:
            raise NotFound(name, place="model")
        return replace(fake_manifest(), prices=Prices(input=7))

    class Elsewhere:
        async def reply(self, request: MessagesRequest, identity: Identity, prompt: object) -> object:
            engine = FakeEngine()
            catalogue = Catalogue([fake_manifest("their-model")], {})
            catalogue.put(fake_model(engine, fake_manifest("their-model")))
            return await MessagesService(catalogue).reply(replace(request, model="their-model"), identity)

    book = Book()
    stream = await BookedReplies(Elsewhere(), book, manifest_of).reply(REQUEST, ME)  # type: ignore[arg-type]
    await stream.all_events()
    (entry,) = book.entries
    assert entry.model == "their-model"
    assert entry.micro_cents["input"] == 9 * 7
    await asyncio.sleep(0)


def test_prices() -> None:
    tokens = {"input": 1_000, "output": 10, "cache_write_5m": 3, "cache_write_1h": 5, "cache_read": 7}
    assert cost(tokens, HOSTED_PRICES, "standard") == {  # type: ignore[arg-type]
        "input": 80_000,
        "output": 4_000,
        "cache_write_5m": 300,
        "cache_write_1h": 800,
        "cache_read": 56,
    }
    batch = cost(tokens, HOSTED_PRICES, "batch")  # type: ignore[arg-type]
    assert batch == {
        "input": 40_000,
        "output": 2_000,
        "cache_write_5m": 150,
        "cache_write_1h": 400,
        "cache_read": 28,
    }
    assert cost({"input": 1}, Prices(input=1, batch_percent=50), "batch") == {"input": 1}  # half rounds up


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_client_that_leaves_before_its_turn_pays_nothing(engine: FakeEngine, is_whole: bool) -> None:
    engine.script = lambda _request: Script([], starts=False)
    book = Book()
    stream = await booked_by(engine, book).reply(REQUEST, ME)
    reading = asyncio.create_task(stream.all_events() if is_whole else stream.next_events())
    while not engine.requests:
        await asyncio.sleep(0.001)
    stream.cancel()
    assert await reading == []
    (entry,) = book.entries
    assert entry.outcome == "canceled"
    assert not any(entry.tokens.values())


async def test_whoever_waits_for_a_whole_reply_and_leaves_pays_for_what_was_made(engine: FakeEngine) -> None:
    engine.step_secs = 0.005
    book = Book()
    stream = await booked_by(engine, book).reply(REQUEST, ME)
    reading = asyncio.create_task(stream.all_events())
    while engine.num_steps < 5:
        await asyncio.sleep(0.005)
    stream.cancel()
    assert await reading == []
    (entry,) = book.entries
    assert entry.tokens["input"] == 9
    assert 1 <= entry.tokens["output"] <= 13
