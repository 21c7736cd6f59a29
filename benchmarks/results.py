"""The arithmetic of the comparison: values, medians, ratios, shares of the hardware, and the whole as JSON."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.engines.job import Job, Timing
from benchmarks.workloads import HOKKU, MOST_RESIDENT_MB, Case, Metric


def value_of(metric: Metric, job: Job, timing: Timing) -> float:
    """A timing in the unit of its metric."""
    match metric:
        case Metric.PROMPT_RATE:
            return sum(len(prompt.token_ids) for prompt in job.prompts) / timing.secs
        case Metric.OUTPUT_RATE:
            return timing.output_tokens / timing.secs
        case Metric.REQUEST_RATE:
            return len(job.prompts) / timing.secs
        case Metric.START:
            return timing.secs
        case Metric.FIRST_TOKEN:
            return timing.secs * 1e3


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What was measured for one case: each contestant's rounds, and who failed."""

    case: Case
    values: dict[str, list[float]]  # name -> one figure a round, in the case's unit
    errors: dict[str, str]
    run: str = ""  # commit and date of the run that measured it, where that is not the one of the other rows

    @property
    def medians(self) -> dict[str, float]:
        """By name."""
        return {name: statistics.median(rounds) for name, rounds in self.values.items()}

    @property
    def hokku(self) -> float | None:
        """Hokku's median, if it could run."""
        return self.medians.get(HOKKU)

    @property
    def best_peer(self) -> str | None:
        """Whoever but Hokku did best."""
        peers = {name: median for name, median in self.medians.items() if name != HOKKU}
        if not peers:
            return None
        best = max if self.case.metric.more_is_better else min
        return best(peers, key=lambda name: peers[name])

    def ratio_to(self, name: str) -> float | None:
        """How many times as good as `name` Hokku is: more than 1 is better, for rates and for times."""
        if self.hokku is None or name not in self.medians:
            return None
        theirs = self.medians[name]
        return self.hokku / theirs if self.case.metric.more_is_better else theirs / self.hokku

    @property
    def ratio(self) -> float | None:
        """`ratio_to` the best peer."""
        return None if self.best_peer is None else self.ratio_to(self.best_peer)


@dataclass(frozen=True, slots=True)
class ModelWork:
    """What one token costs on Hokku's own packed weights."""

    matrix_operations: int  # of the layers, a multiply and an addition each
    attention_operations_per_key: int  # scores and weighted values, all layers
    matrix_bytes: int  # read for one step of one stream, the head included
    kv_bytes_per_key: int

    def prefill_operations(self, num_tokens: int) -> float:
        """Of a whole prompt: every token sees those before it and itself."""
        keys = num_tokens * (num_tokens + 1) / 2
        return self.matrix_operations * num_tokens + self.attention_operations_per_key * keys

    def decode_bytes(self, num_keys: float) -> float:
        """Read for one token after so many others."""
        return self.matrix_bytes + self.kv_bytes_per_key * num_keys


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Measured on this machine, Hokku's path, all threads."""

    int8_tops: float
    read_gb_per_sec: float


def mfu(case: Case, rate: float, work: ModelWork, ceilings: Ceilings) -> float:
    """Share of the measured int8 peak: all products of a prefill, attention's causal half included."""
    prompts_per_sec = rate / case.prompt_tokens
    return work.prefill_operations(case.prompt_tokens) * prompts_per_sec / (ceilings.int8_tops * 1e12)


def mbu(case: Case, rate: float, work: ModelWork, ceilings: Ceilings) -> float:
    """Share of the measured bandwidth: weights, and keys and values of an average position, once a token."""
    average_keys = case.prompt_tokens + case.output_tokens / 2
    return rate * work.decode_bytes(average_keys) / (ceilings.read_gb_per_sec * 1e9)


