"""Processes that read strangers' files (`worker.py`): few at a time, each with limits on memory and time."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hokku.documents.config import WorkersConfig
from hokku.protocol.pictures import Picture, Tile, Tiling

_SCRIPT = Path(__file__).with_name("worker.py")


class Workers:
    """Starts a process for each file. One for a server."""

    def __init__(self, config: WorkersConfig | None = None) -> None:
        self._config = config or WorkersConfig()
        self._places = asyncio.Semaphore(self._config.max_at_once)

    async def read(
        self, kind: Literal["pdf", "image"], data: bytes, tiling: Tiling | None, *limits: int
    ) -> dict[str, Any]:
        """What the process answers (see `worker.py`), its "pictures" as `Picture`s; nothing when it ended without an
        answer."""
        async with self._places:
            return await self._ask(kind, data, tiling, limits)

    async def _ask(
        self, kind: str, data: bytes, tiling: Tiling | None, limits: tuple[int, ...]
    ) -> dict[str, Any]:
        config = self._config
        wanted = json.dumps(asdict(tiling) if tiling else None)
        arguments = (
            config.max_memory_bytes,
            config.max_cpu_secs,
            kind,
            wanted,
            config.max_pixel_bytes,
            *limits,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_SCRIPT),
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            # Processor time is limited inside; a worker that waits for ever is not a thing these libraries do.
            async with asyncio.timeout(config.max_secs):
                output, _ = await process.communicate(data)
            return await asyncio.to_thread(_answer, output, tiling)
        except (TimeoutError, ValueError):
            return {}
        finally:
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
