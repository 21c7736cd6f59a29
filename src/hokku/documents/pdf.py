"""The text and the looks of a PDF, page by page (wire.md section 12.2).

PDFium reads it, in a process of its own (`worker.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hokku.documents.config import PdfConfig
from hokku.documents.workers import Workers
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.pictures import Picture, Tiling

TOO_MANY_PAGES = "A maximum of {} PDF pages may be provided."
COULD_NOT_PROCESS = "Could not process PDF"
_PROBLEMS = {
    "password": "The PDF specified is password protected.",
    "invalid": "The PDF specified was not valid.",
    "text": COULD_NOT_PROCESS,
    "pixels": "The pages of the PDF are more than this model can look at.",
}


@dataclass(frozen=True, slots=True)
class ReadPdf:
    """A PDF's pages: the text of each, and for a model that sees what each looks like."""

    pages: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()


class PdfReader:
    """Reads PDFs. One for a server."""

    def __init__(self, workers: Workers | None = None, config: PdfConfig | None = None) -> None:
        self._workers = workers or Workers()
        self._config = config or PdfConfig()

    async def read(self, data: bytes, place: str, tiling: Tiling | None = None) -> ReadPdf:
        """The pages, "" for the text of one that has none (a scanned one); one page at least.

        Args:
            data: the file.
            place: where the request names it.
            tiling: what the model wants of pictures; None where it does not see.

        Raises:
            InvalidRequest: empty, no PDF, encrypted, over a limit, or more than PDFium could bear.
        """
        if not data:
            raise InvalidRequest("PDF cannot be empty", place=place)
        answer = await self._workers.read("pdf", data, tiling, self._config.max_pages, self._config.max_chars)
        if answer.get("pages"):
            return ReadPdf(tuple(map(str, answer["pages"])), tuple(answer.get("pictures", ())))
        problem = "invalid" if "pages" in answer else answer.get("problem", "")
        if problem == "pages":
            raise InvalidRequest(TOO_MANY_PAGES.format(self._config.max_pages), place=place)
        raise InvalidRequest(_PROBLEMS.get(problem, COULD_NOT_PROCESS), place=place)
