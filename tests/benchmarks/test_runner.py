"""Who is measured when: order, budgets, failures, and processes that will not rest. Engines here are fakes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from benchmarks.beside_a_batch import Measured
from benchmarks.contestants import Contestant
from benchmarks.engines.job import EngineProblem, Job, Needs, Prompt, Session, Timing
from benchmarks.prompts import PromptMaker
from benchmarks.runner import Runner, group_of, in_running_order, keep_best_variants, needs_of
from benchmarks.workloads import HOKKU, Asked, Case, all_cases, chosen_cases


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes use no processor, so there is nothing to wait for."""
    monkeypatch.setattr("benchmarks.runner._IDLE_SECS", 0.0)
    monkeypatch.setattr("benchmarks.runner.cpu_secs", lambda pid: 0.0)


class Prompts:
    """One-token prompts."""

    def job(self, case: Case) -> Job:
        return Job([Prompt([1])] * case.streams, case.output_tokens, case.concurrency)


@dataclass
class FakeSession:
    """Says that every job took so long, or breaks."""

    name: str
    secs: float
    diary: list[str]
    breaks: bool = False
    num_tokens: int | None = None
    pid: int | None = field(default_factory=os.getpid)

    def run(self, job: Job) -> Timing:
        self.diary.append(self.name)
        if self.breaks:
            raise EngineProblem("it broke")
        return Timing(self.secs, job.wanted_tokens if self.num_tokens is None else self.num_tokens)

    def close(self) -> None:
        self.diary.append(f"{self.name} closed")


@dataclass
class House:
    """A runner with fakes."""

    rounds: int = 3
    budget_secs: float = 60.0
    diary: list[str] = field(default_factory=list)

    def runner(self) -> Runner:
        prompts = cast(PromptMaker, Prompts())
        return Runner(prompts, Path("cache"), self.rounds, self.budget_secs, lambda _: None)

    def contestant(self, name: str, family: str = "", secs: float = 1.0, **session: object) -> Contestant:
        def open_session(needs: Needs, asked: Asked) -> Session:
            return FakeSession(name, secs, self.diary, **session)  # type: ignore[arg-type]

        return Contestant(name, family or name, "1", {"default": "model.gguf"}, open_session)


def case(key: str) -> Case:
    (found,) = [one for one in all_cases() if one.key == key]
    return found


def test_each_round_begins_with_another_engine_after_a_warm_up_of_all() -> None:
    house = House()
    contestants = [house.contestant(name) for name in (HOKKU, "xllamacpp", "llama.cpp")]
    with house.runner() as runner:
        result = runner.run(case("W2"), contestants)
    a, b, c = HOKKU, "xllamacpp", "llama.cpp"
    assert house.diary[:12] == [a, b, c, a, b, c, b, c, a, c, a, b]
    assert sorted(house.diary[12:]) == sorted(f"{name} closed" for name in (a, b, c))
    assert {name: len(rounds) for name, rounds in result.values.items()} == {a: 3, b: 3, c: 3}


def test_only_those_take_part_whom_the_case_names() -> None:
    house = House(rounds=1)
    with house.runner() as runner:
        result = runner.run(case("W7"), [house.contestant(HOKKU), house.contestant("xllamacpp")])
    assert set(result.values) == {HOKKU}


def test_who_fails_is_named_and_not_asked_again() -> None:
    house = House()
    with house.runner() as runner:
        contestants = [house.contestant(HOKKU), house.contestant("xllamacpp", breaks=True)]
        result = runner.run(case("W2"), contestants)
    assert result.errors == {"xllamacpp": "it broke"}
    assert house.diary.count("xllamacpp") == 1
    assert len(result.values[HOKKU]) == 3


