"""Stop 3 of 8 on a request's walk: conversation → token ids on the way down, token ids → text on the way up.

A request comes from `service/messages.py` (stop 2) as a `Conversation`; `Codec.encode` renders and tokenises
it, and the ids go on to `engine/engine.py` (stop 4). The engine's new ids come back up through a
`ReplyDecoder`, which gives text that is safe to send and tells calls of tools from prose; the service wraps both in
events. What a reply may be at all, `Codec.constraint` says to the engine.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from hokku.chat.attachments import written_out
from hokku.chat.borders import block_ends, lifetimes, with_marks
from hokku.chat.calls import CallParser
from hokku.chat.formats.base import ToolFormat
from hokku.chat.pictures import PLACE_HOLDERS, PicturesWriter, with_rows
from hokku.chat.plain_text import rendered_text
from hokku.chat.reply_grammar import ReplyGrammars
from hokku.chat.spec import TokenizerSpec
from hokku.chat.stops import StopMatcher
from hokku.chat.template import CHATML, CHATML_TOKENS, ChatTemplate, prefill_of
from hokku.chat.tokenizer import Tokenizer
from hokku.protocol.engine import CachePoint, PromptTile, TokenConstraint
from hokku.protocol.errors import BadModelFile, InvalidRequest
from hokku.protocol.events import CallStart, ReplyPiece
from hokku.protocol.messages import Conversation, TextPart
from hokku.protocol.pictures import Picture, Tile, Tiling

_OUTPUT_INTRODUCTION = """\
Answer with nothing but one JSON value that is valid under this JSON Schema:
{schema}"""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the engine takes it. `prefill`: it ends within the text that the reply goes on with. `tiles`: where
    pieces of pictures stand in it. `stop_token_ids`: what ends the reply.

    `blocks`: where each block of the conversation ends, and how long the prompt is to be kept up to there; empty where
    nothing is to be kept.
    """

    token_ids: list[int]
    prefill: bool
    stop_token_ids: frozenset[int]
    blocks: tuple[CachePoint, ...] = ()
    tiles: tuple[PromptTile, ...] = ()


class Codec:
    """One model's way of reading conversations and writing replies. Safe to share between threads.

    Args:
        num_tokens: of the model's output layer, which may have more than the vocabulary names.
        tiling: what the model wants of pictures; None where it reads text only.

    Raises:
        BadModelFile: the tokenizer or template is broken, or there is neither a template nor ChatML tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        num_tokens: int | None = None,
        tiling: Tiling | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.tiling = tiling
        self._template = template
        self.stop_token_ids = tokenizer.stop_token_ids
        num_tokens = tokenizer.num_tokens if num_tokens is None else num_tokens
        self._grammars = ReplyGrammars(tokenizer, template.tool_format.syntax, num_tokens)

    @property
    def tool_format(self) -> ToolFormat:
        """How the model calls tools."""
        return self._template.tool_format

    @classmethod
    def from_spec(
        cls, spec: TokenizerSpec, num_tokens: int | None = None, tiling: Tiling | None = None
    ) -> Codec:
        """Load a packed model's tokenizer and compile its template."""
        tokenizer = Tokenizer(spec)
        source = _chatml(tokenizer) if spec.chat_template is None else spec.chat_template
        bos, eos = tokenizer.control_text(spec.bos_id), tokenizer.control_text(spec.eos_id)
        place_holder = PLACE_HOLDERS[tiling.kind] if tiling else None
        alphabet = tokenizer.typed_alphabet
        template = ChatTemplate(source, alphabet, bos=bos, eos=eos, place_holder=place_holder)
        return cls(tokenizer, template, num_tokens, tiling)

    def encode(self, conversation: Conversation) -> EncodedPrompt:
        """System prompt, turns and the opening of the reply as token ids; or a plain text.

        Raises:
            InvalidRequest: the model's template refuses such a conversation, or the model knows no gaps in texts.
            BadModelFile: the template fails on it.
        """
        if conversation.is_plain:
            return self._plain(conversation)
        shown = _shown(conversation)
        rendered, tiles = self._rendered(shown, conversation.pictures)
        kept = lifetimes(shown)
        ends: list[int] = []
        if any(kept):
            ends = block_ends(shown, self._marked(with_marks(shown), conversation.pictures), rendered)
        token_ids, counts = self.tokenizer.encode_to_places(rendered, ends)
        placed: tuple[PromptTile, ...] = ()
        if tiles:
            token_ids, counts, placed = with_rows(token_ids, counts, tiles)
        blocks = tuple(map(CachePoint, counts, kept)) if ends else ()
        return EncodedPrompt(token_ids, bool(prefill_of(shown)), self.stop_token_ids, blocks, placed)

    def _plain(self, conversation: Conversation) -> EncodedPrompt:
        token_ids = self.tokenizer.encode_rendered(rendered_text(conversation, self.tokenizer))
        # Text has no control tokens, so whichever comes ends it: the end of a turn, or the beginning of a next file.
        return EncodedPrompt(token_ids, True, self.stop_token_ids | self.tokenizer.control_ids)

    def count(self, conversation: Conversation) -> int:
        """How many tokens `encode` gives."""
        if conversation.is_plain:
            return len(self._plain(conversation).token_ids)
        rendered, tiles = self._rendered(_shown(conversation), conversation.pictures)
        num_tokens = len(self.tokenizer.encode_rendered(rendered))
        return num_tokens + sum(tile.num_rows - 1 for tile in tiles)

    def _rendered(self, shown: Conversation, pictures: Sequence[Picture]) -> tuple[str, Sequence[Tile]]:
        """What the template makes of a conversation, with a mark for each tile of its pictures; and these."""
        if not pictures:
            return self._template.render(shown), ()
        return self._writer(pictures).written(self._template.render_with_pictures(shown))

    def _marked(self, marked: Conversation, pictures: Sequence[Picture]) -> str:
        rendered = self._template.render_marked(marked, has_pictures=bool(pictures))
        return self._writer(pictures).written(rendered)[0] if pictures else rendered

    def _writer(self, pictures: Sequence[Picture]) -> PicturesWriter:
        if self.tiling is None:
            raise InvalidRequest("this model reads text only")
        return PicturesWriter(self.tiling.kind, pictures)

    def constraint(self, conversation: Conversation, *, prefill: bool = False) -> TokenConstraint | None:
        """What the reply may be, one constraint a reply; None where it may be anything. May take a second for large
        schemas seen for the first time.

        Raises:
            InvalidRequest: a schema that cannot be compiled, with its place.
        """
        return self._grammars.constraint(conversation, is_continued=prefill)

    def decoder(
        self,
        stop_sequences: Sequence[str] = (),
        *,
        prefill: bool = False,
        tool_names: Collection[str] = (),
        is_forced: bool = False,
    ) -> ReplyDecoder:
        """A fresh decoder for one reply, which may call the tools of these names, or has to if `is_forced`; `prefill`
        as the prompt has it."""
        return ReplyDecoder(self, stop_sequences, prefill=prefill, tool_names=tool_names, is_forced=is_forced)


