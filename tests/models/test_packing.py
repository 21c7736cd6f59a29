"""Packing as a whole: made once, found again, made anew when the source or the packed file is not what it was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.kernels import WeightFormat
from hokku.models.checkpoint import Checkpoint, open_checkpoint
from hokku.models.packing import PackedModel, TextSide, WeightsFormat, load_model
from hokku.models.packing import model as packing_model
from hokku.models.packing.pack import FORMAT_VERSION
from hokku.models.packing.plan import PackedFormat, PlannedMatrix, plan, resolve_format, segments
from hokku.models.weights import CheckpointWeights
from hokku.protocol.errors import BadModelFile, DigestMismatch, DiskFull, ModelNotFound
from tests.models.house import GOLDENS, golden
from tests.models.test_gguf_file import tiny_gguf

EXTRA = {"tokenizer": '{"ünïcode": "日本"}', "template": ""}


def read_text_side(checkpoint: Checkpoint) -> TextSide:
    """Bytes as token ids: every tiny vocabulary has 256 or, for the tiny GGUF, 64 of them."""
    vocabulary = checkpoint.config.vocabulary
    return TextSide(lambda text: [byte % vocabulary for byte in text.encode()[:600]], EXTRA)


class Loader:
    """Loads one checkpoint and counts how often it was packed."""

    def __init__(self, path: Path, cache_dir: Path) -> None:
        self.path = path
        self.cache_dir = cache_dir
        self.num_packed = 0

    def __call__(self, weights_format: WeightsFormat = "int8", digest: str | None = None) -> PackedModel:
        def counted(checkpoint: Checkpoint) -> TextSide:
            self.num_packed += 1
            return read_text_side(checkpoint)

        return load_model(
            self.path,
            read_text_side=counted,
            digest=digest,
            weights_format=weights_format,
            cache_dir=self.cache_dir,
        )


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "packed")


def test_a_second_load_packs_nothing(load: Loader) -> None:
    first, second = load(), load()
    assert load.num_packed == 1
    assert (second.config, second.extra, second.nbytes) == (first.config, EXTRA, first.nbytes)
    assert second.weights_format == "int8"
    assert list(load.cache_dir.iterdir()) == [second.path]


def test_without_a_cache_folder_it_lies_next_to_the_model(load: Loader) -> None:
    model = load_model(load.path, read_text_side=read_text_side)
    assert model.path.parent == load.path.parent


def test_formats_have_files_of_their_own(load: Loader) -> None:
    assert len({load(name).path for name in ("int8", "int4", "bf16", "auto")}) == 4
    assert load("int4").weights_format == "int4"


def test_a_changed_source_is_packed_anew(load: Loader) -> None:
    load()
    os.utime(load.path, ns=(1, 1))
    load()
    assert load.num_packed == 2


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "version"])
def test_a_damaged_packed_file_is_made_anew(
    load: Loader, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = load().path
    whole = path.read_bytes()
    if damage == "version":
        monkeypatch.setattr(packing_model, "FORMAT_VERSION", 999)
        with pytest.raises(BadModelFile, match="another version"):
            PackedModel(path)
        monkeypatch.undo()
        path.write_bytes(whole.replace(b'"format_version": "', b'"format_version": "9', 1)[: len(whole)])
    else:
        path.write_bytes({"cut": whole[:-64], "header": b"\xff" * 200 + whole[200:], "empty": b""}[damage])
    assert load().path.read_bytes() == whole
    assert load.num_packed == 2


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_header_bytes_give_an_error_or_a_model(load: Loader, data: st.DataObject) -> None:
    """Nothing but `BadModelFile` comes out of a damaged packed file, so it can always be made anew."""
    path = load().path
    changed = bytearray(path.read_bytes())
    header_bytes = int.from_bytes(changed[:8], "little")
    for offset in data.draw(st.lists(st.integers(0, header_bytes), min_size=1, max_size=3)):
        changed[offset] = data.draw(st.integers(0, 255))
    damaged = path.with_name("damaged")
    damaged.write_bytes(changed)
    with suppress(BadModelFile):
        PackedModel(damaged)


def test_the_digest_is_checked_and_remembered(load: Loader) -> None:
    right = hashlib.sha256(load.path.read_bytes()).hexdigest()
    load(digest=right)
    load(digest=right)
    assert load.num_packed == 1
    with pytest.raises(DigestMismatch, match=right):
        load(digest="0" * 64)


def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        Loader(tmp_path / "nowhere.gguf", tmp_path)()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelNotFound):
        Loader(tmp_path / "folder", tmp_path)()


def test_a_full_disk_while_packing(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(DiskFull):
        load()
    assert list(load.cache_dir.iterdir()) == []


def test_progress_counts_to_the_total(load: Loader) -> None:
    seen: list[tuple[int, int]] = []
    load_model(
        load.path, read_text_side=read_text_side, progress=lambda done, total: seen.append((done, total))
    )
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}


def test_starting_from_a_packed_model_imports_no_reader(load: Loader) -> None:
    load()
    program = f"""
