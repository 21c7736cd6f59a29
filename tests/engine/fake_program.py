"""A toy model that notices every paging mistake.

Its "key and value" of a token is the token and a hash of its position and all values before it, read back
through the page table; its next token is a hash of all values and the draw's parameters. A page that is
stale, shared wrongly, freed too early or filled twice therefore changes everything that follows. Three
draws of four are habit, the same after the same token, so that its texts repeat themselves as real ones do. It also
checks the shape of every batch it is given. Its pictures' rows are what `FakeEncoder` makes of their row ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import PAGE_TOKENS, Batch, Sampled
from hokku.protocol.engine import FinishReason, GenerationRequest
from hokku.protocol.pictures import Tile
from tests.engine.form import Form

VOCABULARY = 23  # small, so that stop tokens are met and random prompts share prefixes


_TOKEN_BITS = 5
_EVERYTHING = 0xFFFFFFFF


def _value(history: NDArray[np.uint32], token: int) -> int:
    return (
        crc32(np.array([len(history)]).tobytes(), crc32(history.tobytes())) >> _TOKEN_BITS << _TOKEN_BITS
        | token
    )


def _draw(history: NDArray[np.uint32], allowed: int, *parameters: float) -> int:
    last_token = int(history[-1]) % (1 << _TOKEN_BITS)
    luck = crc32(repr(parameters).encode(), crc32(history.tobytes()))
    token = (last_token * 7 + 3 if luck % 4 else luck // 4) % VOCABULARY
    choice = [token for token in range(VOCABULARY) if allowed >> token & 1]
    return token if token in choice else choice[luck % len(choice)]


def _seen(row_id: int) -> int:
    return row_id % (1 << _TOKEN_BITS)


class FakeEncoder:
    """Sees five bits in each row of a tile. `failure`, if set, is raised by the next call."""

    def __init__(self) -> None:
        self.tiles: list[Tile] = []
        self.failure: Exception | None = None

    def encode(self, tile: Tile) -> NDArray[np.float32]:
        self.tiles.append(tile)
        failure, self.failure = self.failure, None
        if failure:
            raise failure
        return np.array([[_seen(row_id)] for row_id in tile.row_ids()], np.float32)


class FakeProgram:
    """Runs the toy model over a page store of its own. `during_step`, if set, is called once, inside the next step
    and on the engine's thread: what it submits or cancels arrives during that step, and what it raises breaks it."""

    def __init__(self, num_pages: int, max_rows: int, max_logit_rows: int) -> None:
        self.store: NDArray[np.uint32] = np.zeros((num_pages, PAGE_TOKENS), np.uint32)
        self.max_rows = max_rows
        self.max_logit_rows = max_logit_rows
        self.during_step: Callable[[], object] | None = None
        self.num_rows = 0
        self.batch_rows: list[list[int]] = []  # rows of each sequence, step by step

    def run(self, batch: Batch) -> Sampled:
        action, self.during_step = self.during_step, None
        if action:
            action()
        self._check(batch)
        lengths = np.diff(batch.row_start).tolist()
        self.num_rows += sum(lengths)
        self.batch_rows.append(lengths)
        histories = [self._history(batch, row) for row in range(len(batch.tokens))]
        tokens = [
            _draw(
                histories[row],
                _EVERYTHING if batch.allowed is None else batch.allowed[r, 0].item(),
                batch.temperature[r].item(),
                batch.top_p[r].item(),
                batch.top_k[r].item(),
                batch.seed[r].item(),
                batch.counter[r].item(),
            )
            for r, row in enumerate(batch.logit_index.tolist())
        ]
        return Sampled(np.array(tokens, np.int32), np.zeros(len(tokens), np.float32))

    # What a `PageStore` can.

    page_bytes = PAGE_TOKENS * 4

    def read_pages(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        chosen: NDArray[np.uint32] = self.store[list(pages)]
        return chosen.view(np.uint8).reshape(len(pages), self.page_bytes)

    def write_pages(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        assert data.shape == (len(pages), self.page_bytes)
        self.store[list(pages)] = np.ascontiguousarray(data).view(np.uint32)

    def _history(self, batch: Batch, row: int) -> NDArray[np.uint32]:
        """Store this row's value; all values of its sequence up to itself."""
        sequence = int(np.searchsorted(batch.row_start, row, side="right")) - 1
        position = int(batch.positions[row])
        table = batch.page_table[sequence]
        before = self.store[table].reshape(-1)[:position]
        page, slot = table[position // PAGE_TOKENS], position % PAGE_TOKENS
        self.store[page, slot] = _value(before, self._read(batch, int(batch.tokens[row])))
        seen: NDArray[np.uint32] = self.store[table].reshape(-1)[: position + 1]
        return seen

    def _read(self, batch: Batch, token: int) -> int:
        if token >= 0:
            return token
        assert batch.features is not None
        return int(batch.features[-1 - token, 0])

    def _check(self, batch: Batch) -> None:
        rows, logits = len(batch.tokens), len(batch.logit_index)
        assert 0 < rows <= self.max_rows
        assert logits <= self.max_logit_rows
        assert batch.page_table.flags.c_contiguous
        assert batch.page_table.dtype == batch.tokens.dtype == batch.positions.dtype == np.int32
        num_features = 0 if batch.features is None else len(batch.features)
        assert batch.tokens[batch.tokens < 0].tolist() == [-1 - index for index in range(num_features)]
        assert batch.row_start[0] == 0
        assert batch.row_start[-1] == rows
        assert batch.page_table.shape[0] == len(batch.row_start) - 1
        written = set()
        for sequence, (start, end) in enumerate(zip(batch.row_start, batch.row_start[1:], strict=False)):
            assert start < end
            positions = batch.positions[start:end]
            assert (np.diff(positions) == 1).all()
            for position in positions.tolist():
                written.add(
                    (batch.page_table[sequence, position // PAGE_TOKENS].item(), position % PAGE_TOKENS)
                )
        assert len(written) == rows  # nobody writes where another does
        assert batch.allowed is None or batch.allowed.shape == (logits, 1)
        for parameter in (batch.temperature, batch.top_p, batch.top_k, batch.seed, batch.counter):
            assert len(parameter) == logits


def expected_generation(request: GenerationRequest, window_tokens: int) -> tuple[list[int], FinishReason]:
    """What the toy model answers when it runs this request alone, without pages and without jumps: a constraint
    says only what is allowed."""
    constraint = request.constraint.fresh(jumps=False) if isinstance(request.constraint, Form) else None
    sampling = request.sampling
    parameters = (float(np.float32(sampling.temperature)), float(np.float32(sampling.top_p)), sampling.top_k)
    values: list[int] = []

    def read(token: int) -> NDArray[np.uint32]:
        seen = token if token >= 0 else _seen(token)
        values.append(_value(np.array(values, np.uint32), seen))
        return np.array(values, np.uint32)

    for token in request.prompt:
        history = read(token)
    output: list[int] = []
    while len(output) < request.max_new_tokens:
        if len(request.prompt) + len(output) == window_tokens:
            return output, FinishReason.CONTEXT_WINDOW
        allowed = int(constraint.allowed()[0]) if constraint else _EVERYTHING
        token = _draw(history, allowed, *parameters, sampling.seed, len(output))
        if token in request.stop_token_ids:
            return output, FinishReason.STOP_TOKEN
        output.append(token)
        if constraint:
            constraint.advance([token])
        history = read(token)
    return output, FinishReason.MAX_TOKENS
