"""Processes that read strangers' files (`worker.py`): few at a time, each with limits on memory and time."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hokku.documents.config import WorkersConfig
from hokku.protocol.pictures import Picture, Tile, Tiling

Kind = Literal["pdf", "image"]
_SCRIPT = Path(__file__).with_name("worker.py")


class Workers:
    """Starts a process for each file. One for a server; `close` it where it keeps spare processes."""

    def __init__(self, config: WorkersConfig | None = None) -> None:
        self._config = config or WorkersConfig()
        self._places = asyncio.Semaphore(self._config.max_at_once)
        self._spare: Process | None = None  # has loaded its library, and waits for an image
        self._preparing: asyncio.Task[None] | None = None
        self._dismissal: asyncio.TimerHandle | None = None

    async def read(self, kind: Kind, data: bytes, tiling: Tiling | None, *limits: int) -> dict[str, Any]:
        """What the process answers (see `worker.py`), its "pictures" as `Picture`s; nothing when it ended without an
        answer."""
        async with self._places:
            return await self._ask(kind, data, tiling, limits)

    @property
    def has_spare(self) -> bool:
        """Whether a process waits for an image, or is about to."""
        return self._spare is not None or (self._preparing is not None and not self._preparing.done())

    async def close(self) -> None:
        """Let the spare process go."""
        await self._settled()
        await self._dismiss()

    async def _ask(
        self, kind: Kind, data: bytes, tiling: Tiling | None, limits: tuple[int, ...]
    ) -> dict[str, Any]:
        task = {
            "tiling": asdict(tiling) if tiling else None,
            "max_pixel_bytes": self._config.max_pixel_bytes,
            "limits": limits,
        }
        process = await self._take(kind)
        try:
            # Processor time is limited inside; a worker that waits for ever is not a thing these libraries do.
            async with asyncio.timeout(self._config.max_secs):
                output, _ = await process.communicate(json.dumps(task).encode() + b"\n" + data)
            return await asyncio.to_thread(_answer, output, tiling)
        except (TimeoutError, ValueError):
            return {}
        finally:
            await _end(process)
            if kind == "image" and self._config.spare_secs:
                self._preparing = asyncio.create_task(self._prepare())

    async def _take(self, kind: Kind) -> Process:
        """A process that waits for its task."""
        if kind == "image":
            await self._settled()
            process, self._spare = self._spare, None
            if process is not None and process.returncode is None:
                return process
        return await self._start(kind)

    async def _settled(self) -> None:
        """Wait for what is under way with the spare process. Who stops waiting stops nothing else, and how it ended is
        no concern of who waits."""
        if self._preparing is not None:
            await asyncio.wait([self._preparing])

    async def _start(self, kind: Kind) -> Process:
        config = self._config
        arguments = (str(_SCRIPT), str(config.max_memory_bytes), str(config.max_cpu_secs), kind)
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", *arguments, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
        )

    async def _prepare(self) -> None:
        """Have a process ready for the next image, which is likely to come soon."""
        await self._dismiss()
        with suppress(OSError):  # then the next image starts its own, or says why not
            self._spare = await self._start("image")
        self._dismissal = asyncio.get_running_loop().call_later(self._config.spare_secs, self._let_go)

    def _let_go(self) -> None:
        self._preparing = asyncio.create_task(self._dismiss())

    async def _dismiss(self) -> None:
        if self._dismissal is not None:
            self._dismissal.cancel()
        process, self._spare = self._spare, None
        if process is not None:
            await _end(process)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _answer(output: bytes, tiling: Tiling | None) -> dict[str, Any]:
    """An answer of the process. Raises `ValueError` for half of one."""
    text, _, pixels = output.partition(b"\n")
    answer = json.loads(text)
    if not isinstance(answer, dict):
        return {}
    if tiling and "pictures" in answer:
        tiles = _tiles(answer["pictures"], pixels, tiling)
        answer["pictures"] = [
            Picture(tuple(islice(tiles, len(each["tiles"]))), tuple(each["grid"]))
            for each in answer["pictures"]
        ]
    return answer


def _tiles(pictures: Sequence[dict[str, Any]], pixels: bytes, tiling: Tiling) -> Iterator[Tile]:
    start = 0
    for picture in pictures:
        for height, width in picture["tiles"]:
            end = start + height * width * 3
            flat = np.frombuffer(pixels[start:end], np.uint8)
            yield Tile(flat.reshape(height, width, 3), tiling.num_rows(height, width))
            start = end
