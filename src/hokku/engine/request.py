"""A request inside the engine: first what was asked, then, while it runs, what it holds."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hokku.engine.prompt_lookup import PromptLookup
from hokku.engine.radix_cache import Node, page_key
from hokku.kernels.program import F32, PAGE_TOKENS
from hokku.protocol.engine import CachePoint, EventSink, FinishReason, GenerationRequest, PromptTile
from hokku.protocol.errors import InvalidRequest

_CACHE_KEY_BYTES: Final = 32


@dataclass(slots=True, eq=False)
class Request:
    """One generation and its tokens so far. It survives preemption; `RunningRequest` does not."""

    generation: GenerationRequest
    sink: EventSink
    tokens: array[int]  # the prompt, then what was generated
    num_prompt_tokens: int
    max_tokens: int  # prompt and output together
    end_reason: FinishReason  # why it ends when it reaches `max_tokens`
    cache_keys: tuple[bytes, ...] = ()  # what the entry at each of its cache points is found by
    num_points_passed: int = 0  # cache points that its prefill has gone past
    awaited_key: bytes | None = None  # of the entry that the shelf is reading for it
    has_loaded: bool = False  # the shelf has read one for it
    started: bool = False
    started_at: float = 0.0  # seconds since 1970, if it has cache points: when their lifetimes begin
    arrival: int = 0  # given by the queue
    queued_at: float = 0.0  # on the scheduler's clock of waiting
    ended: bool = False  # its final event has been decided
    closed: bool = False  # and handed to its sink
    # Pages there were for newcomers when they did not suffice: with no more than that, asking again is idle.
    short_room: int | None = None
    lookup: PromptLookup | None = None  # once a draft was asked for
    allowed: NDArray[np.uint32] | None = None  # what may be drawn next, if not everything; bits as in `Batch`

    @property
    def rank(self) -> tuple[int, int]:
        """Lower is served first, and preempted last."""
        return (self.generation.priority, self.arrival)

    @property
    def num_generated(self) -> int:
        """Tokens drawn so far, which names the next draw."""
        return len(self.tokens) - self.num_prompt_tokens


def make_request(generation: GenerationRequest, sink: EventSink, window_tokens: int) -> Request:
    """Check a generation against the window. Raises `InvalidRequest`."""
    if generation.max_new_tokens < 0:
        raise InvalidRequest("must not be negative", place="max_new_tokens")
    try:
        tokens = array("i", generation.prompt)
    except (TypeError, OverflowError) as error:
        raise InvalidRequest(f"not a list of token ids: {error}", place="prompt") from error
    if not tokens:
        raise InvalidRequest("must hold at least one token id", place="prompt")
    _check_tiles(generation.tiles, tokens)
    if len(tokens) > window_tokens:
        raise InvalidRequest(
            f"{len(tokens)} tokens do not fit the context window of {window_tokens}",
            place="prompt",
            way_out="shorten the prompt",
        )
    _check_points(generation.cache_points, len(tokens))
    wanted = len(tokens) + generation.max_new_tokens
    reason = FinishReason.MAX_TOKENS if wanted <= window_tokens else FinishReason.CONTEXT_WINDOW
    keys = cache_keys(generation.cache_scope, tokens, generation.cache_points)
    return Request(generation, sink, tokens, len(tokens), min(wanted, window_tokens), reason, keys)


def _check_tiles(tiles: Sequence[PromptTile], tokens: array[int]) -> None:
    """Row ids are where the tiles are, and nowhere else."""
    end = 0
    for each in tiles:
        if each.start < end or tokens[each.start : each.end] != each.tile.row_ids():
            raise InvalidRequest("must ascend and stand where their row ids are", place="tiles")
        end = each.end
    num_rows = sum(each.tile.num_rows for each in tiles)
    if sum(token < 0 for token in tokens) != num_rows:
        raise InvalidRequest("must hold no id below 0 where there is no picture", place="prompt")


def _check_points(points: Sequence[CachePoint], num_prompt_tokens: int) -> None:
    borders = [0, *(point.num_tokens for point in points)]
    if borders[-1] > num_prompt_tokens or any(border >= later for border, later in pairwise(borders)):
        raise InvalidRequest("must ascend and lie in the prompt", place="cache_points")


def cache_keys(scope: str, tokens: array[int], points: Sequence[CachePoint]) -> tuple[bytes, ...]:
    """What the entry at each point is found by: a digest of the scope and the tokens up to there."""
    scope_digest = hashlib.blake2b(scope.encode("utf-8", "surrogatepass")).digest()
    digest = hashlib.blake2b(scope_digest, digest_size=_CACHE_KEY_BYTES)
    keys = []
    start = 0
    for point in points:
        digest.update(tokens[start : point.num_tokens].tobytes())
        keys.append(digest.digest())
        start = point.num_tokens
    return tuple(keys)


@dataclass(slots=True, eq=False)
class RunningRequest:
    """A request that holds a slot and pages. Keys and values of its first `num_computed` tokens are in
    them."""

    request: Request
    slot: int  # its row in the model runner's tables
    pages: list[int]
    node: Node  # cursor: the deepest page of it that the prefix cache keeps
    num_computed: int
    num_tabled_pages: int = 0  # leading pages that the model runner's page table already has
    features: dict[int, F32] = field(
        default_factory=dict
    )  # of its tiles by their index, from encoded to computed

    @property
    def num_remaining(self) -> int:
        """Known tokens not computed yet: 1 while decoding."""
        return len(self.request.tokens) - self.num_computed

    @property
    def num_ready(self) -> int:
        """Of those, the ones before the next tile that has not been encoded: what a step can compute."""
        unseen = next(self.tiles_to_see(), None)
        if unseen is None:
            return self.num_remaining
        return max(self.request.generation.tiles[unseen].start - self.num_computed, 0)

    def tiles_to_see(self) -> Iterator[int]:
        """The tiles that have rows to compute and no features, by their index, in order."""
        for index, each in enumerate(self.request.generation.tiles):
            if each.end > self.num_computed and index not in self.features:
                yield index

    def forget_computed_tiles(self) -> None:
        """Let go of features that no step will read again."""
        tiles = self.request.generation.tiles
        for index in [index for index in self.features if tiles[index].end <= self.num_computed]:
            del self.features[index]

    @property
    def reads_prompt(self) -> bool:
        """Whether it has yet to compute part of its prompt, so that nothing can be drawn."""
        return self.num_computed < self.request.num_prompt_tokens

    def next_shareable_key(self) -> bytes | None:
        """The key of the first page not cached yet, if it is whole and leaves a token to compute."""
        depth = self.node.depth
        if (depth + 1) * PAGE_TOKENS >= len(self.request.tokens):
            return None
        return page_key(self.request.tokens, depth)


class Chunk(NamedTuple):
    """One request's share of a step: its tokens from `num_computed` up to `end`, and drafted ones behind them."""

    running: RunningRequest
    end: int
    samples: bool  # the chunk reaches the last known token and another one is wanted
    draft: Sequence[int] = ()  # what may come next: a row and a draw each. Only where the chunk samples

    @property
    def num_rows(self) -> int:
        """Tokens that the step computes for this chunk. Asked before the result has been taken in."""
        return self.end - self.running.num_computed + len(self.draft)

    @property
    def num_draws(self) -> int:
        """Tokens that the step draws for this chunk."""
        return 1 + len(self.draft) if self.samples else 0
