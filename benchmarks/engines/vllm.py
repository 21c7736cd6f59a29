"""vLLM's build for CPUs, where it installs. Runs in an environment of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence

# All cores for its threads: left alone it may keep one for its front end, which idles here.
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, sorted(os.sched_getaffinity(0))))
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"  # GiB

from vllm import LLM, SamplingParams, TokensPrompt  # after the variables that it reads

from benchmarks.engines.job import Needs
from benchmarks.engines.worker import in_waves, work

_SHARE_OF_MEMORY = 0.25  # the most it may take; other engines are loaded too


class VllmModel:
    """Its offline engine on a folder of safetensors in bf16; it is given ids, so it needs no tokenizer."""

    def __init__(self, needs: Needs) -> None:
        self._streams = needs.streams
        self._llm = LLM(
            model=needs.model,
            skip_tokenizer_init=True,
            dtype="bfloat16",
            gpu_memory_utilization=_SHARE_OF_MEMORY,
            enforce_eager=True,  # its compiler took longer than four minutes on two cores
            max_model_len=needs.window_tokens,
            max_num_seqs=needs.streams,
            enable_prefix_caching=needs.prefix_cache,
        )

    def generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, at_a_time: int) -> int:
        """See `Model.generate`: the engine admits `streams` requests at once."""
        sampling = SamplingParams(temperature=0, max_tokens=max_new_tokens, ignore_eos=True, detokenize=False)
        num_tokens = 0
        for wave in in_waves(prompts, at_a_time, self._streams):
            inputs = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in wave]
            replies = self._llm.generate(inputs, sampling, use_tqdm=False)
            num_tokens += sum(len(reply.outputs[0].token_ids) for reply in replies)
        return num_tokens


if __name__ == "__main__":
    work(VllmModel)
