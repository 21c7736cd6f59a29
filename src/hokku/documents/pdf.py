"""The text of a PDF, page by page (wire.md section 12.2).

PDFium reads it, in a process of its own with limits on memory and time (`pdf_worker.py`), so that a hostile file costs
a bounded amount of both and cannot take the server with it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hokku.protocol.errors import InvalidRequest

_WORKER = Path(__file__).with_name("pdf_worker.py")
_PROBLEMS = {
    "password": "The PDF specified is password protected.",
    "invalid": "The PDF specified was not valid.",
    "text": "Could not process PDF",
}


@dataclass(frozen=True, slots=True)
class PdfConfig:
    """Limits of one file."""

    max_pages: int = 100
    max_chars: int = 8_000_000  # of text; more than any window holds
    max_memory_bytes: int = 1 << 30
    max_cpu_secs: int = 20
    max_at_once: int = 1  # files read at the same time: each takes a core from the engine


class PdfReader:
    """Reads PDFs. One for a server."""

    def __init__(self, config: PdfConfig | None = None) -> None:
        self._config = config or PdfConfig()
        self._places = asyncio.Semaphore(self._config.max_at_once)

    async def pages(self, data: bytes, place: str) -> tuple[str, ...]:
        """The text of each page, "" for a page that has none (a scanned one).

        Raises:
            InvalidRequest: empty, no PDF, encrypted, over a limit, or more than PDFium could bear.
        """
        if not data:
            raise InvalidRequest("PDF cannot be empty", place=place)
        async with self._places:
            answer = await self._ask_worker(data)
        if "pages" in answer:
            return tuple(str(page) for page in answer["pages"])
        if answer.get("problem") == "pages":
            limit = self._config.max_pages
            raise InvalidRequest(f"A maximum of {limit} PDF pages may be provided.", place=place)
        raise InvalidRequest(_PROBLEMS.get(answer.get("problem", ""), "Could not process PDF"), place=place)

    async def _ask_worker(self, data: bytes) -> dict[str, Any]:
        """Its answer; none when it ended without one."""
        config = self._config
        limits = (config.max_pages, config.max_chars, config.max_memory_bytes, config.max_cpu_secs)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_WORKER),
            *map(str, limits),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            # Processor time is limited inside; a worker that waits for ever is not a thing PDFium does.
            async with asyncio.timeout(4 * config.max_cpu_secs):
                output, _ = await process.communicate(data)
            answer = json.loads(output)
        except (TimeoutError, ValueError):
            return {}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return answer if isinstance(answer, dict) else {}
