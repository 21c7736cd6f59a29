"""What was remembered for one workspace is not used for another, so that no answer's time tells of others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hokku.chat.run_cache import RunCache
from hokku.grammar.grammar import literal
from hokku.protocol.messages import Conversation, MessagesRequest, TextPart, Turn
from hokku.protocol.scope import current_scope, working_for
from hokku.service.keys import Identity
from hokku.service.messages import MAX_INLINE_CHARS, MessagesService
from hokku.service.models import Catalogue
from tests.fakes import ALIAS, MODEL_ID, ByteCodec, FakeEngine, fake_manifest, fake_model
from tests.grammar.house import compiler


def test_runs_are_remembered_for_one_workspace() -> None:
    made: list[str] = []

    def make(text: str, flag: bool) -> str:
        made.append(current_scope())
        return text

    cache: RunCache[str] = RunCache()
    for workspace in ("one", "two", "one", "two"):
        with working_for(workspace):
            cache.made("x" * 300, True, make)
    assert made == ["one", "two"]


def test_grammars_are_kept_for_one_workspace() -> None:
    kept = compiler()
    for workspace in ("one", "two", "one", "two"):
        with working_for(workspace):
            kept.constraint(literal("x"))
    assert kept.num_compiled == 2


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.mark.parametrize("num_chars", [5, MAX_INLINE_CHARS + 1])
async def test_text_is_read_in_its_workspace_s_name(
    engine: FakeEngine, num_chars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode, count = ByteCodec.encode, ByteCodec.count

    def noted_encode(self: ByteCodec, conversation: Conversation) -> object:
        seen.append(current_scope())
        return encode(self, conversation)

    def noted_count(self: ByteCodec, conversation: Conversation) -> int:
        seen.append(current_scope())
        return count(self, conversation)

    monkeypatch.setattr(ByteCodec, "encode", noted_encode)
    monkeypatch.setattr(ByteCodec, "count", noted_count)
    engine.context_window_tokens = 10_000
    catalogue = Catalogue([fake_manifest(window_tokens=10_000)], {ALIAS: MODEL_ID})
    catalogue.put(fake_model(engine, fake_manifest(window_tokens=10_000)))
    service = MessagesService(catalogue)
    conversation = Conversation((), (Turn("user", (TextPart("x" * num_chars),)),))

    async def ask(workspace: str) -> None:
        (await service.reply(MessagesRequest(ALIAS, conversation, 5), Identity(workspace))).cancel()
        await service.count(ALIAS, conversation, Identity(workspace))

    await asyncio.gather(ask("one"), ask("two"))
    assert sorted(set(seen)) == ["one", "two"]
    assert current_scope() == ""
