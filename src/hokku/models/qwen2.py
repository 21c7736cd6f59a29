"""Stop 7 of a request's way: the Qwen2 forward pass. From `engine/model_runner.py`; next, `csrc/body/`.

Qwen2 and Qwen2.5 (Yang et al. 2024): a Llama whose query, key and value projections have biases.
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
        program.linear(b.qkv, b.attention_input, layer.qkv, layer.qkv_bias)
        program.rope_and_store(b.q, b.qkv, rope, index)
        program.attention(b.mixed, b.q, index)
        program.encode(b.mixed_input, b.mixed)
        program.linear(b.x, b.mixed_input, layer.output, accumulate=True)
        feed_forward(program, config, weights, index, b)
    return logits(program, config, weights, b.x)


ARCHITECTURE = Architecture(
    names=("qwen2", "qwen2vl", "Qwen2ForCausalLM", "Qwen2_5_VLForConditionalGeneration"),
    gguf={**GGUF_NAMES, **{f"{p}_bias": f"blk.{{n}}.attn_{p}.bias" for p in "qkv"}},
    safetensors={
        **SAFETENSORS_NAMES,
        **{f"{p}_bias": f"model.layers.{{n}}.self_attn.{p}_proj.bias" for p in "qkv"},
    },
    record=record,
)
