"""Stop 3 of 8 on a request's walk: conversation → token ids on the way down, token ids → text on the way up.

A request comes from `service/messages.py` (stop 2) as a `Conversation`; `Codec.encode` renders and tokenises
it, and the ids go on to `engine/engine.py` (stop 4). The engine's new ids come back up through a
`ReplyDecoder`, which gives text that is safe to send; the service wraps it in events.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hokku.chat.spec import TokenizerSpec
from hokku.chat.stops import StopMatcher
from hokku.chat.template import CHATML, CHATML_TOKENS, ChatTemplate, prefill_of
from hokku.chat.tokenizer import Tokenizer
from hokku.protocol.errors import BadModelFile
from hokku.protocol.messages import Conversation


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the engine takes it. `prefill`: it ends after the assistant turn's first words."""

    token_ids: list[int]
    prefill: bool


class Codec:
    """One model's way of reading conversations and writing replies. Safe to share between threads.

    Raises:
        BadModelFile: the tokenizer or template is broken, or there is neither a template nor ChatML tokens.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer = tokenizer
        self._template = template
        self.stop_token_ids = frozenset(tokenizer.spec.stop_ids)

    @classmethod
    def from_spec(cls, spec: TokenizerSpec) -> Codec:
        """Load a packed model's tokenizer and compile its template."""
        tokenizer = Tokenizer(spec)
        source = _chatml(tokenizer) if spec.chat_template is None else spec.chat_template
        bos, eos = tokenizer.control_text(spec.bos_id), tokenizer.control_text(spec.eos_id)
        return cls(tokenizer, ChatTemplate(source, tokenizer.typed_alphabet, bos=bos, eos=eos))

    def encode(self, conversation: Conversation) -> EncodedPrompt:
        """System prompt, turns and the opening of the reply as token ids.

        Raises:
            InvalidRequest: the model's template refuses such a conversation.
            BadModelFile: the template fails on it.
        """
        token_ids = self.tokenizer.encode_rendered(self._template.render(conversation))
        return EncodedPrompt(token_ids, prefill=bool(prefill_of(conversation)))

    def count(self, conversation: Conversation) -> int:
        """How many tokens `encode` gives."""
        return len(self.encode(conversation).token_ids)

    def decoder(self, stop_sequences: Sequence[str] = (), *, prefill: bool = False) -> ReplyDecoder:
        """A fresh decoder for one reply; `prefill` as the prompt has it."""
        return ReplyDecoder(self, stop_sequences, prefill=prefill)


class ReplyDecoder:
    """Turns one reply's token ids into text as they come.

    It never gives half a character, and U+FFFD only for bytes that can no longer become one. Text that may
    still become a stop sequence waits; all other text goes out at once. Each token is looked at once.

    Args:
        stop_sequences: the first to begin in the text ends it, the longest of those that begin there.
        prefill: the reply continues words of the prompt, so a leading space is its own.
    """

    def __init__(self, codec: Codec, stop_sequences: Sequence[str] = (), *, prefill: bool = False) -> None:
        self._token_bytes = codec.tokenizer.token_bytes
        self._half_character = b""
        self._stops = StopMatcher(stop_sequences)
        # SentencePiece writes a dummy space before a turn's first word, where templates write one as well.
        self._drops_space = codec.tokenizer.spec.space_prefix != "never" and not prefill

    @property
    def stop_sequence(self) -> str | None:
        """The stop sequence that ended the text, once one has. What is fed after it gives nothing."""
        return self._stops.stop_sequence

    def feed(self, token_ids: Iterable[int]) -> str:
        """Take the next tokens; return the text that can be sent now."""
        return self._through(b"".join(map(self._token_bytes, token_ids)), final=False)

    def finish(self) -> str:
        """No more tokens come: return what was held back."""
        return self._through(b"", final=True) + self._stops.finish()

    def _through(self, piece: bytes, *, final: bool) -> str:
        text, num_bytes = codecs.utf_8_decode(self._half_character + piece, "replace", final)
        self._half_character = (self._half_character + piece)[num_bytes:]
        if text and self._drops_space:
            self._drops_space = False
            text = text.removeprefix(" ")
        return self._stops.feed(text)


def _chatml(tokenizer: Tokenizer) -> str:
    if all(map(tokenizer.has_control_token, CHATML_TOKENS)):
        return CHATML
    raise BadModelFile(
        "the model has no chat template, and its vocabulary lacks the ChatML tokens",
        way_out="use an instruction-tuned checkpoint or name a template in its manifest",
    )
