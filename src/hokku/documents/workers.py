"""Processes that read strangers' files (`worker.py`): few at a time, each with limits on memory and time."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Literal

from hokku.documents.config import WorkersConfig

_SCRIPT = Path(__file__).with_name("worker.py")


class Workers:
    """Starts a process for each file. One for a server."""

    def __init__(self, config: WorkersConfig | None = None) -> None:
        self._config = config or WorkersConfig()
        self._places = asyncio.Semaphore(self._config.max_at_once)

    async def read(self, kind: Literal["pdf", "image"], data: bytes, *limits: int) -> dict[str, Any]:
        """What the process answers (see `worker.py`); nothing when it ended without an answer."""
        async with self._places:
            return await self._ask(kind, data, limits)

    async def _ask(self, kind: str, data: bytes, limits: tuple[int, ...]) -> dict[str, Any]:
        config = self._config
        arguments = (config.max_memory_bytes, config.max_cpu_secs, kind, *limits)
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
            answer = json.loads(output)
        except (TimeoutError, ValueError):
            return {}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return answer if isinstance(answer, dict) else {}
