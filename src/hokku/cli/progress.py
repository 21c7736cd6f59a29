"""Progress bars for fetching and packing, on standard error so that standard output stays clean."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from hokku.registry.cache import ModelCache
from hokku.registry.manifest import Manifest
from hokku.registry.pull import pull


def pull_with_bar(manifest: Manifest, cache: ModelCache, brought: Path | None = None) -> Path:
    """`pull`, drawing a bar while something is fetched. Raises what `pull` raises."""
    present = cache.locate(manifest.weights)
    if present is not None:
        return present
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _bar_of(*columns) as bar:
        task = bar.add_task(f"Fetching {manifest.id}", total=None)

        def advance(done_bytes: int, total_bytes: int | None) -> None:
            bar.update(task, completed=done_bytes, total=total_bytes)

        return pull(manifest, cache, brought=brought, progress=advance)


def _bar_of(*columns: ProgressColumn) -> Progress:
    """A bar that a terminal shows while it moves, and a log file never sees."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class PackingBar:
    """A bar that appears with the first step of packing, which happens once a model, and goes with the last."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = _bar_of(*columns)
        self._task: TaskID | None = None

    def __call__(self, num_done: int, num_total: int) -> None:
        """Told of each step."""
        if self._task is None:
            if self._bar.disable:
                print("hokku: packing the weights, which happens once", file=sys.stderr, flush=True)
            self._bar.start()
            self._task = self._bar.add_task("Packing the weights (first start only)", total=num_total)
        self._bar.update(self._task, completed=num_done)

    def __enter__(self) -> PackingBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bar.stop()
