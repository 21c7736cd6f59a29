"""A conversation as values: the native form in which every wire hands its request to the house.

A wire checks its own syntax and turns the body into a `MessagesRequest`; from there on nobody knows which wire it
was. Turns alternate after merging; a final assistant turn is a prefill that the reply continues.

`cache_secs` of a tool or part marks a cache breakpoint: the prompt up to and with it is kept for so long, from the
start of the request that last wrote or read it.

A file is named as the client named it; the service brings and reads it, so that the floors below see a document's text
only, and the original stays with it for whoever hands the request on. `place` is where the request names a thing, in
the wire's own terms, for errors that only reading it can bring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hokku.protocol.pictures import Picture

Role = Literal["user", "assistant"]
ChoiceKind = Literal["auto", "any", "tool", "none"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Prose in a turn or in the system prompt."""

    text: str
    cache_secs: int | None = None
    continues: bool = False  # the text before it, without a break: citations cut a reply into blocks


@dataclass(frozen=True, slots=True)
class InlineFile:
    """Bytes in the request itself."""

    media_type: str
    data: bytes
    place: str


@dataclass(frozen=True, slots=True)
class UrlFile:
    """A file that the server is to fetch."""

    url: str
    place: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was uploaded before."""

    id: str
    place: str


FileSource = InlineFile | UrlFile | StoredFile


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture. `picture` is what a model reads of it, None until the file has been read."""

    source: FileSource
    place: str
    may_shrink: bool = True  # whether one larger than the model takes is made smaller, or refused
    cache_secs: int | None = None
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class PlainText:
    """A document that is one text; cited by characters."""

    text: str


@dataclass(frozen=True, slots=True)
class PdfFile:
    """A document in pages; cited by page. `pages` is the text of each, None until the file has been read; `pictures`
    what each looks like, for models that see."""

    source: FileSource
    pages: tuple[str, ...] | None = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class ContentBlocks:
    """A document that the client has cut up; cited by its blocks, which are given whole."""

    parts: tuple[TextPart | ImagePart, ...]


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """A document. Title and context are shown to the model and never cited."""

    body: PlainText | PdfFile | ContentBlocks
    place: str
    title: str | None = None
    context: str | None = None
    is_cited: bool = False  # whether the reply names the passages it rests on
    cache_secs: int | None = None


@dataclass(frozen=True, slots=True)
class SearchResultPart:
    """Something that the client's own search has found; cited by its blocks, which are given whole."""

    source: str
    title: str
    parts: tuple[TextPart, ...]
    is_cited: bool = False
    cache_secs: int | None = None


Attachment = ImagePart | DocumentPart | SearchResultPart


def images_in(part: Attachment) -> tuple[ImagePart, ...]:
    """The images that a client attached as such, by themselves or among a document's blocks."""
    match part:
        case ImagePart():
            return (part,)
        case DocumentPart(body=ContentBlocks(parts=parts)):
            return tuple(inner for inner in parts if isinstance(inner, ImagePart))
    return ()


def pictures_of(part: Attachment) -> tuple[Picture, ...]:
    """What a model that sees is shown of an attachment that has been read, in order."""
    if isinstance(part, DocumentPart) and isinstance(part.body, PdfFile):
        return part.body.pictures
    return tuple(image.picture for image in images_in(part) if image.picture is not None)


@dataclass(frozen=True, slots=True)
class ToolUsePart:
    """A call of a tool that the assistant made."""

    id: str
    name: str
    input: Mapping[str, Any]
    cache_secs: int | None = None


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What a call gave, as the user's side reports it; parts of an empty result are ()."""

    tool_use_id: str
    parts: tuple[TextPart | Attachment, ...] = ()
    is_error: bool = False
    cache_secs: int | None = None


