"""Stop 6 of 8, the model runner. Down: chunks come from `scheduler.py` and become the flat arrays of one
step, which a recorded program (made in `models/`) runs in a single native call. Up: the ids it drew.

Page tables and sampling parameters are kept by slot from step to step, so that a decode costs a few list
appends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from hokku.engine.config import EngineConfig
from hokku.engine.request import Chunk, RunningRequest
from hokku.kernels.program import F32, I32, PAGE_TOKENS, U64, Batch, Sampled
from hokku.models.rope import mrope_positions
from hokku.protocol.pictures import Tile

_SEED_MASK: Final = (1 << 64) - 1
_ALL_BITS: Final = np.uint32(0xFFFFFFFF)


class StepProgram(Protocol):
    """All that the engine asks of a `kernels.program.Program` once it is recorded."""

    def run(self, batch: Batch) -> Sampled:
        """Run the recording on one step."""


class ModelRunner:
    """Runs steps. The arrays of a batch are reused by the next one."""

    def __init__(self, program: StepProgram, config: EngineConfig) -> None:
        max_running = config.max_running
        self._program = program
        self._turns_pictures = config.turns_pictures
        self._tokens: I32 = np.zeros(config.max_step_tokens, np.int32)
        self._positions: I32 = np.zeros(config.max_step_tokens, np.int32)
        self._row_start: I32 = np.zeros(max_running + 1, np.int32)
        self._logit_index: I32 = np.zeros(config.max_logit_rows, np.int32)
        self._counter: U64 = np.zeros(config.max_logit_rows, np.uint64)
        self._allowed = np.zeros((config.max_logit_rows, -(-config.vocabulary // 32)), np.uint32)
        window_tokens = config.window_tokens
        # By slot:
        self._page_table: I32 = np.zeros((max_running, -(-window_tokens // PAGE_TOKENS)), np.int32)
        self._temperature: F32 = np.zeros(max_running, np.float32)
        self._top_p: F32 = np.zeros(max_running, np.float32)
        self._top_k: I32 = np.zeros(max_running, np.int32)
        self._seed: U64 = np.zeros(max_running, np.uint64)

    def run(self, chunks: Sequence[Chunk]) -> Iterator[int]:
        """Compute the chunks; the drawn tokens of those that sample, in order, as many as each draws."""
        drawn: list[int] = self._program.run(self._batch(chunks)).tokens.tolist()
        return iter(drawn)

    def _batch(self, chunks: Sequence[Chunk]) -> Batch:
        tokens: list[int] = []
        positions: list[int] = []
        row_start = [0]
        slots: list[int] = []
        logit_index: list[int] = []
        logit_slots: list[int] = []
        counter: list[int] = []
        masks: list[tuple[int, NDArray[np.uint32]]] = []  # by logit row
        features: list[F32] = []
        num_features = 0
        turned: list[tuple[int, I32]] = []  # first row, and the rotary positions from it on
        num_pages = 0
        for running, end, samples, draft in chunks:
            request = running.request
            start = running.num_computed
            tokens.extend(request.tokens[start:end])
            if request.generation.tiles:
                num_features = _point_at_features(tokens, running, end, features, num_features)
                if self._turns_pictures:
                    turned.append((row_start[-1], _rope_positions(running, end + len(draft))))
            tokens.extend(draft)
            positions.extend(range(start, end + len(draft)))
            row_start.append(len(tokens))
            slots.append(running.slot)
            if running.num_tabled_pages < len(running.pages):
                self._update_slot(running)
            num_pages = max(num_pages, len(running.pages))
            if samples:
                if request.allowed is not None:
                    masks.append((len(logit_index), request.allowed))
                num_draws = 1 + len(draft)
                logit_index.extend(range(len(tokens) - num_draws, len(tokens)))
                logit_slots.extend([running.slot] * num_draws)
                counter.extend(range(request.num_generated, request.num_generated + num_draws))
        num_rows, num_logits = len(tokens), len(logit_index)
        self._tokens[:num_rows] = tokens
        self._positions[:num_rows] = positions
        self._row_start[: len(row_start)] = row_start
        self._logit_index[:num_logits] = logit_index
        self._counter[:num_logits] = counter
        sampled_slots = np.array(logit_slots, np.intp)
        return Batch(
            tokens=self._tokens[:num_rows],
            positions=self._positions[:num_rows],
            row_start=self._row_start[: len(row_start)],
            page_table=self._page_table[slots, :num_pages],
            logit_index=self._logit_index[:num_logits],
            temperature=self._temperature[sampled_slots],
            top_p=self._top_p[sampled_slots],
            top_k=self._top_k[sampled_slots],
            seed=self._seed[sampled_slots],
            counter=self._counter[:num_logits],
            allowed=self._masked(masks, num_logits),
            features=np.concatenate(features) if features else None,
            rope_positions=_turned(self._positions[:num_rows], turned) if turned else None,
        )

    def _masked(
        self, masks: Sequence[tuple[int, NDArray[np.uint32]]], num_logits: int
    ) -> NDArray[np.uint32] | None:
        """What each logit row may draw; None when no row is bound."""
        if not masks:
            return None
        allowed = self._allowed[:num_logits]
        allowed.fill(_ALL_BITS)
        for row, mask in masks:
            allowed[row] = mask
        return allowed

    def _update_slot(self, running: RunningRequest) -> None:
        """Copy the pages that the slot's row lacks; a newcomer's sampling parameters as well."""
        slot, first = running.slot, running.num_tabled_pages
        self._page_table[slot, first : len(running.pages)] = running.pages[first:]
        running.num_tabled_pages = len(running.pages)
        if first == 0:
            sampling = running.request.generation.sampling
            self._temperature[slot] = sampling.temperature
            self._top_p[slot] = sampling.top_p
            self._top_k[slot] = sampling.top_k
            self._seed[slot] = sampling.seed & _SEED_MASK


def _point_at_features(
    tokens: list[int], running: RunningRequest, end: int, features: list[F32], num_features: int
) -> int:
    """In place of the row ids at the end of `tokens`, which are a request's up to `end`, say which of the step's
    features each is (-1 the first); add these to `features`. How many there are now."""
    first = running.num_computed
    base = len(tokens) - (end - first)
    for index, placed in enumerate(running.request.generation.tiles):
        rows = range(max(placed.start, first), min(placed.end, end))
        if not rows:
            continue
        features.append(running.features[index][rows.start - placed.start : rows.stop - placed.start])
        at = base + rows.start - first
        tokens[at : at + len(rows)] = range(-1 - num_features, -1 - num_features - len(rows), -1)
        num_features += len(rows)
    return num_features


def _rope_positions(running: RunningRequest, end: int) -> I32:
    """Rotary positions of a request's tokens from the first that is not computed up to `end` [T][3]."""
    tiles = running.request.generation.tiles
    pictures = [(placed.start, *_rows_and_columns(placed.tile)) for placed in tiles]
    return mrope_positions(max(end, tiles[-1].end), pictures)[running.num_computed : end]


def _rows_and_columns(tile: Tile) -> tuple[int, int]:
    """How the prompt's rows lie in a tile, each a square of its pixels."""
    height, width = tile.size
    edge = isqrt(height * width // tile.num_rows)
    return height // edge, width // edge


def _turned(positions: I32, parts: Sequence[tuple[int, I32]]) -> I32:
    """Rotary positions of a step's rows [T][3]: those of `parts`, each from a row on, else the rows' own."""
    whole = np.repeat(positions[:, None], 3, axis=1)
    for first, part in parts:
        whole[first : first + len(part)] = part
    return whole
