"""What a cached prefix costs: `python benchmarks/prompt_cache.py`.

Time to the first text of a reply whose prompt is a cached prefix of 4,096 tokens and a tail that is new, beside a
prompt that is such a tail alone: rendering, tokenising, the engine and all, without HTTP. They take turns; figures are
medians. "unmarked" shares the same pages without an entry, so it shows what entries and marks themselves cost; "whole"
computes everything, in a workspace of its own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
from time import perf_counter

from hokku.opening import open_model
from hokku.protocol.events import ReplyStart, TextDelta
from hokku.protocol.messages import Conversation, MessagesRequest, TextPart, Turn
from hokku.service.keys import Identity
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue, ServedModel
from hokku.settings import load_settings

PREFIX_TOKENS = 4_096
TAIL_TOKENS = (64, 256, 1_024)
LIFETIME_SECS = 300
WORDS = "time year people way day man thing woman life child world school state family student group country".split()  # noqa: SIM905


class Stopwatch:
    """Times first texts of one model."""

    def __init__(self, model: ServedModel) -> None:
        catalogue = Catalogue([model.manifest], {})
        catalogue.put(model)
        self._service = MessagesService(catalogue)
        self._model = model
        self._dice = random.Random(1)
        self.read_tokens = 0  # from the cache, by the last request

    def text(self, num_tokens: int) -> str:
        """Random prose of about so many tokens, never the same."""
        words = [self._dice.choice(WORDS) for _ in range(num_tokens)]
        while self.num_tokens(" ".join(words)) > num_tokens:
            words.pop()
        return " ".join(words)

    def num_tokens(self, text: str) -> int:
        """Of a prompt with this turn alone."""
        return self._model.codec.count(Conversation((), (Turn("user", (TextPart(text),)),)))

    async def first_text_ms(self, system: tuple[TextPart, ...], tail: str, workspace: str = "bench") -> float:
        """Milliseconds from asking to the first text."""
        asked = MessagesRequest(self._model.id, Conversation(system, (Turn("user", (TextPart(tail),)),)), 1)
        began = perf_counter()
        stream = await self._service.reply(asked, Identity(workspace_id=workspace))
        async for event in stream:
            if isinstance(event, ReplyStart):
                self.read_tokens = event.usage.cache_read_tokens
            if isinstance(event, TextDelta):
                break
        elapsed = perf_counter() - began
        async for _ in stream:
            pass
        return elapsed * 1e3


async def compare(watch: Stopwatch, rounds: int) -> list[dict[str, float]]:
    """One row a length of tail."""
    prefix = watch.text(PREFIX_TOKENS)
    marked = (TextPart(prefix, LIFETIME_SECS),)
    await watch.first_text_ms(marked, "Begin.")
    rows = []
    for num_tokens in TAIL_TOKENS:
        cached, unmarked, alone, whole = [], [], [], []
        for number in range(rounds + 1):
            cached.append(await watch.first_text_ms(marked, watch.text(num_tokens)))
            if watch.read_tokens < PREFIX_TOKENS * 0.95:
                raise SystemExit(f"only {watch.read_tokens} tokens came from the cache")
            plain = (TextPart(prefix),)
            unmarked.append(await watch.first_text_ms(plain, watch.text(num_tokens)))
            alone.append(await watch.first_text_ms((), watch.text(num_tokens)))
            if number <= rounds // 3:
                whole.append(
                    await watch.first_text_ms(plain, watch.text(num_tokens), f"{num_tokens}-{number}")
                )
        columns = {"cached": cached, "unmarked": unmarked, "alone": alone, "whole": whole}
        row = {f"{name}_ms": statistics.median(each[1:]) for name, each in columns.items()}
        rows.append({"tail_tokens": num_tokens, **row, "ratio": row["cached_ms"] / row["alone_ms"]})
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="besides one that warms up")
    arguments = parser.parse_args()
    opened = open_model(load_settings({}, os.environ))
    try:
        rows = asyncio.run(compare(Stopwatch(opened.served), arguments.rounds))
    finally:
        opened.engine.close()
    print("  ".join(f"{name:>11}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:11.2f}" for value in row.values()))
    print(json.dumps({"prefix_tokens": PREFIX_TOKENS, "rows": rows}))


if __name__ == "__main__":
    main()
