"""Text ⇄ token ids. Plain text never gives a control token: those are found only in a template's own text."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate

from tokenizers import Tokenizer as _Library

from hokku.chat.run_cache import RunCache
from hokku.chat.spec import ControlToken, TokenizerSpec
from hokku.chat.typed import TILE_MARK, TypedAlphabet
from hokku.protocol.errors import BadModelFile

# The library would otherwise start a thread for every core, which are the engine's.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TILE_ID = -1  # where a tile's rows come
_STANDS_ALONE = "\x02"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer:
    """A loaded `TokenizerSpec`.

    Raises:
        BadModelFile: the vocabulary and its merges do not fit together.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        self._library = _load(spec.tokenizer_json)
        self._control_by_text = {token.text: token for token in spec.control_tokens if token.text.strip()}
        self._control_by_id = {token.id: token for token in spec.control_tokens}
        self._marked_by_text = {**self._control_by_text, TILE_MARK: ControlToken(TILE_MARK, TILE_ID)}
        self._control_pattern = _any_of(self._marked_by_text)
        self._added_ids = self._library.get_added_tokens_decoder().keys()
        self._bytes: dict[int, bytes] = {}
        self._runs: RunCache[_Run] = RunCache()
        self.typed_alphabet = TypedAlphabet(self._control_by_text)

    @property
    def control_ids(self) -> frozenset[int]:
        """Ids that only a template may write."""
        return frozenset(self._control_by_id)

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Ids that end a reply."""
        return frozenset(self.spec.stop_ids)

    @property
    def num_tokens(self) -> int:
        """Ids from 0 up to the highest that stands for something."""
        return max([self._library.get_vocab_size(), *(token_id + 1 for token_id in self._control_by_id)])

    def control_text(self, token_id: int | None) -> str:
        """How a template writes a control token; "" for None."""
        return "" if token_id is None else self._control_by_id[token_id].text

    def has_control_token(self, text: str) -> bool:
        """Whether the vocabulary has this control token."""
        return text in self._control_by_text

    def control_id(self, text: str) -> int | None:
        """The id of a control token; None if the vocabulary has none of this text."""
        token = self._control_by_text.get(text)
        return None if token is None else token.id

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, taken literally: "<|im_end|>" gives the tokens of its ten characters."""
        return list(self._encode_run(text, first=True))

    def encode_continuation(self, text: str) -> list[int]:
        """Token ids of plain text that goes on within a text: without SentencePiece's dummy space.

        Raises: `ValueError` where the library would change the text.
        """
        if self.spec.space_prefix == "never" or not text:
            return self.encode(text)
        # Behind a character that is in no other token, the text stands as in the middle of a line.
        token_ids = self.encode(_STANDS_ALONE + text)
        start = next(
            i for i, token in enumerate(token_ids, 1) if self.token_bytes(token) == _STANDS_ALONE.encode()
        )
        continued = token_ids[start:]
        if b"".join(map(self.token_bytes, continued)) != text.encode():
            raise ValueError(f"the tokenizer does not keep {text!r} as it is")
        return continued

    def encode_rendered(self, rendered: str) -> list[int]:
        """Token ids of a rendered template: control tokens where it wrote them, typed text taken literally, `TILE_ID`
        where `TILE_MARK` stands.

        Args:
            rendered: the template's own text with people's text in `typed_alphabet`.
        """
        return self.encode_to_places(rendered, ())[0]

    def encode_to_places(self, rendered: str, places: Sequence[int]) -> tuple[list[int], list[int]]:
        """Token ids as `encode_rendered` has them, and how many of them end at or before each of some places.

        Args:
            rendered: as for `encode_rendered`.
            places: in it, in characters.
        """
        token_ids: list[int] = []
        order = deque(sorted(range(len(places)), key=places.__getitem__))
        counts = [0] * len(places)
        for start, part in self._parts(rendered):
            num_before = len(token_ids)
            run: _Run | None = None
            if isinstance(part, ControlToken):
                token_ids.append(part.id)
                end = start + len(part.text)
            else:
                run = self._runs.made(part, not token_ids, self._encode_typed)
                token_ids += run.token_ids
                end = start + len(part)
            while order and places[order[0]] < end:
                index = order.popleft()
                counts[index] = num_before
                if places[index] > start and run is not None:
                    counts[index] += run.num_tokens_within(places[index] - start)
        for index in order:
            counts[index] = len(token_ids)
        bos = self.spec.bos_id
        if self.spec.add_bos and bos is not None and token_ids[:1] != [bos]:
            token_ids.insert(0, bos)
            counts = [count + 1 for count in counts]
        return token_ids, counts

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token, often half a character; empty for control tokens and ids without text."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._look_up_bytes(token_id)
        return known

    def bytes_with(self, control_text: str) -> Callable[[int], bytes]:
        """`token_bytes`, but a control token of this text, if there is one, has it for its bytes."""
        control_id, text = self.control_id(control_text), control_text.encode()
        if control_id is None:
            return self.token_bytes
        return lambda token_id: text if token_id == control_id else self.token_bytes(token_id)

    def decode(self, token_ids: list[int]) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")

    def _parts(self, rendered: str) -> Iterator[tuple[int, str | ControlToken]]:
        """Control tokens and the runs of text between them, each with its place."""
        start, strip_left = 0, False
        for match in self._control_pattern.finditer(rendered):
            token = self._marked_by_text[match.group()]
            yield _stripped(rendered, start, match.start(), strip_left, token.lstrip)
            yield match.start(), token
            start, strip_left = match.end(), token.rstrip
        yield _stripped(rendered, start, len(rendered), strip_left, False)

    def _encode_typed(self, part: str, first: bool) -> _Run:
        text = self.typed_alphabet.plain(part)
        return _Run(text, self._encode_run(text, first=first), self.token_bytes)

    def _encode_run(self, text: str, *, first: bool) -> list[int]:
        if not text:
            return []
        if first and self.spec.space_prefix == "first":
            text = " " + text
        # Of the library's ways to encode, the only one that lets go of the interpreter lock, which the engine needs
        # between its steps; it also leaves out the offsets, a quarter of the work.
        (encoding,) = self._library.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoding.ids
        return ids

    def _look_up_bytes(self, token_id: int) -> bytes:
        piece = self._library.id_to_token(token_id) if 0 <= token_id < 1 << 32 else None
        if piece is None or token_id in self._control_by_id:
            return b""
        if token_id in self._added_ids:
            return piece.encode("utf-8")
        if self.spec.encoding == "sentencepiece":
            lone_byte = _BYTE_PIECE.fullmatch(piece)
            return bytes([int(lone_byte[1], 16)]) if lone_byte else piece.replace("▁", " ").encode("utf-8")
        return b"".join(_BYTE_OF[c] if c in _BYTE_OF else c.encode("utf-8") for c in piece)


