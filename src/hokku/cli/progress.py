"""A progress bar for fetched weights, on standard error so that standard output stays clean."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from hokku.registry.cache import ModelCache
from hokku.registry.manifest import Manifest
from hokku.registry.pull import pull


def pull_with_bar(manifest: Manifest, cache: ModelCache, brought: Path | None = None) -> Path:
    """`pull`, drawing a bar while something is fetched. Raises what `pull` raises."""
    present = cache.locate(manifest.weights)
    if present is not None:
        return present
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"Fetching {manifest.id}", total=None)

        def advance(done_bytes: int, total_bytes: int | None) -> None:
            bar.update(task, completed=done_bytes, total=total_bytes)

        return pull(manifest, cache, brought=brought, progress=advance)
