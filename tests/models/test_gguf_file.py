"""GGUF: every storage type against the gguf package, metadata against its reader, and files that are not
whole.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.models.gguf_file import READABLE, GgufFile
from hokku.models.weights import CheckpointWeights
from hokku.protocol.errors import BadModelFile
from tests.models.house import golden, pairs_adjacent, reference_logits, write_gguf

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.context_length": 128,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["<s>", "a", "é", "日本"],
    "tokenizer.ggml.token_type": [3, 1, 1, 1],
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.eos_token_id": 2,
}
LAYER_SHAPES = {
    "attn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32),
    "ffn_norm": (32,), "ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64),
}  # fmt: skip


def tiny_gguf(path: Path) -> Path:
    rng = np.random.default_rng(5)
    shapes = {f"blk.0.{name}.weight": shape for name, shape in LAYER_SHAPES.items()}
    shapes |= {"token_embd.weight": (64, 32), "output_norm.weight": (32,)}
    tensors = {
        name: (rng.standard_normal(shape).astype(np.float32), TensorType.F32)
        for name, shape in shapes.items()
    }
    for name in ("token_embd.weight", "blk.0.ffn_down.weight"):
        tensors[name] = (tensors[name][0], TensorType.Q4_0)
    return write_gguf(path, METADATA, tensors)


@pytest.fixture(scope="session")
def tiny_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


def block_bytes(type_: TensorType, rows: int, cols: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random blocks whose scales are finite: the package cannot quantise to K-quants, so bytes are made up."""
    block, size = gguf.GGML_QUANT_SIZES[type_]
    rng = np.random.default_rng(type_.value)
    blocks = rng.integers(0, 256, (rows * cols // block, size), dtype=np.uint8)
    halves = {TensorType.Q6_K: [208]}.get(
        type_, [0, 2] if type_.name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else [0]
    )
    for offset in halves:
        scales = rng.uniform(-1, 1, len(blocks)).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


def write_raw(path: Path, type_: TensorType, raw: np.ndarray[Any, np.dtype[Any]]) -> GgufFile:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tensor("token_embd.weight", raw, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path)


@pytest.mark.parametrize("type_", READABLE, ids=lambda type_: type_.name)
def test_every_type_reads_as_the_gguf_package_reads_it(type_: TensorType, tmp_path: Path) -> None:
    if type_ in (TensorType.F32, TensorType.F16, TensorType.BF16):
        values = np.random.default_rng(1).standard_normal((6, 512)).astype(np.float32)
        raw = gguf.quantize(values, type_)
    else:
        raw = block_bytes(type_, 6, 512)
    file = write_raw(tmp_path / "one.gguf", type_, raw)
    theirs = gguf.GGUFReader(str(tmp_path / "one.gguf")).tensors[0]
    floats = file.floats("token_embd.weight")
    assert floats.shape == (6, 512)
    assert np.array_equal(floats, gguf.dequantize(theirs.data, type_))


@pytest.mark.parametrize(
    "type_", [TensorType.Q4_0, TensorType.Q4_1, TensorType.Q4_K], ids=lambda type_: type_.name
)
def test_four_bit_codes_stand_for_the_dequantised_values(type_: TensorType, tmp_path: Path) -> None:
    file = write_raw(tmp_path / "one.gguf", type_, block_bytes(type_, 6, 512))
    codes = file.codes("token_embd.weight")
    assert codes is not None
    assert codes.nibbles.max() == 15
    values = codes.nibbles.reshape(6, -1, 32) * codes.scale[..., None] + codes.minimum[..., None]
    np.testing.assert_allclose(values.reshape(6, 512), file.floats("token_embd.weight"), atol=2e-5)


def test_other_types_have_no_codes(tmp_path: Path) -> None:
    file = write_raw(tmp_path / "one.gguf", TensorType.Q8_0, block_bytes(TensorType.Q8_0, 6, 512))
    assert file.codes("token_embd.weight") is None


def test_metadata_is_what_was_written(tmp_path: Path) -> None:
    metadata = GgufFile(tiny_gguf(tmp_path / "tiny.gguf")).metadata
    eps = metadata.pop("llama.attention.layer_norm_rms_epsilon")
    assert eps == pytest.approx(1e-5)
    assert {key: metadata[key] for key in METADATA if key in metadata} == {
        key: value for key, value in METADATA.items() if not key.endswith("epsilon")
    }


def test_a_llama_in_gguf_is_the_llama_in_safetensors(tmp_path: Path) -> None:
    """GGUF has Q and K rows in another order; past the reader nobody can tell."""
    tiny = golden("mistral")
    c, folder = tiny.config, tiny.checkpoint
    plain = CheckpointWeights(folder)
    names = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    tensors = {
        "token_embd.weight": folder.floats("model.embed_tokens.weight"),
        "output_norm.weight": folder.floats("model.norm.weight"),
        "output.weight": folder.floats("lm_head.weight"),
    }
    for layer in range(c.layers):
        for ours, theirs in names.items():
            values = folder.floats(f"model.layers.{layer}.{theirs}.weight")
            if ours in ("attn_q", "attn_k"):
                values = pairs_adjacent(values, c.head_dim)
            tensors[f"blk.{layer}.{ours}.weight"] = values
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": c.layers,
        "llama.context_length": c.context_window_tokens,
        "llama.embedding_length": c.hidden,
        "llama.feed_forward_length": c.ffn,
        "llama.attention.head_count": c.heads,
        "llama.attention.head_count_kv": c.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": c.rms_eps,
    }
    path = write_gguf(
        tmp_path / "tiny.gguf", metadata, {name: (values, TensorType.F32) for name, values in tensors.items()}
    )
    source = CheckpointWeights(GgufFile(path))
    assert np.array_equal(source.matrix("layers.1.qkv"), plain.matrix("layers.1.qkv"))
    np.testing.assert_allclose(reference_logits(source, tiny.tokens, tiny.row_start), tiny.logits, atol=2e-4)


def read_all(data: bytes, path: Path) -> None:
    """Everything that packing would read."""
    path.write_bytes(data)
    source = CheckpointWeights(GgufFile(path))
    for name in ("embedding", "layers.0.qkv", "layers.0.output", "layers.0.gate_up", "layers.0.down"):
        source.matrix(name)
        source.codes(name)
    for name in ("final_gain", "layers.0.attention_gain", "layers.0.ffn_gain"):
        source.vector(name)


def test_the_tiny_file_itself_is_sound(tiny_bytes: bytes, tmp_path: Path) -> None:
    read_all(tiny_bytes, tmp_path / "whole.gguf")


def test_a_truncated_file_names_itself(tiny_bytes: bytes, tmp_path: Path) -> None:
    for length in (0, 3, 4, 20, 100, len(tiny_bytes) // 2, len(tiny_bytes) - 1):
        with pytest.raises(BadModelFile, match=r"cut\.gguf"):
            read_all(tiny_bytes[:length], tmp_path / "cut.gguf")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_give_an_error_or_a_model(
    tiny_bytes: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    """Nothing but `BadModelFile` ever comes out, and nothing larger than the file is allocated for long."""
    header_bytes = len(tiny_bytes) * 2 // 3
    flips = data.draw(
        st.lists(st.tuples(st.integers(0, header_bytes), st.integers(1, 255)), min_size=1, max_size=4)
    )
    changed = bytearray(tiny_bytes)
    for offset, mask in flips:
        changed[offset] ^= mask
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(changed))))
    with suppress(BadModelFile):
        read_all(bytes(changed[:cut]), tmp_path / "flipped.gguf")


