"""The recorded models on the numpy program: equal to transformers, however a sequence is cut."""

from __future__ import annotations

import numpy as np
import pytest

from hokku.models.weights import CheckpointWeights
from tests.models.house import TINY, Golden, batch, golden, on_reference, reference_logits, whole


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> Golden:
    return golden(request.param)


def test_logits_equal_transformers(tiny: Golden) -> None:
    logits = reference_logits(CheckpointWeights(tiny.checkpoint), tiny.tokens, tiny.row_start)
    # Sums of a few hundred float32 products, logits of standard deviation 8.
    np.testing.assert_allclose(logits, tiny.logits, atol=2e-4)


def test_the_goldens_say_something(tiny: Golden) -> None:
    """The likeliest token depends on more than the row's own token, and on the layers."""
    likeliest = tiny.logits.argmax(axis=1)
    assert np.mean(likeliest == tiny.tokens) < 0.99
    assert len(set(likeliest.tolist())) > 40


def test_cut_into_chunks_the_logits_stay(tiny: Golden) -> None:
    first, second = (tiny.tokens[a:b] for a, b in zip(tiny.row_start, tiny.row_start[1:], strict=False))
    program, forward = on_reference(CheckpointWeights(tiny.checkpoint))
    seen: list[list[np.ndarray[tuple[int], np.dtype[np.float32]]]] = [[], []]
    # The long sequence in three chunks, the short one token by token, both in the same steps.
    cuts = [(0, 40), (40, 41), (41, 96)] + [(96, 96)] * 29
    for step, (a, b) in enumerate(cuts):
        chunks = [(second[step : step + 1], step)] + ([(first[a:b], a)] if b > a else [])
        program.run(batch(chunks, 96))
        rows = program.view(forward.logits)
        seen[1].append(rows[:1].copy())
        seen[0].append(rows[1:].copy())
    split = tiny.row_start[1]
    np.testing.assert_allclose(np.concatenate(seen[0]), tiny.logits[:split], atol=2e-4)
    np.testing.assert_allclose(np.concatenate(seen[1]), tiny.logits[split:], atol=2e-4)


def test_greedy_draws_the_likeliest(tiny: Golden) -> None:
    program, forward = on_reference(CheckpointWeights(tiny.checkpoint))
    drawn = program.run(whole(tiny.tokens, tiny.row_start))
    logits = program.view(forward.logits).astype(np.float64)
    assert np.array_equal(drawn.tokens, logits.argmax(axis=1))
    log_total = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
    np.testing.assert_allclose(drawn.logprobs, -log_total, atol=1e-5)
