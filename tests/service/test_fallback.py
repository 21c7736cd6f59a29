"""Fallback: every reason hands a request on, nothing does so after the first event, and whose error is shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from hokku.protocol.errors import (
    EngineFailed,
    HokkuError,
    InvalidRequest,
    ModelLoading,
    Overloaded,
    PromptTooLong,
    RateLimited,
    UpstreamFailed,
    WaitedTooLong,
)
from hokku.protocol.events import ReplyEvent, ReplyStart, TextDelta, fold
from hokku.protocol.messages import (
    ContentBlocks,
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    MessagesRequest,
    PlainText,
    SearchResultPart,
    TextPart,
    Tool,
    ToolChoice,
    Turn,
)
from hokku.registry.fallback import Fallback, LocalTarget, Reason, Rule, UpstreamTarget
from hokku.registry.manifest import Manifest
from hokku.service.fallback import FallbackService
from hokku.service.fallback_rules import matches
from hokku.service.keys import Identity
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.replies import ReplyStream
from tests.fakes import FakeEngine, Script, fake_manifest, fake_model, says

ME = Identity()
EVERY: frozenset[Reason] = frozenset({"overloaded", "too_long", "engine_failed", "loading"})
OTHER = UpstreamTarget("https://models.example", "anthropic", "theirs")
TOOL = Tool("look", "", {"type": "object"})


def asking(text: str = "Hi", **changes: object) -> MessagesRequest:
    conversation = Conversation((), (Turn("user", (TextPart(text),)),))
    return replace(MessagesRequest("one", conversation, max_tokens=20), **changes)  # type: ignore[arg-type]


@dataclass
class FakeUpstream:
    """Answers with the words of a fake engine of its own, or fails."""

    service: MessagesService
    error: HokkuError | None = None
    never: bool = False
    asked: list[MessagesRequest] = field(default_factory=list)

    async def reply(self, request: MessagesRequest) -> ReplyStream:
        self.asked.append(request)
        if self.never:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        return await self.service.reply(replace(request, model="theirs"), ME)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Setting:
    """A model `one` with an engine that may be missing, and whoever answers in its place."""

    one: FakeEngine
    two: FakeEngine
    fallback: Fallback
    is_loaded: bool = True
    upstream: FakeUpstream = field(init=False)
    service: FallbackService = field(init=False)

    def __post_init__(self) -> None:
        theirs = Catalogue([fake_manifest("theirs")], {})
        theirs.put(fake_model(self.two, fake_manifest("theirs")))
        self.upstream = FakeUpstream(MessagesService(theirs))
        manifests = [with_fallback("one", self.fallback), fake_manifest("two")]
        catalogue = Catalogue(manifests, {"alias": "one"})
        if self.is_loaded:
            catalogue.put(fake_model(self.one, manifests[0]))
        catalogue.put(fake_model(self.two, manifests[1]))
        self.service = FallbackService(MessagesService(catalogue), catalogue, {"one": self.upstream})


def with_fallback(model_id: str, fallback: Fallback) -> Manifest:
    return replace(fake_manifest(model_id), fallback=fallback)


def to(target: LocalTarget | UpstreamTarget, *rules: Rule, when: frozenset[Reason] = EVERY) -> Fallback:
    return Fallback(target, when, rules, "here")


@pytest.fixture
def engines() -> Iterator[tuple[FakeEngine, FakeEngine]]:
    one, two = FakeEngine(says("from one")), FakeEngine(says("from two"), context_window_tokens=5_000)
    yield one, two
    one.close()
    two.close()


def make_unable(setting: Setting, reason: Reason) -> MessagesRequest:
    """Bring model one into a state in which it does not answer, for this reason; the request to ask it with."""
    match reason:
        case "overloaded":
            setting.one.max_requests = 0
        case "engine_failed":
            setting.one.script = lambda _request: Script([], EngineFailed("broken"), error_after=-1)
        case "too_long":
            return asking("x" * 1_001)
        case "rule":
            return asking(max_tokens=21)
        case "loading":
            pass
    return asking()


CASES = [
    (reason, target)
    for reason in ("overloaded", "too_long", "engine_failed", "loading", "rule")
    for target in (LocalTarget("two"), OTHER)
]


def setting_for(engines: tuple[FakeEngine, FakeEngine], reason: Reason, fallback: Fallback) -> Setting:
    return Setting(*engines, fallback, is_loaded=reason != "loading")


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(("reason", "target"), CASES)
async def test_every_reason_hands_on(
    engines: tuple[FakeEngine, FakeEngine],
    reason: Reason,
    target: LocalTarget | UpstreamTarget,
    is_whole: bool,
) -> None:
    setting = setting_for(engines, reason, to(target, Rule(max_tokens_over=20)))
    stream = await setting.service.reply(make_unable(setting, reason), ME)
    events = await stream.all_events() if is_whole else await read(stream)
    reply = fold(events)
    name = "two" if isinstance(target, LocalTarget) else "theirs"
    assert (reply.text, reply.model, stream.model_id) == ("from two", name, name)
    assert (stream.fallback_reason, stream.is_finished) == (reason, True)
    assert stream.usage == reply.usage
    assert reply.usage.output_tokens == len("from two") + 1


async def read(stream: ReplyStream, into: list[ReplyEvent] | None = None) -> list[ReplyEvent]:
    events = [] if into is None else into
    while not stream.is_finished:
        events += await stream.next_events()
    return events


@pytest.mark.parametrize(("reason", "target"), CASES)
async def test_what_is_no_reason_is_the_named_model_s_own_affair(
    engines: tuple[FakeEngine, FakeEngine], reason: Reason, target: LocalTarget | UpstreamTarget
) -> None:
    setting = setting_for(engines, reason, to(target, Rule(max_tokens_over=8_000), when=EVERY - {reason}))
    request = make_unable(setting, reason)
    if reason == "rule":
        assert fold(await read(await setting.service.reply(request, ME))).model == "one"
        return
    kinds = {"overloaded": Overloaded, "too_long": PromptTooLong, "loading": ModelLoading}
    with pytest.raises(kinds.get(reason, EngineFailed)):
        await read(await setting.service.reply(request, ME))
    assert not setting.upstream.asked


@pytest.mark.parametrize(("reason", "target"), CASES)
async def test_a_client_may_want_no_other_model(
    engines: tuple[FakeEngine, FakeEngine], reason: Reason, target: LocalTarget | UpstreamTarget
) -> None:
    setting = setting_for(engines, reason, to(target, Rule(max_tokens_over=20)))
    request = replace(make_unable(setting, reason), may_fall_back=False)
    if reason == "rule":
        assert fold(await read(await setting.service.reply(request, ME))).model == "one"
        return
    with pytest.raises(HokkuError):
        await read(await setting.service.reply(request, ME))
    assert not setting.upstream.asked


async def test_the_named_model_answers_if_it_can(engines: tuple[FakeEngine, FakeEngine]) -> None:
    setting = Setting(*engines, to(OTHER))
    stream = await setting.service.reply(asking(model="alias"), ME)
    reply = fold(await read(stream))
    assert (reply.text, reply.model, stream.model_id, stream.fallback_reason) == (
        "from one",
        "one",
        "one",
        None,
    )
    assert not setting.upstream.asked


@pytest.mark.parametrize("num_before", [1, 5])
async def test_nothing_switches_after_the_first_event(
    engines: tuple[FakeEngine, FakeEngine], num_before: int
) -> None:
    setting = Setting(*engines, to(OTHER))
    setting.one.script = lambda _request: Script(b"abcdef", EngineFailed("broken"), error_after=num_before)
    setting.one.step_secs = 0.005
    stream = await setting.service.reply(asking(), ME)
    events: list[ReplyEvent] = []
    with pytest.raises(EngineFailed):
        await read(stream, events)
    assert isinstance(events[0], ReplyStart)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "abcdef"[:num_before]
    assert stream.fallback_reason is None
    assert not setting.upstream.asked


@pytest.mark.parametrize("is_whole", [True, False])
async def test_whose_turn_does_not_come_is_handed_on(
    engines: tuple[FakeEngine, FakeEngine], is_whole: bool
) -> None:
    setting = Setting(*engines, to(OTHER))
    setting.one.script = lambda _request: Script([], WaitedTooLong("too long"), error_after=-1)
    stream = await setting.service.reply(asking(), ME)
    await (stream.all_events() if is_whole else stream.next_events())
    assert stream.fallback_reason == "overloaded"
    assert setting.upstream.asked
    stream.cancel()


async def test_nothing_switches_once_the_wire_may_have_sent_a_ping(
    engines: tuple[FakeEngine, FakeEngine],
) -> None:
    setting = Setting(*engines, to(OTHER))
    setting.one.script = lambda _request: Script([], starts=False)
    stream = await setting.service.reply(asking(), ME)
    assert await stream.next_events(0.01) == []
    setting.one.script = lambda _request: Script([], EngineFailed("broken"), error_after=-1)
    for running in setting.one._running:  # fails only now
        running.script = Script([], EngineFailed("broken"), error_after=-1)
    with pytest.raises(EngineFailed):
        await stream.next_events()
    assert not setting.upstream.asked


async def test_of_a_whole_reply_nothing_is_sent_before_its_end(
    engines: tuple[FakeEngine, FakeEngine],
) -> None:
    setting = Setting(*engines, to(OTHER))
    setting.one.script = lambda _request: Script(b"abcdef", EngineFailed("broken"), error_after=4)
    stream = await setting.service.reply(asking(), ME)
    reply = fold(await stream.all_events())
    assert (reply.text, stream.fallback_reason) == ("from two", "engine_failed")
    assert reply.usage.output_tokens == len("from two") + 1  # of what nobody gets, nothing is booked


@pytest.mark.parametrize(
    ("reason", "failure", "shown"),
    [
        ("overloaded", Overloaded("theirs"), Overloaded),
        ("overloaded", InvalidRequest("theirs"), Overloaded),
        ("overloaded", UpstreamFailed("theirs"), Overloaded),
        ("loading", RateLimited("theirs", retry_after_secs=9), ModelLoading),
        ("engine_failed", UpstreamFailed("theirs"), EngineFailed),
        ("too_long", Overloaded("theirs"), PromptTooLong),
        ("too_long", UpstreamFailed("theirs"), PromptTooLong),
    ],
)
async def test_the_caller_gets_the_error_of_the_model_it_named(
    engines: tuple[FakeEngine, FakeEngine],
    reason: Reason,
    failure: HokkuError,
    shown: type[HokkuError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "hokku.service")
    setting = setting_for(engines, reason, to(OTHER))
    setting.upstream.error = failure
    stream = await setting.service.reply(make_unable(setting, reason), ME)
    with pytest.raises(shown) as raised:
        await stream.next_events()
    assert "theirs" not in str(raised.value)
    assert f"({reason}), which failed: theirs" in caplog.messages[0]
    assert stream.is_finished
    assert await stream.next_events() == []


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        ("too_long", InvalidRequest("theirs")),
        ("rule", InvalidRequest("theirs")),
        ("rule", Overloaded("theirs")),
        ("rule", UpstreamFailed("theirs")),
    ],
)
async def test_a_request_that_is_always_handed_on_gets_the_other_s_error(
    engines: tuple[FakeEngine, FakeEngine], reason: Reason, failure: HokkuError
) -> None:
    setting = setting_for(engines, reason, to(OTHER, Rule(max_tokens_over=20)))
    setting.upstream.error = failure
    stream = await setting.service.reply(make_unable(setting, reason), ME)
    with pytest.raises(type(failure), match="theirs"):
        await stream.all_events()


async def test_a_chain_is_followed_and_the_first_reason_told(engines: tuple[FakeEngine, FakeEngine]) -> None:
    one, two = engines
    three = FakeEngine(says("from three"))
    manifests = [
        with_fallback("one", to(LocalTarget("two"))),
        with_fallback("two", to(LocalTarget("three"))),
        fake_manifest("three"),
    ]
    catalogue = Catalogue(manifests, {})
    for engine, manifest in zip((one, two, three), manifests, strict=True):
        catalogue.put(fake_model(engine, manifest))
    service = FallbackService(MessagesService(catalogue), catalogue, {})
    one.max_requests = 0
    two.script = lambda _request: Script([], EngineFailed("broken"), error_after=-1)
    stream = await service.reply(asking(), ME)
    reply = fold(await read(stream))
    assert (reply.text, reply.model, stream.model_id, stream.fallback_reason) == (
        "from three",
        "three",
        "three",
        "overloaded",
    )
    three.close()


async def test_what_the_named_model_does_not_allow_is_refused_whoever_would_answer(
    engines: tuple[FakeEngine, FakeEngine],
) -> None:
    setting = Setting(*engines, to(OTHER, Rule(max_tokens_over=20)), is_loaded=False)
    with pytest.raises(InvalidRequest, match="9000 > 8192"):
        await setting.service.reply(asking(max_tokens=9_000), ME)


async def test_a_prompt_to_be_cached_is_not_handed_on(engines: tuple[FakeEngine, FakeEngine]) -> None:
    setting = Setting(*engines, to(OTHER))
    setting.one.max_requests = 0
    with pytest.raises(Overloaded):
        await setting.service.reply(asking(max_tokens=0), ME)
    assert not setting.upstream.asked


async def test_tokens_are_counted_as_the_named_model_counts(engines: tuple[FakeEngine, FakeEngine]) -> None:
    setting = Setting(*engines, to(OTHER))
    conversation = asking("x" * 2_000).conversation
    assert await setting.service.count("one", conversation, ME) == 2_000 + len("user: \n")


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_client_that_leaves_while_the_other_is_waited_for(
    engines: tuple[FakeEngine, FakeEngine], is_whole: bool
) -> None:
    setting = Setting(*engines, to(OTHER))
    setting.one.max_requests, setting.upstream.never = 0, True
    stream = await setting.service.reply(asking(), ME)
    reading = asyncio.create_task(stream.all_events() if is_whole else stream.next_events())
    while not setting.upstream.asked:
        await asyncio.sleep(0.001)
    stream.cancel()
    assert await reading == []
    assert stream.is_finished
    stream.cancel()


async def test_a_client_that_leaves_before_anything(engines: tuple[FakeEngine, FakeEngine]) -> None:
    setting = Setting(*engines, to(OTHER))
    setting.one.script = lambda _request: Script([], starts=False)
    stream = await setting.service.reply(asking(), ME)
    stream.cancel()
    assert (await stream.next_events(), await stream.all_events(), stream.is_finished) == ([], [], True)
    while setting.one.stats().num_running:
        await asyncio.sleep(0.001)
    assert not setting.upstream.asked


def parts(*given: object, **changes: object) -> MessagesRequest:
    conversation = Conversation((), (Turn("user", tuple(given)),), **changes)  # type: ignore[arg-type]
    return asking(conversation=conversation)


IMAGE = ImagePart(InlineFile("image/png", b"", ""), "")
PLAIN = asking()
TOOLS = parts(TextPart("Hi"), tools=(TOOL,))
FORCED = parts(TextPart("Hi"), tools=(TOOL,), tool_choice=ToolChoice("any"))
STRUCTURED = parts(TextPart("Hi"), output_schema={})
PICTURE = parts(IMAGE)
DOCUMENT = parts(DocumentPart(PlainText("Hi"), ""))
FOUND = parts(SearchResultPart("a", "b", (TextPart("Hi"),)))
CUT_UP = parts(DocumentPart(ContentBlocks((TextPart("Hi"), IMAGE)), ""))
REQUESTS = (PLAIN, TOOLS, FORCED, STRUCTURED, PICTURE, DOCUMENT, FOUND, CUT_UP)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(has_tools=True), (TOOLS, FORCED)),
        (Rule(has_tools=False, is_structured=False), (PLAIN, PICTURE, DOCUMENT, FOUND, CUT_UP)),
        (Rule(has_forced_call=True), (FORCED,)),
        (Rule(has_tools=True, has_forced_call=False), (TOOLS,)),
        (Rule(is_structured=True), (STRUCTURED,)),
        (Rule(has_images=True), (PICTURE, CUT_UP)),
        (Rule(has_documents=True), (DOCUMENT, FOUND, CUT_UP)),
        (Rule(has_documents=True, has_images=True), (CUT_UP,)),
        (Rule(max_tokens_over=19), REQUESTS),
        (Rule(max_tokens_over=20), ()),
        (Rule(prompt_tokens_over=0), ()),  # not before they are counted
    ],
)
def test_rules(rule: Rule, expected: tuple[MessagesRequest, ...]) -> None:
    assert tuple(request for request in REQUESTS if matches(rule, request)) == expected


@pytest.mark.parametrize(
    ("text", "name"), [("x" * 92, "one"), ("x" * 93, "theirs"), ("x" * 150_000, "theirs")]
)
async def test_a_rule_about_the_prompt_s_length(
    engines: tuple[FakeEngine, FakeEngine], text: str, name: str
) -> None:
    setting = Setting(*engines, to(OTHER, Rule(prompt_tokens_over=99, has_tools=False), when=frozenset()))
    setting.two.context_window_tokens = 1_000_000
    stream = await setting.service.reply(asking(text), ME)
    assert fold(await read(stream)).model == name
    assert stream.fallback_reason == ("rule" if name == "theirs" else None)
    assert len(setting.one.requests) == (name == "one")