class ReplyDecoder:
    """Turns one reply's token ids into prose and calls as they come.

    It never gives half a character, and U+FFFD only for bytes that can no longer become one. Text that may
    still become a stop sequence or the beginning of a call waits; all other text goes out at once. Each token is
    looked at once.

    Args:
        stop_sequences: the first to begin in the prose ends it, the longest of those that begin there. Calls are not
            looked at.
        prefill: the reply continues words of the prompt, so a leading space is its own.
        tool_names: what may be called; without any, all text is prose.
        is_forced: the reply is calls and nothing else.
    """

    def __init__(
        self,
        codec: Codec,
        stop_sequences: Sequence[str] = (),
        *,
        prefill: bool = False,
        tool_names: Collection[str] = (),
        is_forced: bool = False,
    ) -> None:
        self._token_bytes: Callable[[int], bytes] = codec.tokenizer.token_bytes
        self._half_character = b""
        self._stops = StopMatcher(stop_sequences)
        # SentencePiece writes a dummy space before a turn's first word, where templates write one as well.
        self._drops_space = codec.tokenizer.spec.space_prefix != "never" and not prefill
        self._calls: CallParser | None = None
        if tool_names:
            syntax = codec.tool_format.syntax
            self._token_bytes = codec.tokenizer.bytes_with(syntax.opening)
            # White space is held back only where no stop sequence can be waiting for it.
            opens = not (prefill and syntax.opens_reply_only)
            self._calls = CallParser(
                syntax, tool_names, trims=not stop_sequences, opens=opens, is_forced=is_forced
            )

    @property
    def stop_sequence(self) -> str | None:
        """The stop sequence that ended the reply, once one has. What is fed after it gives nothing."""
        return self._stops.stop_sequence

    def feed(self, token_ids: Iterable[int]) -> list[ReplyPiece]:
        """Take the next tokens; return what can be sent now."""
        return self._through(b"".join(map(self._token_bytes, token_ids)), final=False)

    def finish(self) -> list[ReplyPiece]:
        """No more tokens come: return what was held back."""
        pieces = self._through(b"", final=True)
        if self._calls is not None:
            pieces += self._stopped(self._calls.finish())
        rest = self._stops.finish()
        return [*pieces, rest] if rest else pieces

    def _through(self, piece: bytes, *, final: bool) -> list[ReplyPiece]:
        text, num_bytes = codecs.utf_8_decode(self._half_character + piece, "replace", final)
        self._half_character = (self._half_character + piece)[num_bytes:]
        if text and self._drops_space:
            self._drops_space = False
            text = text.removeprefix(" ")
        if self._calls is not None:
            return self._stopped(self._calls.feed(text))
        text = self._stops.feed(text)
        return [text] if text else []

    def _stopped(self, pieces: Iterable[ReplyPiece]) -> list[ReplyPiece]:
        """The pieces up to a stop sequence."""
        passed: list[ReplyPiece] = []
        for piece in pieces:
            # A call follows: what waited for more of a stop sequence is prose, or a shorter one that has come.
            if isinstance(piece, CallStart) and (rest := self._stops.finish()):
                passed.append(rest)
            if self._stops.stop_sequence is not None:
                break
            if not isinstance(piece, str):
                passed.append(piece)
            elif text := self._stops.feed(piece):
                passed.append(text)
        return passed


def _shown(conversation: Conversation) -> Conversation:
    """What the template is given: attachments written out, the schema of the answer in the system prompt."""
    conversation = written_out(conversation)
    if conversation.output_schema is None:
        return conversation
    schema = json.dumps(conversation.output_schema, ensure_ascii=False)
    introduction = TextPart(_OUTPUT_INTRODUCTION.format(schema=schema))
    return replace(conversation, system=(*conversation.system, introduction))


def _chatml(tokenizer: Tokenizer) -> str:
    if all(map(tokenizer.has_control_token, CHATML_TOKENS)):
        return CHATML
    raise BadModelFile(
        "the model has no chat template, and its vocabulary lacks the ChatML tokens",
        way_out="use an instruction-tuned checkpoint or name a template in its manifest",
    )
