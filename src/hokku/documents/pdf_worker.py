"""Reads one PDF in a process of its own: bytes on standard input, one JSON object on standard output.

    {"pages": ["text of page 1", …]}    or    {"problem": "password" | "invalid" | "pages" | "text"}

Started by path, not as a module, so that it imports nothing of the server. Arguments: most pages, most characters of
text, most bytes of memory, most seconds of processor time. PDFium is a large C++ library that reads what strangers
send; whatever goes wrong in it ends this process and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys


def main() -> None:
    """Read, answer, end."""
    max_pages, max_chars, max_bytes, max_secs = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_CPU, (max_secs, max_secs))
    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump(read(sys.stdin.buffer.read(), max_pages, max_chars), sys.stdout)


def read(data: bytes, max_pages: int, max_chars: int) -> dict[str, object]:
    """The answer for one file."""
    import pypdfium2
    from pypdfium2.raw import FPDF_ERR_PASSWORD

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        return {"problem": "password" if getattr(error, "err_code", None) == FPDF_ERR_PASSWORD else "invalid"}
    if len(document) > max_pages:
        return {"problem": "pages"}
    pages: list[str] = []
    num_chars = 0
    for number in range(len(document)):
        try:
            text = document[number].get_textpage().get_text_bounded()
        except pypdfium2.PdfiumError:
            text = ""  # a broken page among whole ones has no text
        pages.append(text.replace("\r\n", "\n").replace("\r", "\n"))
        num_chars += len(text)
        if num_chars > max_chars:
            return {"problem": "text"}
    return {"pages": pages}


if __name__ == "__main__":
    main()
