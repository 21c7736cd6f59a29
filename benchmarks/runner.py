"""Runs the cases: sessions opened as they are needed, engines in an order that rotates, warm before they are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import beside_a_batch
from benchmarks.contestants import Contestant, usable_cores
from benchmarks.engines.job import EngineProblem, Job, Needs, Session, Timing
from benchmarks.prompts import PromptMaker, check_lengths
from benchmarks.results import CaseResult, value_of
from benchmarks.usage import cpu_secs, resident_bytes
from benchmarks.workloads import (
    HOKKU,
    NO_BATCH,
    WHAT_IS_LEFT,
    WIRE,
    Asked,
    Case,
    ModelName,
    PromptKind,
    all_cases,
)

_IDLE_SECS = 0.5
_MOST_IDLE_SHARE = 0.05  # of a core, while waiting for the next job
_NEAR = 0.7  # of the fastest variant's speed in the warm-up

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that one session can serve."""

    model: ModelName
    asked: Asked
    prefix_cache: bool
    isa: str
    speculation: bool
    starts_anew: bool


def group_of(case: Case) -> Group:
    """The group of a case."""
    return Group(case.model, case.asked, _shares_prefix(case), case.isa, case.speculation, case.starts_anew)


def _shares_prefix(case: Case) -> bool:
    return case.prompts in (PromptKind.SHARED_PREFIX, PromptKind.LABELS)


def needs_of(case: Case, model: str, cache_dir: str) -> Needs:
    """What the group of a case needs together, whichever of its cases are run today."""
    cases = [other for other in all_cases() if group_of(other) == group_of(case)]
    return Needs(
        model=model,
        threads=usable_cores(),
        streams=max(other.concurrency for other in cases),
        window_tokens=max(other.window_tokens for other in cases) + 16,
        total_tokens=max(other.concurrency * (other.window_tokens + 16) for other in cases),
        prefix_cache=_shares_prefix(case),
        isa=case.isa,
        speculation=case.speculation,
        cache_dir=cache_dir if case.model != "default" else "",
    )


def in_running_order(cases: Iterable[Case]) -> list[Case]:
    """The cases with those of a group next to each other, so that each engine loads each model once."""
    groups: dict[Group, list[Case]] = {}
    for case in cases:
        groups.setdefault(group_of(case), []).append(case)
    return [case for members in groups.values() for case in members]