Part = TextPart | ToolUsePart | ToolResultPart | Attachment


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said. Consecutive turns of one role have been merged into one, parts in order."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function on the client's side that the model may ask to be called."""

    name: str
    description: str
    input_schema: Mapping[str, Any]  # JSON Schema of an object, draft 2020-12
    is_strict: bool = False  # whether every call must validate, not only a forced one
    cache_secs: int | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools a reply calls: whatever the model likes, at least one, one by name, or none."""

    kind: ChoiceKind = "auto"
    name: str | None = None  # of the tool, with kind "tool"
    is_parallel: bool = True  # whether there may be several calls in one reply

    @property
    def is_forced(self) -> bool:
        """Whether the reply is a call whatever the model would like."""
        return self.kind in ("any", "tool")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the model is shown, and what it may answer. The last turn is the user's, or the assistant's when it is a
    prefill; there is none with a forced call or an `output_schema`.

    One that `is_plain` is no conversation but a text, which the reply goes on with: the model's template is left out.
    It is a single turn of one `TextPart`, or of two, what stands before a gap and what stands behind it, and the reply
    fills the gap; nothing else is set.
    """

    system: tuple[TextPart, ...]
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    output_schema: Mapping[str, Any] | None = None  # the reply's text is JSON of this schema
    is_plain: bool = False

    @property
    def attachments(self) -> Iterator[Attachment]:
        """Images, documents and search results in order, those in results of tools included; what a document contains
        is not listed."""
        for turn in self.turns:
            for part in turn.parts:
                for inner in part.parts if isinstance(part, ToolResultPart) else (part,):
                    if isinstance(inner, Attachment):
                        yield inner

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Those that have been read, in order, wherever they stand."""
        return tuple(picture for part in self.attachments for picture in pictures_of(part))

    @property
    def documents(self) -> tuple[DocumentPart, ...]:
        """As citations count them."""
        return tuple(part for part in self.attachments if isinstance(part, DocumentPart))

    @property
    def search_results(self) -> tuple[SearchResultPart, ...]:
        """As citations count them."""
        return tuple(part for part in self.attachments if isinstance(part, SearchResultPart))

    @property
    def asks_for_citations(self) -> bool:
        """Whether the reply is to name the passages that it rests on."""
        return any(not isinstance(part, ImagePart) and part.is_cited for part in self.attachments)

    @property
    def shown_tools(self) -> tuple[Tool, ...]:
        """The tools that the model is told of: all, whichever it has to call, so that prompts stay alike; none where it
        may call none."""
        return () if self.tool_choice.kind == "none" else self.tools

    @property
    def callable_tools(self) -> tuple[Tool, ...]:
        """The tools that this reply may call."""
        match self.tool_choice.kind:
            case "none":
                return ()
            case "tool":
                return tuple(tool for tool in self.tools if tool.name == self.tool_choice.name)
            case _:
                return self.tools


def plain_text(text: str, suffix: str | None = None) -> Conversation:
    """A text to go on with; with a `suffix`, one to write between the two."""
    parts = (TextPart(text),) if suffix is None else (TextPart(text), TextPart(suffix))
    return Conversation((), (Turn("user", parts),), is_plain=True)


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How tokens are drawn, as clients may say it; the defaults are the API's own."""

    temperature: float = 1.0  # 0 takes the likeliest token
    top_p: float = 1.0  # 1 is off
    top_k: int = 0  # 0 is off


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """One request for a reply, checked and defaulted (wire.md section 2.1)."""

    model: str  # as the client wrote it: an id or an alias
    conversation: Conversation
    max_tokens: int  # 0 = prefill only
    stop_sequences: tuple[str, ...] = ()
    sampling: SamplingParameters | None = None  # None: the client left all of it to the model
    user_id: str | None = None
    id: str = ""  # as the wire names the request, for logs and the ledger
    window_overrun_allowed: bool = False  # the client opted in to stop_reason model_context_window_exceeded
    may_fall_back: bool = True  # whether another model may answer where this one cannot
    seed: int | None = None  # of the draws, any whole number; None leaves it to the server
