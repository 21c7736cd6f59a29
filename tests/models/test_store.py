"""The packed file: aligned, readable by others, written whole or not at all."""

from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hokku.models.packing.store import ALIGNMENT_BYTES, PackedArrays, PackedWriter, written_whole
from hokku.protocol.errors import BadModelFile, BadSetting, DiskFull

ARRAYS: dict[str, np.ndarray[Any, np.dtype[Any]]] = {
    "codes": np.arange(1_000, dtype=np.uint8).reshape(10, 100),
    "scale": np.arange(7, dtype=np.float32),
    "halves": np.arange(33, dtype=np.uint16),
    "empty": np.zeros(0, np.uint8),
}


def write(path: Path) -> Path:
    with written_whole(path) as file:
        writer = PackedWriter(file, len(ARRAYS), {"format_version": "1"})
        for name, array in ARRAYS.items():
            writer.add(name, array)
        writer.finish()
    return path


def test_arrays_come_back_aligned_and_read_only(tmp_path: Path) -> None:
    packed = PackedArrays(write(tmp_path / "m.packed"))
    assert packed.metadata == {"format_version": "1"}
    assert set(packed.names()) == set(ARRAYS)
    for name, array in ARRAYS.items():
        found = packed.array(name)
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
        assert not found.flags.writeable
        assert array.size == 0 or found.ctypes.data % ALIGNMENT_BYTES == 0


def test_the_official_reader_reads_it(tmp_path: Path) -> None:
    theirs = load_file(write(tmp_path / "m.packed"))
    assert np.array_equal(theirs["codes"], ARRAYS["codes"])


@pytest.mark.parametrize("length", [0, 5, 40, 300, -1])
def test_a_cut_file_is_not_a_packed_model(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "m.packed")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadModelFile):
        PackedArrays(path)


def test_a_lengthened_file_is_not_a_packed_model(tmp_path: Path) -> None:
    path = write(tmp_path / "m.packed")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadModelFile, match="not all of one"):
        PackedArrays(path)


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond this, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "packed" / "m.packed"
    with files_of_at_most(2_000), pytest.raises(DiskFull, match="HOKKU_CACHE_DIR"):
        write(target)
    assert list(target.parent.iterdir()) == []


def test_no_space_left_says_so_and_keeps_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write(tmp_path / "m.packed")
    older = target.read_bytes()

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(DiskFull, match="No space left on device"):
        write(target)
    assert target.read_bytes() == older
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_a_file_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSetting, match="cannot be written"):
        write(tmp_path / "file" / "m.packed")


def test_an_interrupted_writer_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with written_whole(tmp_path / "m.packed") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