@dataclass
class Runner:
    """Runs cases and remembers who could not.

    `budget_secs` ends a slow engine's rounds: after that much time in one case, and one round, it is not asked again.
    A warm-up that took so long itself is a round: whatever was cold at its start is no part of its figure to speak of.
    """

    prompts: PromptMaker
    cache_dir: Path
    rounds: int
    budget_secs: float
    tell: Tell
    logs: Path = Path()
    resident_mb: dict[str, float] = field(default_factory=dict)
    _measured: dict[str, CaseResult] = field(default_factory=dict)
    _sessions: dict[str, Session] = field(default_factory=dict)
    _unable: dict[tuple[str, ModelName], str] = field(default_factory=dict)  # to load a model, and why
    _group: Group | None = None
    _beside: beside_a_batch.Measured | None = None
    _restless: set[str] = field(default_factory=set)  # burn processor time while they wait

    def run(self, case: Case, contestants: Sequence[Contestant]) -> CaseResult:
        """Measure one case. A contestant that fails is left out of its later rounds, its error kept."""
        self._enter(group_of(case))
        if case.beside:
            self._measured[case.key] = self._beside_a_batch(case)
            return self._measured[case.key]
        able = [one for one in contestants if one.family in case.families and case.model in one.weights]
        if like := self._measured.get(case.variants_as_in):
            able = fastest_variants(able, like)
        measuring = _Measuring(self, case, able)
        measuring.warm_up()
        for number in range(1 if case.fewer_rounds else self.rounds):
            measuring.one_round(number)
        self._measured[case.key] = measuring.result()
        return self._measured[case.key]

    def _beside_a_batch(self, case: Case) -> CaseResult:
        """One of the pairs of figures that are measured together, whichever is asked for first."""
        if self._beside is None:
            self.close()
            self._beside = beside_a_batch.measure(self.logs / "beside.log")
            self.tell(f"{case.workload}: {self._beside}")
        found = self._beside
        if case.beside == "batch":
            values = {HOKKU: [found.batch_per_sec_beside], WHAT_IS_LEFT: [found.left_per_sec]}
        else:
            values = {HOKKU: [found.first_token_ms_beside], NO_BATCH: [found.first_token_ms_alone]}
        return CaseResult(case, values, {})

    def recall(self, result: CaseResult) -> None:
        """Know a case that an earlier run has measured, for those that take its fastest variants."""
        self._measured[result.case.key] = result

    def close(self) -> None:
        """End every process."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._restless.clear()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def measure(self, case: Case, contestant: Contestant, job: Job) -> Timing:
        """One job by one contestant. Raises `EngineProblem`; the session is then closed and opened anew later."""
        began = time.perf_counter()
        session = self._session(case, contestant)
        try:
            timing = session.run(job)
        except EngineProblem:
            self.forget(contestant)
            raise
        if case.starts_anew:
            timing = replace(timing, secs=time.perf_counter() - began)
        check_lengths(case, job, timing.output_tokens)
        if case.key == WIRE.key and contestant.family == HOKKU and session.pid is not None:
            # After the first streams: later rounds only fill the prefix cache.
            self.resident_mb.setdefault(HOKKU, resident_bytes(session.pid) / 1e6)
        if case.starts_anew or contestant.name in self._restless:
            self.forget(contestant)
        return timing

    def warms_itself(self, contestant: Contestant) -> bool:
        """Whether each of its jobs is a process of its own, which warms up before it takes the time."""
        session = self._sessions.get(contestant.name)
        return session is not None and session.pid is None

    def forget(self, contestant: Contestant) -> None:
        """End a contestant's process."""
        if session := self._sessions.pop(contestant.name, None):
            session.close()

    def find_restless(self) -> None:
        """Whoever uses the processor while nobody asks for anything gets a process for each job from here on."""
        waiting = {name: session.pid for name, session in self._sessions.items() if session.pid is not None}
        before = {name: cpu_secs(pid) for name, pid in waiting.items()}
        time.sleep(_IDLE_SECS)
        for name, pid in waiting.items():
            if cpu_secs(pid) - before[name] > _MOST_IDLE_SHARE * _IDLE_SECS:
                self.tell(
                    f"{name} uses the processor while it waits; from here on it is started for each job"
                )
                self._restless.add(name)
                self._sessions.pop(name).close()

    def _enter(self, group: Group) -> None:
        if group != self._group:
            self.close()
            self._group = group

    def _session(self, case: Case, contestant: Contestant) -> Session:
        if contestant.name not in self._sessions:
            session = self._opened(case, contestant)
            self._sessions[contestant.name] = session
            if contestant.name in self._restless:
                session.run(self.prompts.job(case))  # warm, as the others are
        return self._sessions[contestant.name]

    def _opened(self, case: Case, contestant: Contestant) -> Session:
        """A new session; whoever could not load a model once is not waited for again."""
        if why := self._unable.get((contestant.name, case.model)):
            raise EngineProblem(why)
        try:
            return contestant.open(
                needs_of(case, contestant.weights[case.model], str(self.cache_dir)), case.asked
            )
        except EngineProblem as problem:
            self._unable[contestant.name, case.model] = str(problem)
            raise


