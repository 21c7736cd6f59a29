"""Reads what a conversation has attached, before it is shown to a model: brings files, takes their text out.

What comes back has the text of every PDF in it, and for a model that sees the tiles of every image and page. For one
that does not, images are decoded all the same: that it cannot see them is said last, so that limits and broken files
are answered alike on every model.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hokku.documents.config import (
    IMAGE_TYPES,
    PDF_TYPE,
    TEXT_TYPE,
    Allowance,
    FetchConfig,
    PdfConfig,
    WorkersConfig,
)
from hokku.documents.images import ImageReader, ReadImage
from hokku.documents.pdf import COULD_NOT_PROCESS, TOO_MANY_PAGES, PdfReader, ReadPdf
from hokku.documents.workers import Workers
from hokku.protocol.errors import InvalidRequest, Overloaded
from hokku.protocol.messages import (
    Attachment,
    ContentBlocks,
    Conversation,
    DocumentPart,
    FileSource,
    ImagePart,
    InlineFile,
    Part,
    PdfFile,
    PlainText,
    SearchResultPart,
    StoredFile,
    ToolResultPart,
    UrlFile,
    images_in,
    pictures_of,
)
from hokku.protocol.pictures import Picture, Tiling
from hokku.registry.manifest import Manifest
from hokku.service.files import FileContent, FileStore, NoFiles, no_such_file
from hokku.service.keys import Identity
from hokku.service.recent import Recent

if TYPE_CHECKING:
    from hokku.documents.fetch import UrlFetcher

MAX_IMAGE_BYTES = 10_485_760
_READ_IMAGE_BYTES = 1 << 10  # of what is kept of an image, its pixels apart
_MAX_INLINE_BYTES = 64 << 10  # hashed in less than 0.1 ms; more goes to a thread


@dataclass(frozen=True, slots=True)
class AttachmentsConfig:
    """Limits of one request, and what is kept between requests."""

    fetch: FetchConfig = field(default_factory=FetchConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    pdf: PdfConfig = field(default_factory=PdfConfig)
    max_media: int = 100  # pages of PDFs and images together
    max_large_images: int = 20  # with more, each may be smaller only
    max_fetched_bytes: int = 32 << 20  # as much as a body may have
    fetching_secs: float = 30.0
    max_at_once: int = 4  # files fetched and read at the same time
    total_secs: float = 60.0
    max_kept_bytes: int = 32 << 20  # of pages, for conversations that send the same file every turn
    max_kept_image_bytes: int = 32 << 20  # likewise of images, in what a model is shown of them
    max_pixel_bytes: int = 256 << 20  # of all that a model is shown in one request


class Attachments:
    """Reads attachments. One for a server; safe for many requests at once.

    Args:
        files: where uploaded files are.
    """

    def __init__(self, config: AttachmentsConfig | None = None, files: FileStore | None = None) -> None:
        self._config = config or AttachmentsConfig()
        self._files = files or NoFiles()
        self._workers = Workers(self._config.workers)
        self._pdfs = PdfReader(self._workers, self._config.pdf)
        self._images = ImageReader(self._workers)
        self._kept_pdfs: Recent[ReadPdf] = Recent(self._config.max_kept_bytes)
        self._kept_images: Recent[ReadImage] = Recent(self._config.max_kept_image_bytes)
        self._fetcher: UrlFetcher | None = None

    async def close(self) -> None:
        """Let go of processes that wait for files."""
        await self._workers.close()

    async def read(
        self,
        conversation: Conversation,
        manifest: Manifest,
        identity: Identity,
        tiling: Tiling | None = None,
    ) -> Conversation:
        """The same conversation with the text and the pictures of its files in place.

        Args:
            conversation: as the client sent it.
            manifest: the model's.
            identity: on whose behalf.
            tiling: what the model wants of pictures; None where it does not see.

        Raises:
            InvalidRequest: a file that cannot be brought or read, one over a limit, or an image for a model that does
                not see.
            NotFound: no such uploaded file.
            Overloaded: reading takes too long, which it does when others' files come first.
        """
        attached = list(conversation.attachments)
        images = [image for part in attached for image in images_in(part)]
        num_images = len(images)
        if not images and not any(map(_is_file, attached)):
            return conversation
        self._refuse_too_much(attached, num_images)
        is_many = num_images > self._config.max_large_images
        page_tiling = tiling if manifest.sees_pages else None
        request = _Request(self._config, identity.workspace_id, is_many, tiling, page_tiling)
        try:
            async with asyncio.timeout(self._config.total_secs):
                read = await self._read_all(attached, request)
        except TimeoutError as cause:
            raise Overloaded("Reading the attached files takes too long") from cause
        if request.num_pages + num_images > self._config.max_media:
            raise self._too_much_media(request.num_pages, num_images)
        if images and tiling is None:
            # Agent CLIs look for the place, and go on without the image that stands there.
            raise InvalidRequest(f"'{manifest.id}' does not support image input.", place=images[0].place)
        return _with_attachments(conversation, iter(read))

    def _refuse_too_much(self, attached: Sequence[Attachment], num_images: int) -> None:
        """What is too much whatever the files hold: a PDF has a page at least."""
        pdfs = [source for part in attached if (source := _pdf_source(part)) is not None]
        max_pages = self._config.pdf.max_pages
        if len(pdfs) > max_pages:
            raise InvalidRequest(TOO_MANY_PAGES.format(max_pages), place=pdfs[max_pages].place)
        if len(pdfs) + num_images > self._config.max_media:
            raise self._too_much_media(len(pdfs), num_images)

    def _too_much_media(self, num_pages: int, num_images: int) -> InvalidRequest:
        return InvalidRequest(
            f"Too much media: {num_pages} document pages + {num_images} images > {self._config.max_media}"
        )

    async def _read_all(self, attached: Sequence[Attachment], request: _Request) -> list[Attachment]:
        """Each attachment read. The first in order that fails is the one reported."""
        tasks = {
            place: asyncio.create_task(self._read_one(part, request))
            for place, part in enumerate(attached)
            if _is_file(part) or images_in(part)
        }
        read: list[Attachment] = []
        try:
            for place, part in enumerate(attached):
                read.append(await tasks[place] if place in tasks else part)
                self._count(read[-1], request)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return read

    def _count(self, part: Attachment, request: _Request) -> None:
        """Add up what has been read so far; refuse the one that is too much."""
        request.num_pixel_bytes += sum(map(_num_pixel_bytes, pictures_of(part)))
        if request.num_pixel_bytes > self._config.max_pixel_bytes:
            raise InvalidRequest("The images and pages of this request are more than the model can look at")
        if not (isinstance(part, DocumentPart) and isinstance(part.body, PdfFile)):
            return
        pages, place = part.body.pages or (), part.body.source.place
        request.num_pages += len(pages)
        request.num_chars += sum(map(len, pages))
        limits = self._config.pdf
        if request.num_pages > limits.max_pages:
            raise InvalidRequest(TOO_MANY_PAGES.format(limits.max_pages), place=place)
        if request.num_chars > limits.max_chars:
            raise InvalidRequest(COULD_NOT_PROCESS, place=place)

    async def _read_one(self, part: Attachment, request: _Request) -> Attachment:
        async with request.places:
            match part:
                case DocumentPart(body=PdfFile(source=source, pages=None)):
                    return replace(part, body=await self._document(source, request))
                case ImagePart():
                    return await self._seen(part, request)
                case DocumentPart(body=ContentBlocks(parts=parts) as body):
                    seen = [
                        await self._seen(inner, request) if isinstance(inner, ImagePart) else inner
                        for inner in parts
                    ]
                    return replace(part, body=replace(body, parts=tuple(seen)))
                case _:
                    return part

    async def _document(self, source: FileSource, request: _Request) -> PdfFile | PlainText:
        file = await self._bring(source, (PDF_TYPE, TEXT_TYPE), request)
        if file.media_type == TEXT_TYPE:
            return PlainText(_text_of(file, source.place))
        read = await self._pdf(file.data, source.place, request)
        if request.page_tiling is None and not any(page.strip() for page in read.pages):
            raise InvalidRequest(
                "The PDF has no text: its pages are pictures, which this model cannot see", place=source.place
            )
        return PdfFile(source, read.pages, read.pictures)

    async def _seen(self, image: ImagePart, request: _Request) -> ImagePart:
        """The image, found good, with what the model is shown of it."""
        source = image.source
        file = await self._bring(source, IMAGE_TYPES, request)
        read = await self._image(file.data, source.place, request)
        if not isinstance(source, UrlFile) and read.media_type != file.media_type:
            raise InvalidRequest(
                f"Image does not match the provided media type {file.media_type}", place=source.place
            )
        if not image.may_shrink and read.size.shrunk != read.size:
            raise InvalidRequest(
                f"the image has {read.size.width} x {read.size.height} pixels, more than the model takes, and "
                "`transformations.oversized_image` is 'error'",
                place=source.place,
            )
        return replace(image, picture=read.picture)

    async def _bring(self, source: FileSource, media_types: Sequence[str], request: _Request) -> FileContent:
        """The file. A URL's is what the block takes: servers' words are not relied on, its bytes are looked at."""
        match source:
            case InlineFile(media_type, data):
                return FileContent(data, media_type)
            case UrlFile(url, place):
                fetched = await self._fetch(url, place, request)
                return FileContent(fetched, media_types[0])
            case StoredFile(file_id, place):
                return await self._stored(file_id, place, media_types, request)

    async def _stored(
        self, file_id: str, place: str, media_types: Sequence[str], request: _Request
    ) -> FileContent:
        """An uploaded file. Of those of one request no more comes into memory than a body could have brought."""
        file = await self._files.find(file_id, request.workspace_id)
        if file is None:
            raise no_such_file(file_id)
        if file.media_type not in media_types:
            raise InvalidRequest(
                f"File `{file_id}` is of the type {file.media_type}; this block takes "
                + ", ".join(media_types),
                place=place,
            )
        if file.num_bytes > request.allowance.num_bytes:
            raise InvalidRequest(
                f"File `{file_id}` has {file.num_bytes} bytes; the files of a request may have "
                f"{self._config.max_fetched_bytes} together",
                place=place,
            )
        request.allowance.num_bytes -= file.num_bytes
        data = await self._files.content(file)
        if data is None:
            raise no_such_file(file_id)
        return FileContent(data, file.media_type)

    async def _fetch(self, url: str, place: str, request: _Request) -> bytes:
        if self._fetcher is None:
            # Only now: the HTTP client takes longer to load than the rest of this request.
            from hokku.documents.fetch import UrlFetcher

            self._fetcher = UrlFetcher(self._config.fetch)
        return (await self._fetcher.fetch(url, place, request.allowance)).data

    async def _pdf(self, data: bytes, place: str, request: _Request) -> ReadPdf:
        key = await request.key(data)
        async with request.reading:
            read = self._kept_pdfs.get(key)
            if read is None:
                read = await self._pdfs.read(data, place, request.page_tiling)
                num_bytes = sum(map(sys.getsizeof, read.pages)) + sum(map(_num_pixel_bytes, read.pictures))
                self._kept_pdfs.put(key, read, num_bytes)
        return read

    async def _image(self, data: bytes, place: str, request: _Request) -> ReadImage:
        if len(data) > MAX_IMAGE_BYTES:
            raise InvalidRequest(
                f"image exceeds 10 MB maximum: {len(data)} bytes > {MAX_IMAGE_BYTES} bytes", place=place
            )
        key = (await request.key(data), request.is_many)
        async with request.reading:
            read = self._kept_images.get(key)
            if read is None:
                read = await self._images.read(data, place, request.tiling, is_one_of_many=request.is_many)
                num_bytes = _READ_IMAGE_BYTES + (_num_pixel_bytes(read.picture) if read.picture else 0)
                self._kept_images.put(key, read, num_bytes)
        return read


class _Request:
    """What the attachments of one request share."""

    def __init__(
        self,
        config: AttachmentsConfig,
        workspace_id: str,
        is_many: bool,
        tiling: Tiling | None,
        page_tiling: Tiling | None,
    ) -> None:
        self.workspace_id = workspace_id
        self.is_many = is_many  # whether there are so many images that each may be smaller only
        self.tiling = tiling  # what the model wants of pictures; None where it does not see
        self.page_tiling = page_tiling  # and of the pages of PDFs, which it may read by their text alone
        self.num_pages = 0
        self.num_chars = 0  # on them
        self.num_pixel_bytes = 0
        self.places = asyncio.Semaphore(config.max_at_once)
        # One file at a time is read, so that a request with many of them queues for the workers like one with few.
        self.reading = asyncio.Lock()
        until = asyncio.get_running_loop().time() + config.fetching_secs
        self.allowance = Allowance(config.max_fetched_bytes, until)

    async def key(self, data: bytes) -> Hashable:
        """What stands for what this model reads in these bytes; one workspace never sees another's."""
        digest = _digest(data) if len(data) <= _MAX_INLINE_BYTES else await asyncio.to_thread(_digest, data)
        return self.workspace_id, digest, self.tiling, self.page_tiling


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def _text_of(file: FileContent, place: str) -> str:
    try:
        return file.data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise InvalidRequest("the file is not text in UTF-8", place=place) from cause


def _is_file(part: Attachment) -> bool:
    """Whether its text is still in a file."""
    return isinstance(part, DocumentPart) and isinstance(part.body, PdfFile) and part.body.pages is None


def _pdf_source(part: Attachment) -> InlineFile | UrlFile | None:
    """Of what is a PDF for certain: an uploaded file may be a text."""
    match part:
        case DocumentPart(body=PdfFile(source=InlineFile() | UrlFile() as source)):
            return source
    return None


def _num_pixel_bytes(picture: Picture) -> int:
    return sum(tile.pixels.nbytes for tile in picture.tiles)


def _with_attachments(conversation: Conversation, read: Iterator[Attachment]) -> Conversation:
    """The conversation with these in the places of its own."""

    def renewed(part: Part) -> Part:
        match part:
            case ToolResultPart(parts=parts):
                inner = (next(read) if isinstance(each, Attachment) else each for each in parts)
                return replace(part, parts=tuple(inner))
            case ImagePart() | DocumentPart() | SearchResultPart():
                return next(read)
        return part

    turns = (replace(turn, parts=tuple(map(renewed, turn.parts))) for turn in conversation.turns)
    return replace(conversation, turns=tuple(turns))