def test_who_cannot_load_a_model_is_not_waited_for_again() -> None:
    house = House()
    attempts = []

    def open_session(needs: Needs, asked: Asked) -> Session:
        attempts.append(needs.model)
        raise EngineProblem("no memory")

    broken = Contestant("xllamacpp", "xllamacpp", "1", {"default": "model.gguf"}, open_session)
    with house.runner() as runner:
        results = [runner.run(case(key), [broken]) for key in ("W1", "W2", "W6")]
    assert [result.errors for result in results] == [{"xllamacpp": "no memory"}] * 3
    assert len(attempts) == 1


def test_replies_that_end_early_are_no_measurement() -> None:
    house = House()
    with house.runner() as runner:
        result = runner.run(case("W2"), [house.contestant(HOKKU, num_tokens=64)])
    assert result.values == {}
    assert result.errors == {HOKKU: "W2: only 64 of 768 tokens came"}


def test_labels_end_where_they_end() -> None:
    house = House(rounds=1)
    with house.runner() as runner:
        result = runner.run(case("W9"), [house.contestant(HOKKU, secs=16.0, num_tokens=192)])
    assert result.values == {HOKKU: [4.0]}


def test_a_slow_peer_has_one_round_once_its_time_is_over() -> None:
    house = House(budget_secs=1e-9)  # less than it takes to ask, more than the job says it took
    with house.runner() as runner:
        result = runner.run(case("W2"), [house.contestant(HOKKU), house.contestant("xllamacpp", secs=1e-10)])
    assert {name: len(rounds) for name, rounds in result.values.items()} == {HOKKU: 3, "xllamacpp": 1}
    assert house.diary.count("xllamacpp") == 2, "once to warm up"


def test_a_warm_up_that_takes_up_the_time_alone_is_a_round() -> None:
    house = House(budget_secs=1e-9)
    with house.runner() as runner:
        result = runner.run(case("W2"), [house.contestant(HOKKU), house.contestant("xllamacpp", secs=2.0)])
    assert result.values["xllamacpp"] == [384.0]
    assert house.diary.count("xllamacpp") == 1


def test_a_warm_up_that_fills_a_cache_is_no_round() -> None:
    house = House(budget_secs=1e-9)
    with house.runner() as runner:
        result = runner.run(case("W9"), [house.contestant(HOKKU), house.contestant("llama.cpp", secs=2.0)])
    assert result.values["llama.cpp"] == [32.0]
    assert house.diary.count("llama.cpp") == 2


def test_tools_that_warm_themselves_have_a_figure_from_the_start() -> None:
    house = House(rounds=2)
    with house.runner() as runner:
        result = runner.run(case("W2"), [house.contestant(HOKKU), house.contestant("xllamacpp", pid=None)])
    assert {name: len(rounds) for name, rounds in result.values.items()} == {HOKKU: 2, "xllamacpp": 2}
    assert house.diary.count("xllamacpp") == 2


def test_start_up_begins_anew_each_time_and_counts_it() -> None:
    house = House(rounds=2)
    with house.runner() as runner:
        result = runner.run(case("W6"), [house.contestant(HOKKU, secs=1000.0)])
    assert house.diary == [HOKKU, f"{HOKKU} closed"] * 3
    assert max(result.values[HOKKU]) < 1000


def test_whoever_uses_the_processor_while_waiting_is_started_for_each_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings = iter([0.0, 1.0, *[5.0] * 10])
    monkeypatch.setattr("benchmarks.runner.cpu_secs", lambda pid: next(readings))
    house = House(rounds=1)
    with house.runner() as runner:
        runner.run(case("W2"), [house.contestant(HOKKU, pid=os.getpid())])
    # The warm-up; then, in a process of its own, once more to warm it and once timed.
    assert house.diary == [HOKKU, f"{HOKKU} closed", HOKKU, HOKKU, f"{HOKKU} closed"]


