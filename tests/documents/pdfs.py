"""PDFs made here, byte by byte: pages of plain text, ones that are locked or broken, and ones that mean harm."""

from __future__ import annotations

import zlib
from collections.abc import Sequence


def pdf(pages: Sequence[str], *, is_locked: bool = False) -> bytes:
    """A file with one page for each text; lines are drawn one below the other. Text is Latin-1 without parentheses.

    `is_locked`: says that it is encrypted under a password (what follows is not, which nobody finds out).
    """
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        font,
    ]
    for number, text in enumerate(pages):
        drawn = _drawn(text)
        page = f"/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R"
        objects.append(f"<< {page} /Resources << /Font << /F1 3 0 R >> >> >>".encode())
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
    if is_locked:
        secret = b"<" + b"5a" * 32 + b">"
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /O %s /U %s /P -4 >>" % (secret, secret))
    return _file(objects, is_locked=is_locked)


def bomb(num_megabytes: int) -> bytes:
    """A small file whose one page is that much drawing."""
    line = b"(and on and on) Tj T* " * 1000
    packer = zlib.compressobj(9)
    packed = (
        b"".join(packer.compress(line) for _ in range((num_megabytes << 20) // len(line))) + packer.flush()
    )
    stream = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed)
    return _file([*_TREE_OF_ONE, stream], is_locked=False)


def claims(num_pages: int) -> bytes:
    """A file that says it has so many pages, and has one."""
    tree = b"<< /Type /Pages /Count %d /Kids [4 0 R] >>" % num_pages
    catalog, _, font, page = _TREE_OF_ONE
    return _file([catalog, tree, font, page, _EMPTY_STREAM], is_locked=False)


def nested_tree(depth: int) -> bytes:
    """A page at the end of a tree that never branches."""
    catalog = b"<< /Type /Catalog /Pages 2 0 R >>"
    levels = [
        b"<< /Type /Pages /Count 1 /Kids [%d 0 R] /Parent %d 0 R >>" % (number + 1, number - 1)
        for number in range(2, 2 + depth)
    ]
    page = b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 612 792] >>" % (1 + depth)
    return _file([catalog, *levels, page], is_locked=False)


def nested_arrays(depth: int) -> bytes:
    """A page with an array in an array in an array."""
    catalog, tree, font, page = _TREE_OF_ONE
    deep = page.replace(b"/Type /Page ", b"/Type /Page /Deep " + b"[" * depth + b"]" * depth + b" ")
    return _file([catalog, tree, font, deep, _EMPTY_STREAM], is_locked=False)


def circular_tree() -> bytes:
    """A tree of pages that is its own child."""
    catalog = b"<< /Type /Catalog /Pages 2 0 R >>"
    return _file([catalog, b"<< /Type /Pages /Count 9 /Kids [2 0 R 2 0 R 2 0 R] >>"], is_locked=False)


_EMPTY_STREAM = b"<< /Length 0 >>\nstream\n\nendstream"
_TREE_OF_ONE = (
    b"<< /Type /Catalog /Pages 2 0 R >>",
    b"<< /Type /Pages /Count 1 /Kids [4 0 R] >>",
    b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R /Resources << /Font << /F1 3 0 R >> >> >>",
)


def _drawn(text: str) -> bytes:
    lines = b" ".join(b"(%s) Tj T*" % line.encode("cp1252") for line in text.split("\n"))
    return b"BT /F1 12 Tf 14 TL 72 720 Td %s ET" % lines


def _file(objects: Sequence[bytes], *, is_locked: bool) -> bytes:
    data = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    lock = b"/Encrypt %d 0 R /ID [<00> <00>] " % len(objects) if is_locked else b""
    data += b"trailer << /Size %d /Root 1 0 R %s>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        lock,
        start,
    )
    return bytes(data)
