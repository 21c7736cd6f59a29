"""The model cache: weights by digest, and a note for each file that was hashed so that it is hashed once.

<cache>/weights/<sha256>/<file>     what was fetched, by its digest (several files: their list's)
<cache>/verified/<key>.json         size, time and inode of a file when its digest was last computed
<cache>/incoming/<random>/          half-fetched files; the rename out of here is what makes a file real
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hokku.protocol.errors import DigestMismatch, DiskFull, ModelNotFound
from hokku.registry.manifest import HubWeights, LocalWeights, Weights, WheelWeights


@contextmanager
def disk_full_named(place: Path) -> Iterator[None]:
    """Turn the system's "no space left" (or over quota) into `DiskFull` naming the place."""
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            way_out = "free some room there, or set HOKKU_CACHE_DIR to a larger disk"
            raise DiskFull("no space left on the disk", place=str(place), way_out=way_out) from cause
        raise


class ModelCache:
    """Where weights lie on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, weights: Weights) -> Path:
        """The file, or the folder of files, that these weights are or will be. It need not exist."""
        match weights:
            case LocalWeights(path=path):
                return path
            case WheelWeights(member=member, sha256=sha256):
                return self.root / "weights" / sha256 / Path(member).name
            case HubWeights(sha256s=sha256s):
                folder = self._hub_folder(sha256s)
                return folder / next(iter(sha256s)) if len(sha256s) == 1 else folder

    def locate(self, weights: Weights) -> Path | None:
        """The weights' place when they are there whole and as pinned; None when they must be fetched.

        Raises `ModelNotFound` for a local path that is not there, `DigestMismatch` for one with other bytes.
        """
        place = self.place(weights)
        if isinstance(weights, LocalWeights):
            return self._checked_local(weights)
        pins = self.pins(weights).values()
        return place if all(self._is(file, pinned) for file, pinned in pins) else None

    def pins(self, weights: Weights) -> dict[str, tuple[Path, str]]:
        """Each fetched file by its name at the source: its place here and the digest it must have."""
        place = self.place(weights)
        match weights:
            case LocalWeights():
                return {}
            case WheelWeights(member=member, sha256=sha256):
                return {member: (place, sha256)}
            case HubWeights(sha256s=sha256s):
                return {name: (self._hub_folder(sha256s) / name, pinned) for name, pinned in sha256s.items()}

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder for half-fetched files, on the cache's own disk, gone afterwards."""
        with disk_full_named(self.root):
            parent = self.root / "incoming"
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=parent))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, file: Path, place: Path, pinned: str) -> None:
        """Move a fetched file to its place, or raise `DigestMismatch` otherwise."""
        found = digest(file)
        if found != pinned:
            raise _mismatch(place.name, pinned, found)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
        self._remember(place, found)

    def digest_of(self, file: Path) -> str:
        """SHA-256 of a file, computed once as long as its size, time and inode stay the same."""
        try:
            note = json.loads(self._note(file).read_text("utf-8"))
        except (OSError, ValueError):
            note = {}
        if note.get("identity") == _identity(file):
            return str(note["sha256"])
        sha256 = digest(file)
        self._remember(file, sha256)
        return sha256

    def _is(self, file: Path, pinned: str) -> bool:
        return file.is_file() and self.digest_of(file) == pinned

    def _checked_local(self, weights: LocalWeights) -> Path:
        if not weights.path.exists():
            raise ModelNotFound("no such file or folder", place=str(weights.path))
        if weights.sha256 and not weights.path.is_file():
            raise ModelNotFound("a digest pins one file, and this is a folder", place=str(weights.path))
        if weights.sha256 and not self._is(weights.path, weights.sha256):
            raise _mismatch(str(weights.path), weights.sha256, self.digest_of(weights.path))
        return weights.path

    def _hub_folder(self, sha256s: Mapping[str, str]) -> Path:
        listing = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sha256s.items()))
        return self.root / "weights" / hashlib.sha256(listing.encode()).hexdigest()

    def _note(self, file: Path) -> Path:
        key = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:32]
        return self.root / "verified" / f"{key}.json"

    def _remember(self, file: Path, sha256: str) -> None:
        note = self._note(file)
        with disk_full_named(self.root):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(
                json.dumps({"file": str(file), "identity": _identity(file), "sha256": sha256}), "utf-8"
            )


def digest(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _identity(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _mismatch(place: str, pinned: str, found: str) -> DigestMismatch:
    message = f"the manifest pins sha256 {pinned}, but these bytes have {found}"
    return DigestMismatch(
        message, place=place, way_out="fetch the pinned file, or pin the new digest in a manifest of your own"
    )
