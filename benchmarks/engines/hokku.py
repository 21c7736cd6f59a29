"""Hokku at its engine's port, in a process of its own, with its defaults."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from benchmarks.engines.job import Needs
from benchmarks.engines.worker import work
from hokku.opening import open_model
from hokku.protocol.engine import Engine, EngineEvent, Failed, Finished, GenerationRequest, Sampling, Tokens
from hokku.settings import load_settings


class HokkuModel:
    """The model as `hokku serve` opens it."""

    def __init__(self, needs: Needs) -> None:
        self._engine: Engine = open_model(load_settings(settings_of(needs), os.environ)).engine
        self._num_jobs = 0

    def generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, at_a_time: int) -> int:
        """See `Model.generate`."""
        self._num_jobs += 1
        scope = str(self._num_jobs)  # one for each job, so that none finds what an earlier one computed
        free_places = threading.Semaphore(at_a_time)
        answers = [_Answer(free_places) for _ in prompts]
        for answer, prompt in zip(answers, prompts, strict=True):
            free_places.acquire()
            request = GenerationRequest(prompt, max_new_tokens, Sampling(temperature=0), cache_scope=scope)
            self._engine.submit(request, answer.sink)
        return sum(answer.wait() for answer in answers)


class _Answer:
    """One generation under way."""

    def __init__(self, free_places: threading.Semaphore) -> None:
        self._free_places = free_places
        self._done = threading.Event()
        self._num_tokens = 0
        self._error: Exception | None = None

    def sink(self, event: EngineEvent) -> None:
        """The engine's side."""
        match event:
            case Tokens(ids=ids):
                self._num_tokens += len(ids)
            case Failed(error=error):
                self._error = error
        if isinstance(event, Finished | Failed):
            self._done.set()
            self._free_places.release()

    def wait(self) -> int:
        """Tokens of the finished generation."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._num_tokens


def settings_of(needs: Needs) -> dict[str, str]:
    """Hokku's settings for these needs; what is not named is its default."""
    named = {"model": needs.model, "isa": needs.isa, "cache_dir": needs.cache_dir}
    named["speculation"] = "" if needs.speculation else "false"
    return {name: value for name, value in named.items() if value}


if __name__ == "__main__":
    work(HokkuModel)