def test_of_requantised_variants_the_fast_ones_stay_and_the_file_s_own_always() -> None:
    def variant(name: str, own_weights: bool) -> Contestant:
        opens = cast(Callable[[Needs, Asked], Session], None)
        return Contestant(name, "llama.cpp", "1", {}, opens, own_weights)

    variants = [variant("own", True), variant("Q4_0", False), variant("Q8_0", False), variant("near", False)]
    rates = {"own": 100.0, "Q4_0": 900.0, "Q8_0": 500.0, "near": 800.0}
    secs = {name: 1000 / rate for name, rate in rates.items()}
    for warm, more_is_better in ((rates, True), (secs, False)):
        kept = keep_best_variants(variants, warm, more_is_better)
        assert [one.name for one in kept] == ["own", "Q4_0", "near"]


def test_where_time_is_short_the_weights_that_won_before_stand_for_their_family() -> None:
    house = House(rounds=1)
    contestants = [
        house.contestant(HOKKU),
        house.contestant("own", "llama.cpp", secs=3.0),
        house.contestant("Q4_0", "llama.cpp", secs=2.0),
        house.contestant("OpenVINO GenAI"),
    ]
    with house.runner() as runner:
        at_first = runner.run(case("W1"), contestants)
        result = runner.run(case("W8-1k"), contestants)
        alone = house.runner().run(case("W8-1k"), contestants)
    with house.runner() as going_on:
        going_on.recall(at_first)
        assert set(going_on.run(case("W8-1k"), contestants).values) == set(result.values)
    assert set(result.values) == {HOKKU, "Q4_0", "OpenVINO GenAI"}
    assert set(alone.values) == {HOKKU, "own", "Q4_0", "OpenVINO GenAI"}


def test_cases_of_one_group_run_next_to_each_other() -> None:
    groups = [group_of(one) for one in in_running_order(all_cases())]
    changes = sum(before != after for before, after in pairwise(groups))
    assert changes == len(set(groups)) - 1


def test_an_engine_gets_the_same_room_whichever_cases_are_chosen() -> None:
    assert needs_of(case("W2"), "m", "") == needs_of(case("W3-32"), "m", "")
    needs = needs_of(case("W2"), "m", "")
    assert needs.streams == 32
    assert needs.window_tokens >= 8_001
    assert needs.total_tokens >= needs.window_tokens
    assert needs_of(case("W4"), "m", "") == needs_of(case("W9"), "m", "")


def test_names_choose_workloads_rows_or_everything() -> None:
    assert [one.key for one in chosen_cases(("W3",))] == ["W3-16", "W3-32"]
    assert [one.key for one in chosen_cases(("W1", "W2@avx2"))] == ["W1", "W2@avx2"]
    assert chosen_cases(()) == all_cases()
    with pytest.raises(ValueError, match="W99"):
        chosen_cases(("W99",))


def test_keys_are_unique_and_what_grows_has_something_to_grow_from() -> None:
    keys = [one.key for one in all_cases()]
    assert len(keys) == len(set(keys))
    assert {one.grows_from for one in all_cases()} - {""} <= set(keys)


def test_of_a_job_that_takes_hours_peers_do_a_sample() -> None:
    house = House()
    result = house.runner().run(
        case("W11"), [house.contestant(HOKKU), house.contestant("llama.cpp", secs=16.0)]
    )
    assert result.values == {HOKKU: [3_000.0], "llama.cpp": [2.0]}  # of 32 requests
    assert house.diary == ["llama.cpp", HOKKU, "llama.cpp"]  # warm first


def test_what_is_measured_beside_a_batch_fills_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Measured(80.0, 100.0, 70, 20.0, 12.0, 0.25, 500.0)
    measured: list[Path] = []

    def measure(log: Path) -> Measured:
        measured.append(log)
        return found

    monkeypatch.setattr("benchmarks.beside_a_batch.measure", measure)
    runner = House().runner()
    first, batch = (runner.run(case(key), []) for key in ("W10", "W10-batch"))
    assert first.ratio == pytest.approx(0.8)
    assert batch.ratio == pytest.approx(0.8)
    assert len(measured) == 1
