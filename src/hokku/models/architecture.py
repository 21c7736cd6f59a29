"""What a model's file must bring, and the weight names that most checkpoints agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hokku.kernels.program import Program, Rope
from hokku.models.config import ModelConfig
from hokku.models.layers import Forward, ModelWeights

# From a role to the name of the checkpoint's tensor; {n} is the layer.
Names = Mapping[str, str]

GGUF_NAMES: Names = {
    "embedding": "token_embd.weight",
    "final_gain": "output_norm.weight",
    "head": "output.weight",
    "rope_divisors": "rope_freqs.weight",
    "attention_gain": "blk.{n}.attn_norm.weight",
    "q": "blk.{n}.attn_q.weight",
    "k": "blk.{n}.attn_k.weight",
    "v": "blk.{n}.attn_v.weight",
    "output": "blk.{n}.attn_output.weight",
    "ffn_gain": "blk.{n}.ffn_norm.weight",
    "gate": "blk.{n}.ffn_gate.weight",
    "up": "blk.{n}.ffn_up.weight",
    "down": "blk.{n}.ffn_down.weight",
}
SAFETENSORS_NAMES: Names = {
    "embedding": "model.embed_tokens.weight",
    "final_gain": "model.norm.weight",
    "head": "lm_head.weight",
    "attention_gain": "model.layers.{n}.input_layernorm.weight",
    "q": "model.layers.{n}.self_attn.q_proj.weight",
    "k": "model.layers.{n}.self_attn.k_proj.weight",
    "v": "model.layers.{n}.self_attn.v_proj.weight",
    "output": "model.layers.{n}.self_attn.o_proj.weight",
    "ffn_gain": "model.layers.{n}.post_attention_layernorm.weight",
    "gate": "model.layers.{n}.mlp.gate_proj.weight",
    "up": "model.layers.{n}.mlp.up_proj.weight",
    "down": "model.layers.{n}.mlp.down_proj.weight",
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model family; each file that defines `ARCHITECTURE` in this folder is found by `registry.py`."""

    names: tuple[str, ...]  # as GGUF's general.architecture and config.json's architectures spell them
    gguf: Names
    safetensors: Names
    record: Callable[[Program, ModelConfig, ModelWeights, Rope], Forward]
    # GGUF holds this family's Q and K rows with rotary pairs side by side, (2i, 2i+1), where the kernels and
    # safetensors checkpoints have them half a head apart, (i, i + D/2).
    gguf_rotary_pairs_adjacent: bool = False
