"""The text of a PDF, page by page (wire.md section 12.2). PDFium reads it, in a process of its own (`worker.py`)."""

from __future__ import annotations

from hokku.documents.config import PdfConfig
from hokku.documents.workers import Workers
from hokku.protocol.errors import InvalidRequest

TOO_MANY_PAGES = "A maximum of {} PDF pages may be provided."
COULD_NOT_PROCESS = "Could not process PDF"
_PROBLEMS = {
    "password": "The PDF specified is password protected.",
    "invalid": "The PDF specified was not valid.",
    "text": COULD_NOT_PROCESS,
}


class PdfReader:
    """Reads PDFs. One for a server."""

    def __init__(self, workers: Workers | None = None, config: PdfConfig | None = None) -> None:
        self._workers = workers or Workers()
        self._config = config or PdfConfig()

    async def pages(self, data: bytes, place: str) -> tuple[str, ...]:
        """The text of each page, "" for a page that has none (a scanned one); one page at least.

        Raises:
            InvalidRequest: empty, no PDF, encrypted, over a limit, or more than PDFium could bear.
        """
        if not data:
            raise InvalidRequest("PDF cannot be empty", place=place)
        answer = await self._workers.read("pdf", data, self._config.max_pages, self._config.max_chars)
        if answer.get("pages"):
            return tuple(str(page) for page in answer["pages"])
        problem = "invalid" if "pages" in answer else answer.get("problem", "")
        if problem == "pages":
            raise InvalidRequest(TOO_MANY_PAGES.format(self._config.max_pages), place=place)
        raise InvalidRequest(_PROBLEMS.get(problem, COULD_NOT_PROCESS), place=place)
