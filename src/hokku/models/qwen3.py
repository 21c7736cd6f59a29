"""Stop 7 of a request's way: the Qwen3 forward pass. From `engine/model_runner.py`; next, `csrc/body/`.

Qwen3 (Yang et al. 2025): a Llama that normalises each query and key head before rotating it.
"""

from __future__ import annotations

from hokku.kernels.program import Program, Rope
from hokku.models.architecture import GGUF_NAMES, SAFETENSORS_NAMES, Architecture
from hokku.models.config import ModelConfig
from hokku.models.layers import Forward, ModelWeights, buffers, feed_forward, logits


def record(program: Program, config: ModelConfig, weights: ModelWeights, rope: Rope) -> Forward:
    """Record token ids in, logits and drawn tokens out."""
    b = buffers(program, config, weights)
    program.embed(b.x, weights.embedding)
    for index, layer in enumerate(weights.layers):
        program.rms_norm(b.attention_input, b.x, layer.attention_gain, config.rms_eps)
        program.linear(b.qkv, b.attention_input, layer.qkv)
        program.rope_and_store(b.q, b.qkv, rope, index, layer.q_gain, layer.k_gain, config.rms_eps)
        program.attention(b.mixed, b.q, index)
        program.encode(b.mixed_input, b.mixed)
        program.linear(b.x, b.mixed_input, layer.output, accumulate=True)
        feed_forward(program, config, weights, index, b)
    return logits(program, config, weights, b.x)


ARCHITECTURE = Architecture(
    names=("qwen3", "Qwen3ForCausalLM"),
    gguf={**GGUF_NAMES, **{f"{p}_gain": f"blk.{{n}}.attn_{p}_norm.weight" for p in "qk"}},
    safetensors={
        **SAFETENSORS_NAMES,
        **{f"{p}_gain": f"model.layers.{{n}}.self_attn.{p}_norm.weight" for p in "qk"},
    },
    record=record,
)
