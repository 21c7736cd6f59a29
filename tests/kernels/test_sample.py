"""The sampler: exact sets, fair draws, and one draw for one name.

Logits reach it through `gather` from a table, so a row of logits is a token. Fairness is a chi-square test with fixed
seeds: the bound is the 99.99 % quantile, and the seeds were not chosen.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hokku.kernels import Rows, Sampled
from hokku.kernels.program import F32
from hokku.kernels.reference import draw_probabilities, softmax
from tests.kernels.steps import ISAS, batch, every_isa, normal, program, rows_of


def draw(
    logits: F32,
    draws: int = 1,
    isa: str | None = None,
    *,
    temperature: float = 0,
    top_p: float = 1,
    top_k: int = 0,
    seed: int = 0,
    allowed: NDArray[np.uint32] | None = None,
) -> Sampled:
    """`draws` draws from one row of logits [V], with counters 0, 1, …"""
    p = program(isa, max_rows=1, max_logit_rows=draws)
    out = p.tensor(logits.size, Rows.LOGITS)
    p.gather(out, rows_of(p, logits[None]))
    p.sample(out)
    masks = None if allowed is None else np.repeat(allowed[None], draws, axis=0)
    return p.run(
        batch(
            [0],
            logit_index=[0] * draws,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            allowed=masks,
        )
    )


def bits(ids: list[int], vocabulary: int) -> NDArray[np.uint32]:
    mask = np.zeros(-(-vocabulary // 32) * 32, np.uint8)
    mask[ids] = 1
    return np.packbits(mask, bitorder="little").view(np.uint32)


def chi_square_bound(freedom: int) -> float:
    """The 99.99 % quantile, by Wilson and Hilferty's approximation (1931)."""
    h = 2 / (9 * freedom)
    return freedom * float(1 - h + 3.719 * h**0.5) ** 3


@every_isa
@pytest.mark.parametrize("vocabulary", [1, 16, 17, 1000, 49152])
def test_greedy_takes_the_largest_and_the_lowest_of_equals(isa: str, vocabulary: int) -> None:
    if isa == "portable" and vocabulary > 1000:
        pytest.skip("seconds on this path, and its loop has met every kind of remainder by then")
    logits = normal(0, vocabulary)
    best = int(np.argmax(logits))
    logits[vocabulary // 2 :: 3] = logits[best]
    assert draw(logits, isa=isa).tokens[0] == int(np.argmax(logits))


@every_isa
def test_logprob_is_of_the_whole_vocabulary_at_temperature_one(isa: str) -> None:
    logits = normal(1, 1003) * 4
    drawn = draw(logits, 20, isa, temperature=1.7, top_k=50, top_p=0.9)
    expected = np.log(softmax(logits.astype(np.float64)))[drawn.tokens]
    # A sum of 1003 terms in 64 lanes, and a logarithm rounded to float32 near 5.
    np.testing.assert_allclose(drawn.logprobs, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("limits", [(0, 1.0), (5, 1.0), (0, 0.7), (12, 0.8), (1, 1.0), (0, 0.0), (40, 1.0)])
def test_draws_are_fair_and_stay_in_the_set(temperature: float, limits: tuple[int, float]) -> None:
    top_k, top_p = limits
    logits, draws = normal(2, 40), 4000
    # top_p = 0 leaves the likeliest token alone; the reference's definition would leave none.
    probability = draw_probabilities(logits, temperature, top_k, max(top_p, 1e-9))
    drawn = draw(logits, draws, temperature=temperature, top_k=top_k, top_p=top_p, seed=11)
    counts = np.bincount(drawn.tokens, minlength=40)
    assert (counts[probability == 0] == 0).all()
    expected = probability[probability > 0] * draws
    observed = counts[probability > 0]
    rare = expected < 5  # chi-square wants five expected draws a cell: the rare ones share one
    expected = np.append(expected[~rare], expected[rare].sum())
    observed = np.append(observed[~rare], observed[rare].sum())
    present = expected > 0
    statistic = float(((observed - expected)[present] ** 2 / expected[present]).sum())
    assert statistic <= chi_square_bound(max(1, int(present.sum()) - 1))


def drawn_set(logits: F32, **limits: float) -> set[int]:
    """Every token that can be drawn, seen by drawing so hot that all of them are about equally likely."""
    return set(draw(logits, 3000, temperature=1e6, **limits).tokens.tolist())  # type: ignore[arg-type]


def test_top_k_among_equals_takes_the_lowest_ids() -> None:
    logits = np.array([1, 3, 2, 3, 2, 2, 0, 2] * 5, np.float32)
    assert drawn_set(logits, top_k=12) == {1, 3, 9, 11, 17, 19, 25, 27, 33, 35, 2, 4}
    assert drawn_set(logits, top_k=40) == set(range(40))
    assert drawn_set(logits, top_k=1000) == set(range(40))


def test_top_p_among_equals_takes_the_lowest_ids() -> None:
    assert drawn_set(np.zeros(100, np.float32), top_p=0.25) == set(range(25))


def test_top_k_of_one_is_greedy_at_any_temperature() -> None:
    logits = np.where(np.arange(50) == 33, np.float32(1.0078125), np.float32(1))
    assert set(draw(logits, 200, temperature=1e6, top_k=1).tokens.tolist()) == {33}


@pytest.mark.parametrize("top_p", [0.0, 0.5, 0.999, 1.0])
def test_the_coldest_draw_is_greedy(top_p: float) -> None:
    logits = normal(6, 3000)
    assert set(draw(logits, 50, temperature=1e-30, top_p=top_p).tokens.tolist()) == {int(np.argmax(logits))}


def test_allowed_masks_bind_greedy_and_drawn_tokens() -> None:
    logits = normal(3, 77)
    ids = [5, 31, 32, 64, 76]
    mask = bits(ids, 77)
    assert draw(logits, allowed=mask).tokens[0] == max(ids, key=lambda i: logits[i])
    assert set(draw(logits, 500, temperature=50, allowed=mask).tokens.tolist()) == set(ids)
    one = draw(logits, 5, temperature=1, top_p=0.5, top_k=3, allowed=bits([76], 77))
    assert set(one.tokens.tolist()) == {76}
    np.testing.assert_allclose(one.logprobs, np.log(softmax(logits))[76], atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_still_give_a_token(bad: float) -> None:
    logits = np.full(60, bad, np.float32)
    for temperature in (0.0, 1.0):
        drawn = draw(logits, 3, temperature=temperature, top_p=0.9, top_k=7, allowed=bits([40, 41], 60))
        assert set(drawn.tokens.tolist()) <= {40, 41}


def test_a_seed_and_a_counter_name_a_draw() -> None:
    logits = normal(4, 500)
    first = draw(logits, 50, temperature=1, seed=2**63 + 5)
    np.testing.assert_array_equal(first.tokens, draw(logits, 50, temperature=1, seed=2**63 + 5).tokens)
    assert (first.tokens != draw(logits, 50, temperature=1, seed=6).tokens).any()
    assert len(set(first.tokens.tolist())) > 10


def test_every_path_draws_the_same() -> None:
    logits = normal(5, 3001) * 3
    results = [draw(logits, 40, isa, temperature=0.8, top_p=0.95, top_k=200, seed=3) for isa in ISAS]
    for other in results[1:]:
        np.testing.assert_array_equal(other.tokens, results[0].tokens)
        np.testing.assert_array_equal(other.logprobs, results[0].logprobs)
