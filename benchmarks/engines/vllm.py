"""vLLM's build for CPUs, where it installs. Runs in an environment of its own."""

from __future__ import annotations

from collections.abc import Sequence

from vllm import LLM, SamplingParams, TokensPrompt

from benchmarks.engines.job import Needs
from benchmarks.engines.worker import work


class VllmModel:
    """Its offline engine on the GGUF file, which it dequantises."""

    def __init__(self, needs: Needs) -> None:
        self._llm = LLM(
            model=needs.model,
            max_model_len=needs.window_tokens,
            max_num_seqs=needs.streams,
            enable_prefix_caching=needs.prefix_cache,
        )

    def generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, at_a_time: int) -> int:
        """See `Model.generate`: the engine admits `streams` requests at once, which is `at_a_time` here."""
        sampling = SamplingParams(temperature=0, max_tokens=max_new_tokens, ignore_eos=True)
        replies = self._llm.generate(
            [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts], sampling, use_tqdm=False
        )
        return sum(len(reply.outputs[0].token_ids) for reply in replies)


if __name__ == "__main__":
    work(VllmModel)
