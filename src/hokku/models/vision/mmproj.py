"""Vision towers in GGUF files of their own, which llama.cpp calls mmproj. Keys and names are those of its converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hokku.models.config import Fields, unsupported
from hokku.models.vision import qwen2_5_vl
from hokku.models.vision.config import VisionConfig, idefics3_config
from hokku.models.vision.qwen2_5_vl import QwenVisionConfig, qwen2_5_vl_config_of_gguf
from hokku.models.vision.weights import Names, Tensors
from hokku.protocol.errors import BadModelFile

_NAMES: Names = {
    "patch": "v.patch_embd",
    "positions": "v.position_embd",
    "attention_norm": "v.blk.{n}.ln1",
    "q": "v.blk.{n}.attn_q",
    "k": "v.blk.{n}.attn_k",
    "v": "v.blk.{n}.attn_v",
    "output": "v.blk.{n}.attn_out",
    "ffn_norm": "v.blk.{n}.ln2",
    "up": "v.blk.{n}.ffn_up",
    "down": "v.blk.{n}.ffn_down",
    "final_norm": "v.post_ln",
    "connector": "mm.model.fc",
}
# Converters once named the two the other way round; which it was shows in their shapes.
_EXCHANGED = {"up": _NAMES["down"], "down": _NAMES["up"]}


def open_mmproj(path: Path) -> tuple[VisionConfig | QwenVisionConfig, Tensors, Names]:
    """The tower's shape, the file, and its tensors' names by role.

    Raises: `BadModelFile` for another kind of GGUF file, or a tower that this engine has no code for."""
    # Its package stays unimported where no eyes are in such a file.
    from hokku.models.gguf_file import GgufFile

    file = GgufFile(path)
    fields = Fields(file.metadata, str(path))
    if fields.text("general.architecture", default="") != "clip":
        raise BadModelFile(
            "not the eyes of a model",
            place=str(path),
            way_out="a GGUF of a whole model goes under model; its mmproj file under eyes",
        )
    projector = fields.text("clip.projector_type", default="") or fields.text(
        "clip.vision.projector_type", default=""
    )
    if projector == "qwen2.5vl_merger":
        return qwen2_5_vl_config_of_gguf(file.metadata, place=str(path)), file, qwen2_5_vl.GGUF_NAMES
    if projector != "idefics3":
        raise unsupported(f"a vision tower with a projector {projector[:80]!r}", str(path))
    connector = file.shape(_NAMES["connector"] + ".weight")
    config = idefics3_config(
        _values(fields, connector[0]), _processor(fields), place=str(path), processor_place=str(path)
    )
    up_rows = file.shape(_NAMES["up"].format(n=0) + ".weight")[0]
    is_exchanged = up_rows == config.hidden != config.ffn
    return config, file, {**_NAMES, **_EXCHANGED} if is_exchanged else _NAMES


def _values(fields: Fields, width: int) -> dict[str, Any]:
    """What a `config.json` would say."""
    vision = {
        "hidden_size": fields.integer("clip.vision.embedding_length"),
        "num_attention_heads": fields.integer("clip.vision.attention.head_count"),
        "num_hidden_layers": fields.integer("clip.vision.block_count"),
        "intermediate_size": fields.integer("clip.vision.feed_forward_length"),
        "image_size": fields.integer("clip.vision.image_size"),
        "patch_size": fields.integer("clip.vision.patch_size"),
        "layer_norm_eps": fields.positive("clip.vision.attention.layer_norm_epsilon", default=1e-6),
    }
    if not fields.flag("clip.use_gelu", default=False):
        raise unsupported("a vision tower without GELU", fields.place)
    return {
        "vision_config": vision,
        "scale_factor": fields.integer("clip.vision.projector.scale_factor", default=2),
        "text_config": {"hidden_size": width},
    }


def _processor(fields: Fields) -> dict[str, Any]:
    """What a `preprocessor_config.json` would say: such files hold towers that take pictures in tiles."""
    edge = fields.integer("clip.vision.image_size")
    longest = fields.integer("clip.vision.preproc_image_size", default=4 * edge)
    return {
        "image_mean": fields.numbers("clip.vision.image_mean"),
        "image_std": fields.numbers("clip.vision.image_std"),
        "size": {"longest_edge": longest},
        "do_image_splitting": longest > edge,
    }
