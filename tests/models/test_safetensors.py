"""safetensors folders: types, shards, and files that are not whole."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from hokku.models.checkpoint import open_checkpoint
from hokku.models.safetensors_file import SafetensorsFile
from hokku.models.safetensors_folder import SafetensorsFolder
from hokku.models.weights import CheckpointWeights
from hokku.protocol.errors import BadModelFile, ModelNotFound
from tests.models.house import GOLDENS, golden


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text((GOLDENS / "llama" / "config.json").read_text())
    return tmp_path


def test_float_types(folder: Path) -> None:
    values = np.random.default_rng(2).standard_normal((3, 8)).astype(np.float32)
    exact = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    save_file({"single": values, "half": values.astype(np.float16)}, folder / "model.safetensors")
    file = SafetensorsFolder(folder)
    assert np.array_equal(file.floats("single"), values)
    assert np.array_equal(file.floats("half"), values.astype(np.float16).astype(np.float32))
    write(folder / "model.safetensors", {"brain": ("BF16", (exact.view(np.uint32) >> 16).astype(np.uint16))})
    assert np.array_equal(SafetensorsFolder(folder).floats("brain"), exact)


def test_integers_are_not_weights(folder: Path) -> None:
    save_file({"steps": np.zeros(4, np.int32)}, folder / "model.safetensors")
    with pytest.raises(BadModelFile, match="tensor steps has the type I32"):
        SafetensorsFolder(folder).floats("steps")


def test_shards_read_as_one(folder: Path) -> None:
    whole = golden("llama").checkpoint
    names = sorted(whole.names)
    weight_map: dict[str, str] = {}
    for shard, part in enumerate((names[::2], names[1::2])):
        file = f"model-{shard}.safetensors"
        save_file({name: whole.floats(name) for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    sharded, plain = CheckpointWeights(SafetensorsFolder(folder)), CheckpointWeights(whole)
    assert np.array_equal(sharded.matrix("layers.1.gate_up"), plain.matrix("layers.1.gate_up"))


@pytest.mark.parametrize("weight_map", [{"a": "../secret"}, {"a": "/etc/passwd"}, {"a": ["x"]}, {}, [], None])
def test_an_index_reaches_only_into_its_folder(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(BadModelFile, match="does not name files of this folder"):
        SafetensorsFolder(folder)


def test_metadata_and_tokenizer_are_found(folder: Path) -> None:
    save_file({"x": np.zeros(1, np.float32)}, folder / "model.safetensors")
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ x }}"}')
    assert SafetensorsFolder(folder).tokenizer_source is None
    (folder / "tokenizer.json").write_text("{}")
    file = SafetensorsFolder(folder)
    assert file.tokenizer_source == folder / "tokenizer.json"
    assert file.metadata["tokenizer_config"] == {"chat_template": "{{ x }}"}
    assert file.config.eos_ids == (2, 5)


def test_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(BadModelFile, match=r"model\.safetensors: cannot be read"):
        open_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(BadModelFile, match=r"no config\.json"):
        open_checkpoint(folder)


def write(path: Path, tensors: dict[str, tuple[str, np.ndarray[Any, np.dtype[Any]]]]) -> None:
    header, data = {}, b""
    for name, (type_, values) in tensors.items():
        end = len(data) + values.nbytes
        header[name] = {"dtype": type_, "shape": values.shape, "data_offsets": [len(data), end]}
        data += values.tobytes()
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def raw_file(path: Path, header: Any, data: bytes = bytes(64), length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "header is not JSON"),
        (b"[" * 100_000, "header is not JSON"),
        ([], "not a JSON object"),
        ({"t": 3}, "tensor t is malformed"),
        ({"t": {}}, "tensor t is malformed"),
        (entry(shape=[-4]), "tensor t is malformed"),
        (entry(shape=[True]), "tensor t is malformed"),
        (entry(offsets=[0, "16"]), "tensor t is malformed"),
        (entry(offsets=[0]), "tensor t is malformed"),
        (entry(dtype="F99"), "type F99 is not supported"),
        (entry(dtype=["F32"]), "tensor t"),
        (entry(offsets=[0, 12]), "tensor t reaches beyond"),
        (entry(offsets=[1 << 60, (1 << 60) + 16]), "tensor t reaches beyond"),
        (entry(shape=[1 << 62, 4]), "tensor t reaches beyond"),
        ({"__metadata__": {"a": 1}}, "not a map of strings"),
    ],
)
def test_what_is_wrong_is_named(header: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match=message):
        SafetensorsFile(raw_file(tmp_path / "bad.safetensors", header))


@pytest.mark.parametrize("length", [1 << 63, 99_999_999, 70])
def test_a_header_longer_than_the_file_is_refused(length: int, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile):
        SafetensorsFile(raw_file(tmp_path / "bad.safetensors", b"{}", bytes(4), length))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_give_an_error_or_a_file(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "flipped.safetensors"
    write(path, {"a": ("F32", np.ones((2, 3), np.float32)), "b": ("BF16", np.ones(7, np.uint16))})
    changed = bytearray(path.read_bytes())
    for offset, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255)), min_size=1, max_size=4)
    ):
        changed[offset] = value
    path.write_bytes(changed[: data.draw(st.integers(0, len(changed)))])
    with suppress(BadModelFile):
        file = SafetensorsFile(path)
        for name in file.tensors:
            file.array(name)