def _load(tokenizer_json: str) -> _Library:
    try:
        return _Library.from_str(tokenizer_json)
    except Exception as cause:  # the library raises bare `Exception` for everything it refuses
        raise BadModelFile(f"its vocabulary and merges do not fit together: {cause}") from cause


def _any_of(texts: dict[str, ControlToken]) -> re.Pattern[str]:
    """Matches any of `texts`, the longest first; nothing where there are none."""
    alternatives = [re.escape(text) for text in sorted(texts, key=len, reverse=True)]
    return re.compile("|".join(alternatives) or r"(?!)")


def _stripped(rendered: str, start: int, end: int, left: bool, right: bool) -> tuple[int, str]:
    """The text from `start` to `end` without white space on the sides named, and its place."""
    text = rendered[start:end]
    text = text.lstrip() if left else text
    start = end - len(text)
    return start, text.rstrip() if right else text


class _Run:
    """A run of text and its tokens, and where these end in it, once somebody asks."""

    def __init__(self, text: str, token_ids: Sequence[int], token_bytes: Callable[[int], bytes]) -> None:
        self.token_ids = array("i", token_ids)
        self._text = text
        self._token_bytes = token_bytes

    def num_tokens_within(self, num_chars: int) -> int:
        """How many tokens end at or before so many characters of the run."""
        ends, num_extra_bytes = self._ends
        return bisect_right(ends, len(self._text[:num_chars].encode()) + num_extra_bytes)

    @cached_property
    def _ends(self) -> tuple[array[int], int]:
        """Bytes up to and with each token, and how many of them are in front of the text's own: SentencePiece's dummy
        space. Empty where a normaliser has changed the text, so that no token's end is known."""
        pieces = [self._token_bytes(token_id) for token_id in self.token_ids]
        whole, text = b"".join(pieces), self._text.encode()
        if whole not in (text, b" " + text):
            return array("q"), 0
        return array("q", accumulate(map(len, pieces))), len(whole) - len(text)


def _byte_stand_ins() -> dict[str, bytes]:
    """GPT-2's stand-in → its byte: printable Latin-1 stands for itself, the others follow from U+0100."""
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in themselves]
    return {chr(byte): bytes([byte]) for byte in themselves} | {
        chr(0x100 + place): bytes([byte]) for place, byte in enumerate(others)
    }


_BYTE_OF = _byte_stand_ins()
