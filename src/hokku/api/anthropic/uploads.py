"""Takes an upload in: the form is read and the file written while its bytes come, in flat memory."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import NoReturn

from starlette.requests import Request

from hokku.api.anthropic.fields import refuse
from hokku.api.multipart import FormReader, PartEnd, PartStart
from hokku.protocol.errors import InvalidRequest, RequestTooLarge
from hokku.protocol.records import UploadedFile
from hokku.service.files import Files, Upload, clean_filename, clean_media_type
from hokku.service.keys import Identity

_STEP_BYTES = 1 << 20  # read and written at a time: enough that reaching a thread does not count
_AROUND_BYTES = 64 << 10  # of a body besides its file
_MOST_FIELD_BYTES = 64
_EXPIRY_SECS = (3_600, 7_776_000)  # an hour, ninety days


async def receive_upload(request: Request, files: Files, identity: Identity) -> UploadedFile:
    """The file of a form, kept. Whatever goes wrong, and also if the client leaves, nothing of it stays.

    Raises `InvalidRequest`, `RequestTooLarge`, `StorageFull`, `StorageUnavailable`.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise InvalidRequest(
            "a form comes without content-encoding", error_code="request_body_encoding_unsupported"
        )
    incoming = IncomingFile(FormReader(request.headers.get("content-type", "")), files, identity)
    try:
        await _receive(request, incoming, files)
        return await files.run(incoming.finish)
    except Exception:
        await files.run(incoming.discard)
        raise
    except BaseException:  # cancelled: nobody may wait any more
        files.run_later(incoming.discard)
        raise


async def _receive(request: Request, incoming: IncomingFile, files: Files) -> None:
    """Hand on the body. What is refused is read to its end, up to twice the limit: a client that is still busy sending
    would see a broken connection instead of the answer."""
    max_bytes = files.config.max_file_bytes + _AROUND_BYTES
    failure: Exception | None = None
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        failure = RequestTooLarge("Request exceeds the maximum allowed number of bytes.")
    chunks: list[bytes] = []
    num_waiting = num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if failure is None:
            chunks.append(chunk)
            num_waiting += len(chunk)
        if num_waiting >= _STEP_BYTES:
            failure = await _fed(incoming, files, chunks)
            num_waiting = 0
        if num_bytes > 2 * max_bytes:
            break
    failure = failure or await _fed(incoming, files, chunks)
    if failure is not None:
        raise failure


async def _fed(incoming: IncomingFile, files: Files, chunks: list[bytes]) -> Exception | None:
    """Hand on the chunks and forget them; what went wrong."""
    data = b"".join(chunks)
    chunks.clear()
    try:
        await files.run(lambda: incoming.feed(data))
    except Exception as failure:
        await files.run(incoming.discard)
        return failure
    return None


class IncomingFile:
    """One upload's form on its way into a file. Every verb blocks; they take turns, whichever threads call them."""

    def __init__(self, form: FormReader, files: Files, identity: Identity) -> None:
        self._form = form
        self._files = files
        self._identity = identity
        self._turn = threading.Lock()
        self._names: set[str] = set()  # of the parts so far
        self._part: PartStart | None = None
        self._expires_in = bytearray()
        self._upload: Upload | None = None
        self._filename = self._media_type = ""
        self._is_over = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises what is wrong with them, and what `Upload.write` raises."""
        with self._turn:
            if self._is_over:
                return
            for event in self._form.feed(data):
                match event:
                    case PartStart():
                        self._begin(event)
                    case PartEnd():
                        self._part = None
                    case _:
                        self._content(event)

    def finish(self) -> UploadedFile:
        """The body is complete. Raises what is missing, and what `Upload.keep` raises."""
        with self._turn:
            self._form.finish()
            if self._upload is None:
                refuse("file", "Field required")
            expires_in = _expiry(bytes(self._expires_in)) if "expires_in_seconds" in self._names else None
            return self._upload.keep(self._filename, self._media_type, expires_in)

    def discard(self) -> None:
        """Forget it, unless it was kept. Never raises."""
        with self._turn:
            self._is_over = True
            if self._upload is not None:
                self._upload.discard()

    def _begin(self, part: PartStart) -> None:
        if part.name not in ("file", "expires_in_seconds"):
            refuse(part.name, "Extra inputs are not permitted")
        if part.name in self._names:
            refuse(part.name, "is there more than once")
        self._names.add(part.name)
        self._part = part
        if part.name == "file":
            given = part.filename or ""
            self._media_type = clean_media_type(part.media_type, given)
            self._filename = clean_filename(given, self._media_type)
            self._upload = self._files.upload(self._identity)

    def _content(self, piece: bytes) -> None:
        if self._part is not None and self._part.name == "file" and self._upload is not None:
            self._upload.write(piece)
            return
        self._expires_in += piece
        if len(self._expires_in) > _MOST_FIELD_BYTES:
            _refuse_expiry()


def _expiry(text: bytes) -> timedelta:
    if not text.isdigit():
        _refuse_expiry()
    secs, (least, most) = int(text), _EXPIRY_SECS
    if secs < least:
        refuse("expires_in_seconds", f"Input should be greater than or equal to {least}")
    if secs > most:
        refuse("expires_in_seconds", f"Input should be less than or equal to {most}")
    return timedelta(seconds=secs)


def _refuse_expiry() -> NoReturn:
    refuse("expires_in_seconds", "Input should be a valid integer, unable to parse string as an integer")
