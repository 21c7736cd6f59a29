"""Medians, ratios, and shares of the hardware."""

from __future__ import annotations

import json

import pytest
from benchmarks.engines.job import Job, Prompt, Timing
from benchmarks.results import Check, value_of
from benchmarks.workloads import PREFILL_TOKENS, Metric

from tests.benchmarks.house import CEILINGS, WORK, measured, results_of


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (Metric.PROMPT_RATE, 2.5),
        (Metric.OUTPUT_RATE, 3.0),
        (Metric.REQUEST_RATE, 1.0),
        (Metric.START, 2.0),
        (Metric.FIRST_TOKEN, 2000.0),
    ],
)
def test_a_timing_becomes_a_figure_in_its_unit(metric: Metric, value: float) -> None:
    job = Job([Prompt([1, 2, 3]), Prompt([4, 5])], max_new_tokens=3)
    assert value_of(metric, job, Timing(secs=2.0, output_tokens=6)) == value


def test_rates_compare_by_their_medians_with_the_fastest_peer() -> None:
    result = measured("W2", Hokku=[90, 300, 310], xllamacpp=[100], OpenVINO_GenAI=[150, 140, 160])
    assert result.hokku == 300
    assert result.best_peer == "OpenVINO GenAI"
    assert result.ratio == 2
    assert result.ratio_to("xllamacpp") == 3


def test_of_times_the_shorter_is_better() -> None:
    result = measured("W6", Hokku=[0.5], xllamacpp=[2.0], OpenVINO_GenAI=[3.0])
    assert result.best_peer == "xllamacpp"
    assert result.ratio == 4


def test_without_peers_there_is_no_ratio() -> None:
    alone = measured("W2", Hokku=[1.0])
    assert (alone.best_peer, alone.ratio) == (None, None)
    assert measured("W2", xllamacpp=[1.0]).ratio is None


def test_mfu_counts_the_matrices_and_the_causal_half_of_attention() -> None:
    rate = 1_000.0
    operations = 200 * PREFILL_TOKENS + 4 * PREFILL_TOKENS * (PREFILL_TOKENS + 1) / 2
    result = measured("W1", Hokku=[rate])
    share = results_of(result).hardware_share(result)
    assert share is not None
    assert share[0] == "MFU"
    assert share[1] == pytest.approx(operations * rate / PREFILL_TOKENS / 1e6)


def test_mbu_counts_weights_and_the_context_of_an_average_position() -> None:
    result = measured("W2-plain", Hokku=[500.0])
    share = results_of(result).hardware_share(result)
    assert share is not None
    assert share[0] == "MBU"
    assert share[1] == pytest.approx(500 * (1_000 + 10 * (16 + 64)) / 1e6)


def test_drafts_a_batch_and_a_forced_path_have_no_share_of_the_ceilings() -> None:
    results = results_of(*(measured(key, Hokku=[1.0]) for key in ("W2", "W3-16", "W1@avx2")))
    assert [results.hardware_share(result) for result in results.cases] == [None] * 3


def test_growth_is_cost_per_token_over_the_shorter_prompts() -> None:
    short, long = measured("W8-1k", Hokku=[100.0]), measured("W8-4k", Hokku=[600.0])
    results = results_of(short, long)
    assert results.growth(long) == pytest.approx(1.5)
    assert results.growth(short) is None
    (check,) = results.checks(long)
    assert not check.is_met


def test_targets_stand_beside_what_was_reached() -> None:
    result = measured("W1", Hokku=[600.0], xllamacpp=[150.0])
    ratio, share = results_of(result).checks(result)
    assert (ratio.reached, ratio.target, ratio.is_met) == (4, 3, True)
    assert (share.what, share.target) == ("MFU", 40)


def test_a_target_is_judged_before_rounding() -> None:
    assert not Check("ratio", 2.999, 3.0, "×").is_met
    assert not Check("start", 1.001, 1.0, "s", at_most=True).is_met


def test_memory_is_checked_once_it_is_known() -> None:
    results = results_of()
    assert results.memory_check() is None
    results.resident_mb["Hokku"] = 350.0
    check = results.memory_check()
    assert check is not None
    assert check.is_met


def test_everything_goes_into_one_line_of_json() -> None:
    result = measured("W2", {"xllamacpp": "it broke"}, Hokku=[1.0, 3.0, 2.0])
    (case,) = json.loads(json.dumps(results_of(result).as_json()))["cases"]
    assert case["medians"] == {"Hokku": 2.0}
    assert case["rounds"] == {"Hokku": [1.0, 3.0, 2.0]}
    assert case["errors"] == {"xllamacpp": "it broke"}


def test_the_ceilings_are_in_units_of_a_second() -> None:
    assert (CEILINGS.int8_tops * 1e12, CEILINGS.read_gb_per_sec * 1e9) == (1e6, 1e6)
    assert WORK.prefill_operations(2) == 200 * 2 + 4 * 3
