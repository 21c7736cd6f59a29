"""xllamacpp: llama.cpp's server inside a Python process, as its wheel was built. Runs in the peers' environment."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp

from benchmarks.engines.job import Needs
from benchmarks.engines.worker import work


class XllamacppModel:
    """One slot a stream over one shared cache of keys and values; the prompt cache between requests is off."""

    def __init__(self, needs: Needs) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = needs.model
        parameters.n_ctx = needs.total_tokens
        parameters.n_parallel = needs.streams
        parameters.kv_unified = True
        parameters.cache_ram_mib = 0
        parameters.cpuparams.n_threads = needs.threads
        parameters.cpuparams_batch.n_threads = needs.threads
        parameters.port = 0  # it also listens; a free port keeps runs apart
        self._server = xllamacpp.Server(parameters)

    def generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, at_a_time: int) -> int:
        """See `Model.generate`."""

        def answer(prompt: Sequence[int]) -> int:
            reply: dict[str, Any] = self._server.handle_completions(
                {
                    "prompt": list(prompt),
                    "n_predict": max_new_tokens,
                    "temperature": 0,
                    "ignore_eos": True,
                    "cache_prompt": False,
                }
            )
            if "timings" not in reply:
                raise RuntimeError(str(reply))
            return int(reply["timings"]["predicted_n"])

        with ThreadPoolExecutor(at_a_time) as threads:
            return sum(threads.map(answer, prompts))


if __name__ == "__main__":
    work(XllamacppModel)
