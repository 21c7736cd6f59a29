"""OpenVINO GenAI: its continuous batching pipeline reads the GGUF file directly. Runs in the peers' environment.

It brings no server, so it is asked in process for everything; where others answer over HTTP this favours it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
import openvino_genai as genai

from benchmarks.engines.job import Needs
from benchmarks.engines.worker import in_waves, work

_BYTES_OF_A_GIBIBYTE = 1 << 30
_KV_BYTES_PER_TOKEN = 64 << 10  # more than any shape here needs; a cache that is too small would preempt


class OpenVinoModel:
    """A pipeline whose scheduler takes whole prompts in a step, as its own benchmark sets it."""

    def __init__(self, needs: Needs) -> None:
        self._streams = needs.streams
        scheduler = genai.SchedulerConfig()
        kv_bytes = 2 * needs.total_tokens * _KV_BYTES_PER_TOKEN
        scheduler.cache_size = max(1, -(-kv_bytes // _BYTES_OF_A_GIBIBYTE))
        scheduler.enable_prefix_caching = needs.prefix_cache
        scheduler.max_num_batched_tokens = max(4096, needs.window_tokens)
        scheduler.max_num_seqs = needs.streams
        self._pipeline = genai.ContinuousBatchingPipeline(
            needs.model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": needs.threads}
        )

    def generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, at_a_time: int) -> int:
        """See `Model.generate`: the scheduler admits `streams` requests at once."""
        config = genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = max_new_tokens
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        num_tokens = 0
        for wave in in_waves(prompts, at_a_time, self._streams):
            inputs = [ov.Tensor(np.asarray([prompt], dtype=np.int64)) for prompt in wave]
            results = self._pipeline.generate(inputs, [config] * len(inputs))
            num_tokens += sum(len(result.m_generation_ids[0]) for result in results)
        return num_tokens


if __name__ == "__main__":
    work(OpenVinoModel)