import sys
from contextlib import suppress
from pathlib import Path
from hokku.models.packing import load_model
path, cache_dir = Path({str(load.path)!r}), Path({str(load.cache_dir)!r})
load_model(path, read_text_side=None, weights_format="int8", cache_dir=cache_dir)
readers = ("gguf", "hokku.models.gguf_file", "hokku.models.safetensors_folder")
loaded = [name for name in readers if name in sys.modules]
print(loaded)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_what_auto_means(tmp_path: Path) -> None:
    assert resolve_format(golden("llama").checkpoint, "auto") == "bf16"
    assert resolve_format(open_checkpoint(tiny_gguf(tmp_path / "t.gguf")), "int4") == "int4"


@pytest.mark.parametrize("mode", ["int8", "int4", "bf16"])
def test_packed_matrices_stand_for_the_checkpoints(mode: PackedFormat, tmp_path: Path) -> None:
    """Undoing the packing and the smoothing gives the checkpoint's numbers, within the format's rounding."""
    model = Loader(GOLDENS / "qwen3", tmp_path)(mode)
    plain = CheckpointWeights(golden("qwen3").checkpoint)
    embedding = plain.matrix("embedding")
    rounding = {"int8": 1 / 254, "int4": 1 / 254, "bf16": 1 / 256}[mode] * np.abs(embedding).max(
        axis=1, keepdims=True
    )
    assert (np.abs(model.matrix("embedding").unpack() - embedding) <= rounding * 1.01).all()
    if mode == "bf16":
        assert np.array_equal(model.matrix("layers.1.qkv").unpack(), plain.matrix("layers.1.qkv"))


def test_plans() -> None:
    """Every mode has its format, but the tables of the integer modes: eight bits in short segments."""
    tied, untied = golden("llama").checkpoint.config, golden("qwen3").checkpoint.config
    bf16 = plan(tied, "bf16")
    assert {(matrix.format, matrix.segments) for matrix in bf16.values()} == {(WeightFormat.BF16, 1)}
    assert "head" not in bf16  # tied: the embedding table
    assert "head" in plan(untied, "bf16")
    int8 = plan(tied, "int8")
    assert {matrix.format for matrix in int8.values()} == {WeightFormat.INT8}
    assert int8["head"] == int8["embedding"]  # but smoothed
    int4 = plan(tied, "int4")
    assert "head" not in int4
    assert "head" in plan(untied, "int4")
    assert {matrix.format for name, matrix in int4.items() if name != "embedding"} == {WeightFormat.INT4}
    assert int4["embedding"] == PlannedMatrix(
        WeightFormat.INT8, tied.vocabulary, tied.hidden, tied.hidden // 64
    )


@pytest.mark.parametrize(
    ("cols", "longest", "expected"),
    [
        (576, 640, 1),
        (1536, 640, 3),
        (4864, 640, 19),
        (576, 64, 9),
        (100, 64, 2),
        (64 * 59, 640, 59),
        (1, 64, 1),
    ],
)
def test_segments_are_equal_whole_and_few(cols: int, longest: int, expected: int) -> None:
    assert segments(cols, longest) == expected


def test_a_packed_file_says_what_it_is(load: Loader) -> None:
    model = load()
    with model.path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert header["__metadata__"]["format_version"] == str(FORMAT_VERSION)
    assert json.loads(header["__metadata__"]["source"])["name"] == "tiny.gguf"