@dataclass
class _Measuring:
    """One case under way."""

    runner: Runner
    case: Case
    able: list[Contestant]
    values: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    spent_secs: dict[str, float] = field(default_factory=dict)
    warm: dict[str, float] = field(default_factory=dict)
    last_secs: dict[str, float] = field(default_factory=dict)  # of each one's last job

    def warm_up(self) -> None:
        """Everybody once, untimed; then everybody but the fastest re-quantised variant of a family stays."""
        if self.case.sample:
            self._warm_peers()
        if self.case.fewer_rounds:
            return
        job = self.runner.prompts.job(self.case)
        for contestant in self.able:
            value = self._value(contestant, job)
            if value is not None:
                self.warm[contestant.name] = value
                is_round = self.runner.warms_itself(contestant) or self._is_slow(contestant)
                if is_round and self.case.prompts is not PromptKind.LABELS:  # whose prompt has to be cached
                    self.values[contestant.name] = [value]
        self.able = [one for one in self.able if one.name in self.warm]
        self.able = keep_best_variants(self.able, self.warm, self.case.metric.more_is_better)
        self.runner.find_restless()

    def _warm_peers(self) -> None:
        """Those that do a sample only: in the whole job their beginning would not count."""
        job = self.runner.prompts.job(self.case)
        for contestant in self.able:
            if contestant.family != HOKKU:
                self._value(contestant, job)

    def one_round(self, number: int) -> None:
        """Everybody once, each round beginning with another."""
        shift = number % max(1, len(self.able))
        job = self.runner.prompts.job(self.case)
        for contestant in [*self.able[shift:], *self.able[:shift]]:
            if self._has_enough(contestant, number):
                continue
            value = self._value(contestant, job)
            if value is not None:
                self.values.setdefault(contestant.name, []).append(value)
                self.runner.tell(f"{self.case.key} {contestant.name}: {value:,.2f} {self.case.metric}")

    def result(self) -> CaseResult:
        """What was measured of those that were not left behind in the warm-up."""
        values = {one.name: self.values[one.name] for one in self.able if one.name in self.values}
        return CaseResult(self.case, values, self.errors)

    def _value(self, contestant: Contestant, job: Job) -> float | None:
        if contestant.name in self.errors:
            return None
        if self.case.sample and contestant.family != HOKKU:
            job = replace(job, prompts=job.prompts[: self.case.sample])
        began = time.perf_counter()
        try:
            timing = self.runner.measure(self.case, contestant, job)
        except EngineProblem as problem:
            self.errors[contestant.name] = str(problem)
            self.runner.tell(f"{self.case.key} {contestant.name} failed: {problem}")
            return None
        finally:
            spent = time.perf_counter() - began
            self.spent_secs[contestant.name] = self.spent_secs.get(contestant.name, 0.0) + spent
        self.last_secs[contestant.name] = timing.secs
        return value_of(self.case.metric, job, timing)

    def _is_slow(self, contestant: Contestant) -> bool:
        return contestant.family != HOKKU and self.last_secs[contestant.name] > self.runner.budget_secs

    def _has_enough(self, contestant: Contestant, number: int) -> bool:
        """Whether this round is its own already, or it is a peer that is out of time and has a figure."""
        num_rounds = len(self.values.get(contestant.name, ()))
        if num_rounds > number:
            return True
        is_late = self.spent_secs.get(contestant.name, 0.0) > self.runner.budget_secs
        return contestant.family != HOKKU and is_late and num_rounds > 0


def keep_best_variants(
    contestants: Sequence[Contestant], warm: dict[str, float], more_is_better: bool
) -> list[Contestant]:
    """Of each family's re-quantised variants the fastest, and those so near that a warm-up cannot tell; those with
    the file's own weights always."""

    def speed(one: Contestant) -> float:
        return warm[one.name] if more_is_better else 1 / warm[one.name]

    best: dict[str, float] = {}
    for one in contestants:
        if not one.own_weights:
            best[one.family] = max(speed(one), best.get(one.family, 0.0))
    return [one for one in contestants if one.own_weights or speed(one) >= _NEAR * best[one.family]]


def fastest_variants(contestants: Sequence[Contestant], like: CaseResult) -> list[Contestant]:
    """Of each family only whoever was fastest in another case; families that were not measured there stay whole."""
    medians = like.medians
    fastest: dict[str, str] = {}
    for one in contestants:
        if one.name in medians:
            rival = fastest.setdefault(one.family, one.name)
            if (medians[one.name] > medians[rival]) == like.case.metric.more_is_better:
                fastest[one.family] = one.name
    return [one for one in contestants if fastest.get(one.family, one.name) == one.name]
