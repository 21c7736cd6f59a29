"""Stop 7 of a request's way: the Llama forward pass. From `engine/model_runner.py`; next, `csrc/body/`.

Llama (Touvron et al. 2023), SmolLM2, and Mistral, whose sliding window caps the context window in
`config.py`. Each line records one operation on the program; the same name leads to it in
`kernels/reference.py` (what it means) and in `csrc/body/` (how it is fast).
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
        program.rope_and_store(b.q, b.qkv, rope, index)
        program.attention(b.mixed, b.q, index)
        program.encode(b.mixed_input, b.mixed)
        program.linear(b.x, b.mixed_input, layer.output, accumulate=True)
        feed_forward(program, config, weights, index, b)
    return logits(program, config, weights, b.x)


ARCHITECTURE = Architecture(
    names=("llama", "LlamaForCausalLM", "MistralForCausalLM"),
    gguf=GGUF_NAMES,
    safetensors=SAFETENSORS_NAMES,
    record=record,
    gguf_rotary_pairs_adjacent=True,
)
