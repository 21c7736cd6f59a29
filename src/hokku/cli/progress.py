"""Progress bars for fetching and packing, on standard error so that standard output stays clean.

Nearly every start has nothing to fetch and nothing to pack, so `rich`, which takes some 25 ms to load, is imported
by the first bar.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

from hokku.registry.cache import ModelCache
from hokku.registry.manifest import Manifest
from hokku.registry.pull import pull


def pull_with_bar(manifest: Manifest, cache: ModelCache, brought: Path | None = None) -> Path:
    """`pull`, drawing a bar while something is fetched. Raises what `pull` raises."""
    present = cache.locate(manifest.weights)
    if present is not None:
        return present
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _bar_of(*columns) as bar:
        task = bar.add_task(f"Fetching {manifest.id}", total=None)

        def advance(done_bytes: int, total_bytes: int | None) -> None:
            bar.update(task, completed=done_bytes, total=total_bytes)

        return pull(manifest, cache, brought=brought, progress=advance)


def _bar_of(*columns: ProgressColumn) -> Progress:
    """A bar that a terminal shows while it moves, and a log file never sees."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def requests_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar of requests that are done, of how many, and what is to be said of them."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _bar_of(*columns) as bar:
        task = bar.add_task("")

        def advance(num_done: int, num_total: int, words: str) -> None:
            bar.update(task, completed=num_done, total=num_total, description=words)

        yield advance


def _packing_bar() -> Progress:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}")
    return _bar_of(text, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())


class PackingBar:
    """A bar that appears with the first step of packing, which happens once a model, and goes with the last."""

    def __init__(self) -> None:
        self._begun: tuple[Progress, TaskID] | None = None

    def __call__(self, num_done: int, num_total: int) -> None:
        """Told of each step."""
        if self._begun is None:
            self._begun = self._begin(num_total)
        bar, task = self._begun
        bar.update(task, completed=num_done)

    def __enter__(self) -> PackingBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._begun is not None:
            self._begun[0].stop()

    def _begin(self, num_total: int) -> tuple[Progress, TaskID]:
        bar = _packing_bar()
        if bar.disable:
            print("hokku: packing the weights, which happens once", file=sys.stderr, flush=True)
        bar.start()
        return bar, bar.add_task("Packing the weights (first start only)", total=num_total)