def header(num_tensors: int, num_keys: int, rest: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_keys) + rest


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


HUGE = (1 << 63) - 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGML" + bytes(60), "not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(60), "GGUF version 1 is not supported"),
        (header(0, HUGE, b""), "beyond the end of the file"),
        (header(HUGE, 0, b""), "beyond the end of the file"),
        (header(0, 1, struct.pack("<Q", HUGE) + bytes(30)), "beyond the end of the file"),
        (
            header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 4, HUGE) + bytes(30)),
            "beyond the end of the file",
        ),
        (header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 9, 1) + bytes(30)), "unknown type 9"),
        (header(0, 1, text(b"k") + struct.pack("<I", 77) + bytes(30)), "unknown type 77"),
        (header(0, 1, text(b"\xff\xfe") + bytes(30)), "not UTF-8"),
        (header(1, 0, text(b"t") + struct.pack("<I", 9) + bytes(100)), "9 dimensions"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 32, 10, 0) + bytes(99)), "Q2_K is not supported"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 33, 8, 0) + bytes(99)), "cannot be Q8_0"),
        (
            header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 1 << 40, 0, 0) + bytes(99)),
            "tensor t reaches beyond",
        ),
        (
            header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 1, 0, HUGE) + bytes(99)),
            "tensor t reaches beyond",
        ),
    ],
)
def test_what_is_wrong_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=message):
        GgufFile(path)


def test_a_weight_that_is_not_a_number_is_refused_by_name(tmp_path: Path) -> None:
    values = np.ones((4, 32), np.float32)
    values[2, 5] = np.nan
    file = write_raw(tmp_path / "nan.gguf", TensorType.F32, values)
    with pytest.raises(BadModelFile, match=r"token_embd\.weight holds a value that is not finite"):
        file.floats("token_embd.weight")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tensors = {"token_embd.weight": (np.ones((64, 32), np.float32), TensorType.F32)}
    with pytest.raises(BadModelFile, match=r"output_norm\.weight is missing"):
        CheckpointWeights(GgufFile(write_gguf(tmp_path / "few.gguf", METADATA, tensors)))


def test_an_unsupported_architecture_is_named(tmp_path: Path) -> None:
    metadata = {key.replace("llama.", "mamba."): value for key, value in METADATA.items()}
    metadata["general.architecture"] = "mamba"
    tensors = {"token_embd.weight": (np.ones((64, 32), np.float32), TensorType.F32)}
    with pytest.raises(BadModelFile, match="architecture 'mamba' is not supported"):
        CheckpointWeights(GgufFile(write_gguf(tmp_path / "mamba.gguf", metadata, tensors)))