@dataclass(frozen=True, slots=True)
class Check:
    """One target of the issue beside what was reached."""

    what: str
    reached: float
    target: float
    unit: str  # "×", "%" or the case's own
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the target was reached, as measured, unrounded."""
        return self.reached <= self.target if self.at_most else self.reached >= self.target


@dataclass
class Results:
    """One run."""

    machine: dict[str, Any]
    versions: dict[str, str]
    absent: dict[str, str]  # family -> why it took no part
    ceilings: Ceilings
    work: dict[str, ModelWork]  # by model
    cases: list[CaseResult] = field(default_factory=list)
    resident_mb: dict[str, float] = field(default_factory=dict)

    def hardware_share(self, result: CaseResult) -> tuple[str, float] | None:
        """MFU of a prefill or MBU of one stream, with its name; None where neither says anything."""
        case, work = result.case, self.work.get(result.case.model)
        if result.hokku is None or work is None or case.isa:
            return None
        if case.metric is Metric.PROMPT_RATE:
            return "MFU", mfu(case, result.hokku, work, self.ceilings)
        if case.metric is Metric.OUTPUT_RATE and case.concurrency == 1 and not case.speculation:
            return "MBU", mbu(case, result.hokku, work, self.ceilings)
        return None

    def growth(self, result: CaseResult, name: str = HOKKU) -> float | None:
        """Cost per prompt token over that of the case it grows from; 1 is linear."""
        base = next((other for other in self.cases if other.case.key == result.case.grows_from), None)
        if base is None or name not in base.medians or name not in result.medians:
            return None
        longer = result.medians[name] / result.case.prompt_tokens
        return longer / (base.medians[name] / base.case.prompt_tokens)

    def checks(self, result: CaseResult) -> list[Check]:
        """The targets of one case beside what was reached; those that could not be measured are left out."""
        case, found = result.case, []
        if case.target_ratio is not None and result.ratio is not None:
            found.append(Check("ratio", result.ratio, case.target_ratio, "×"))
        share = self.hardware_share(result)
        target = case.target_mfu if case.target_mfu is not None else case.target_mbu
        if share is not None and target is not None:
            found.append(Check(share[0], share[1] * 100, target * 100, "%"))
        if case.target_most is not None and result.hokku is not None:
            found.append(Check(case.title, result.hokku, case.target_most, case.metric.value, at_most=True))
        growth = self.growth(result)
        if case.target_growth is not None and growth is not None:
            found.append(Check("growth", growth, case.target_growth, "×", at_most=True))
        return found

    def memory_check(self) -> Check | None:
        """Resident memory of the server beside its limit."""
        if HOKKU not in self.resident_mb:
            return None
        return Check("resident memory", self.resident_mb[HOKKU], MOST_RESIDENT_MB, "MB", at_most=True)

    def as_json(self) -> dict[str, Any]:
        """Everything, for the last line and for whoever compares runs."""
        return {
            "machine": self.machine,
            "versions": self.versions,
            "absent": self.absent,
            "int8_tops": self.ceilings.int8_tops,
            "read_gb_per_sec": self.ceilings.read_gb_per_sec,
            "resident_mb": self.resident_mb,
            "cases": [self._case_json(result) for result in self.cases],
        }

    def _case_json(self, result: CaseResult) -> dict[str, Any]:
        share = self.hardware_share(result)
        return {
            "key": result.case.key,
            "title": result.case.title,
            "unit": result.case.metric.value,
            "rounds": result.values,
            "medians": result.medians,
            "ratios": {name: result.ratio_to(name) for name in result.medians if name != HOKKU},
            "best_peer": result.best_peer,
            "ratio": result.ratio,
            "hardware_share": None if share is None else {share[0]: share[1]},
            "growth": self.growth(result),
            "targets": [
                {"what": check.what, "reached": check.reached, "target": check.target, "met": check.is_met}
                for check in self.checks(result)
            ],
            "errors": result.errors,
            "run": result.run,
        }
