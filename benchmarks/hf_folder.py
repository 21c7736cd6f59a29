"""A Llama GGUF file as a folder of safetensors in bf16, for an engine that does not read GGUF (vLLM).

The values are those of the file, dequantised: the same model, in the only form that engine takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import F32
from hokku.models.checkpoint import Checkpoint, open_checkpoint
from hokku.models.weights import pairs_apart_order

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_folder_if_missing(model: Path, folder: Path) -> Path:
    """`folder` with `config.json` and `model.safetensors` of a Llama model with tied embeddings."""
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = open_checkpoint(model)
        _write_safetensors(folder / "model.safetensors", dict(_tensors(checkpoint)))
        (folder / "config.json").write_text(
            json.dumps(_config(checkpoint)), "utf-8"
        )  # last: it says all is there
    return folder


def _config(checkpoint: Checkpoint) -> dict[str, object]:
    config = checkpoint.config
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context_window_tokens,
        "rms_norm_eps": checkpoint.metadata["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": checkpoint.metadata["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "bos_token_id": checkpoint.metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": checkpoint.metadata["tokenizer.ggml.eos_token_id"],
    }


def _tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, F32]]:
    config = checkpoint.config
    yield "model.embed_tokens.weight", checkpoint.floats("token_embd.weight")
    yield "model.norm.weight", checkpoint.floats("output_norm.weight")
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}
    for layer in range(config.layers):
        for ours, theirs in _LAYER_NAMES.items():
            values = checkpoint.floats(f"blk.{layer}.{ours}.weight")
            if ours in heads:  # GGUF has rotary pairs side by side
                values = values[pairs_apart_order(heads[ours], config.head_dim)]
            yield f"model.layers.{layer}.{theirs}.weight", values


def _write_safetensors(path: Path, tensors: dict[str, F32]) -> None:
    """The format's header, then the values in bf16 (safetensors specification)."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    pieces: list[NDArray[np.uint16]] = []
    begin = 0
    for name, values in tensors.items():
        pieces.append(_bf16(values))
        end = begin + pieces[-1].nbytes
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for piece in pieces:
            file.write(piece.tobytes())


def _bf16(values: F32) -> NDArray[np.uint16]:
    """Rounded to nearest, ties to even, as the upper half of float32's bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded
