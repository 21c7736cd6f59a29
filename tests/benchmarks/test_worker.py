"""A worker process and the harness's side of it; usage of processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from benchmarks.engines.job import EngineProblem, Job, Needs, Prompt
from benchmarks.engines.worker import WorkerSession, in_waves
from benchmarks.usage import clock_secs, cpu_secs, resident_bytes

WORKER = """
import subprocess
from benchmarks.engines.worker import work

class Model:
    def __init__(self, needs):
        if needs.model == "broken":
            raise RuntimeError("no such\\nmodel file")
        if needs.model == "dying":
            raise SystemExit("cannot go on")
        print("a library talks on standard output")
        self.helper = subprocess.Popen(["sleep", "600"])

    def generate(self, prompts, max_new_tokens, at_a_time):
        if max_new_tokens == 0:
            raise ValueError("nothing to do")
        if max_new_tokens == 99:
            return self.helper.pid
        return at_a_time * 1000 + len(prompts) * max_new_tokens

work(Model)
"""


def session(tmp_path: Path, model: str = "fine") -> WorkerSession:
    (tmp_path / "fake_worker.py").write_text(WORKER, "utf-8")
    needs = Needs(model, threads=1, streams=1, window_tokens=16, total_tokens=16)
    root = str(Path(__file__).parents[2])
    environ = {"PYTHONPATH": os.pathsep.join([root, str(tmp_path)])}
    return WorkerSession(Path(sys.executable), "fake_worker", needs, tmp_path / "log", environ)


def test_a_worker_does_jobs_until_it_is_closed(tmp_path: Path) -> None:
    worker = session(tmp_path)
    job = Job([Prompt([1, 2]), Prompt([3])], max_new_tokens=4)
    assert [worker.run(job).output_tokens for _ in range(2)] == [2008, 2008]
    assert worker.run(Job(job.prompts, 4, at_a_time=1)).output_tokens == 1008
    assert worker.pid is not None
    assert resident_bytes(worker.pid) > 1_000_000
    assert cpu_secs(worker.pid) >= 0
    worker.close()
    worker.close()
    with pytest.raises(EngineProblem, match="status 0"):
        worker.run(job)


def test_a_job_that_fails_is_named_and_the_next_one_runs(tmp_path: Path) -> None:
    worker = session(tmp_path)
    with pytest.raises(EngineProblem, match="ValueError: nothing to do"):
        worker.run(Job([Prompt([1])], max_new_tokens=0))
    assert worker.run(Job([Prompt([1])], max_new_tokens=1)).output_tokens == 1001
    worker.close()


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_what_a_worker_started_ends_with_it(tmp_path: Path) -> None:
    worker = session(tmp_path)
    helper = worker.run(Job([Prompt([1])], max_new_tokens=99)).output_tokens
    assert is_running(helper)
    worker.close()
    while is_running(helper):  # signals take their time; the suite's own limit ends a wait in vain
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("model", "message"), [("broken", "RuntimeError: model file"), ("dying", "status 1: cannot go on")]
)
def test_a_worker_that_cannot_load_says_why(model: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EngineProblem, match=message):
        session(tmp_path, model)


def test_ps_writes_clocks() -> None:
    assert clock_secs("1:02:03") == 3723
    assert clock_secs("2:03.45") == pytest.approx(123.45)


def test_an_engine_that_admits_more_than_the_job_asks_for_is_handed_waves() -> None:
    prompts = [[1], [2], [3], [4], [5]]
    assert in_waves(prompts, at_a_time=2, admitted=32) == [[[1], [2]], [[3], [4]], [[5]]]
    assert in_waves(prompts, at_a_time=16, admitted=16) == [prompts], "its own queue is its business"
