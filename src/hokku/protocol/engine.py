"""The `Engine` port: token ids in, token ids out. Homes for it live in `engine/` and `cluster/`.

An engine knows nothing of text, files, wires or models' names. It is a queue in and a stream out: `submit` never blocks
on generation, and every request ends with exactly one `Finished` or `Failed` event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hokku.protocol.errors import HokkuError
from hokku.protocol.pictures import Tile


class Priority(IntEnum):
    """Lower runs first. Interactive requests are never starved by batch ones."""

    INTERACTIVE = 0
    BATCH = 1


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP_TOKEN = "stop_token"  # one of `stop_token_ids`; that token is not in the output
    MAX_TOKENS = "max_tokens"
    CONTEXT_WINDOW = "context_window"  # the window is full
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. The same seed and prompt give the same tokens."""

    temperature: float = 1.0  # 0 takes the likeliest token
    top_p: float = 1.0  # 1 is off
    top_k: int = 0  # 0 is off
    seed: int = 0  # 64 bits


class TokenConstraint(Protocol):
    """What one request may say: a grammar, a schema, one label of several.

    The engine tells it every token and asks what may follow. Answers depend on nothing else, come at once (all
    requests wait for them), and are asked for on the engine's thread only. An exception, or a mask that allows
    nothing, fails its own request and no other. Where the output may end, a stop token is among what it allows or
    forces.
    """

    def forced(self) -> Sequence[int]:
        """The tokens that must come now, which are then not drawn; empty if there is a choice at once. Asked again
        once they have come."""

    def advance(self, tokens: Sequence[int]) -> None:
        """These tokens have come, drawn or forced. Stop tokens are not told."""

    def allowed(self) -> NDArray[np.uint32]:
        """Of which tokens the next one is drawn, [ceil(vocabulary/32)]: bit t % 32 of word t // 32 is token t.

        Asked when nothing is forced. The engine copies it at once."""

    def num_free(self, draft: Sequence[int]) -> int:
        """How many of these tokens, should they come next, leave the choice of the token behind them free: of every
        token, as the first is now; 0 where a mask is needed at once. Asked for what the engine guesses, before it has
        come; changes nothing."""


@dataclass(frozen=True, slots=True)
class CachePoint:
    """A border of a prompt at which a cache entry may end: the keys and values of everything before it.

    With a lifetime the request writes an entry there, or finds one and has its time begin anew; without one it only
    looks. Entries consist of whole pages, so before the end of the first page (16 tokens) there is none.
    """

    num_tokens: int  # of the prompt, up to the border
    lifetime_secs: int | None = None  # from the start of the request that last wrote or read the entry


@dataclass(frozen=True, slots=True)
class PromptTile:
    """Where a piece of a picture stands in a prompt: `tile.num_rows` of its row ids, the first at `start`."""

    start: int
    tile: Tile

    @property
    def end(self) -> int:
        """Behind the last of its rows."""
        return self.start + self.tile.num_rows


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation.

    `prompt` has a row id for each row of each of the `tiles`, which are in ascending order, and token ids elsewhere.
    `cache_scope` names who may share this prompt's keys and values (a workspace); prefixes are never shared
    across scopes. `cache_points` are in ascending order. `max_new_tokens` of 0 runs the prefill only. A `constraint`
    has a state, so it serves one request.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    sampling: Sampling = Sampling()
    stop_token_ids: frozenset[int] = frozenset()
    priority: Priority = Priority.INTERACTIVE
    cache_scope: str = ""
    constraint: TokenConstraint | None = None
    cache_points: tuple[CachePoint, ...] = ()
    tiles: tuple[PromptTile, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt has been admitted; `cached_tokens` of it were already computed.

    `cache_read_tokens` is the end of the longest cache entry found at one of the request's points, 0 for none. Pages
    are also shared without any entry, and up to 15 tokens behind an entry's last whole page are computed again: so
    the two counts differ.
    """

    cached_tokens: int
    cache_read_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Newly generated tokens, in order."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a request that ended well (cancelled included)."""

    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a request that the engine could not finish."""

    error: HokkuError


EngineEvent = Started | Tokens | Finished | Failed
# Called on the engine's own thread, in order, and must return at once: hand over and leave.
EventSink = Callable[[EngineEvent], None]


class RequestHandle(Protocol):
    """A request under way."""

    def cancel(self) -> None:
        """Stop at the next step. Idempotent, callable from any thread; a `Finished(CANCELLED)` follows."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A consistent snapshot between two steps."""

    num_waiting: int
    num_running: int
    num_pages: int
    num_pages_free: int
    num_pages_cached: int  # held only by the prefix cache, reclaimable
    num_steps: int
    num_pages_pinned: int = 0  # held only by cache entries
    num_cache_entries: int = 0  # in memory
    num_drafted: int = 0  # tokens computed on the chance that they come next
    num_accepted: int = 0  # of those, the ones that did
    num_prompt_tokens: int = 0  # of every request that has begun
    num_prompt_tokens_cached: int = 0  # of those, the ones whose keys and values were there already


class Engine(Protocol):
    """Runs generations. All methods may be called from any thread."""

    @property
    def context_window_tokens(self) -> int:
        """Most tokens a prompt and its output may have together."""

    def submit(self, request: GenerationRequest, sink: EventSink) -> RequestHandle:
        """Queue a request. After it returns, exactly one final event will reach `sink`.

        Raises `Overloaded` when the queue is full, `InvalidRequest` when the prompt is empty, does not fit the window,
        or has a picture that the model cannot see, `EngineFailed` once the engine is closed.
        """

    def stats(self) -> EngineStats:
        """Counts for metrics, health checks and leak tests."""

    def close(self) -> None:
        """Cancel everything, join the engine's thread, release its memory. Idempotent."""
