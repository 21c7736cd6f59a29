"""A text that the model goes on with, without a template; or a gap in one, which it fills (fill-in-the-middle).

Models that fill gaps were trained on texts cut in three, with control tokens between the pieces: what stands before the
gap, what stands behind it, and then what belongs in it (Bavarian et al. 2022, "Efficient Training of Language Models to
Fill in the Middle").
"""

from __future__ import annotations

from dataclasses import dataclass

from hokku.chat.tokenizer import Tokenizer
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import Conversation, TextPart


@dataclass(frozen=True, slots=True)
class GapMarks:
    """The control tokens of one family of models: each stands in front of its piece of the text."""

    before: str
    behind: str
    gap: str

    @property
    def all(self) -> tuple[str, str, str]:
        """As a vocabulary has to have them."""
        return self.before, self.behind, self.gap


GAP_MARKS = (
    GapMarks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma, Granite 4
    GapMarks("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # Granite Code, StarCoder
    GapMarks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
)


def rendered_text(conversation: Conversation, tokenizer: Tokenizer) -> str:
    """What `Tokenizer.encode_rendered` takes of a conversation that `is_plain`: the text literally, with the marks of a
    gap if it has one.

    Raises:
        InvalidRequest: there is a gap, and the model knows none.
    """
    (turn,) = conversation.turns
    pieces = [tokenizer.typed_alphabet.typed(part.text) for part in turn.parts if isinstance(part, TextPart)]
    if len(pieces) == 1:
        return pieces[0]
    marks = _gap_marks(tokenizer)
    before, behind = pieces
    return f"{marks.before}{before}{marks.behind}{behind}{marks.gap}"


def _gap_marks(tokenizer: Tokenizer) -> GapMarks:
    for marks in GAP_MARKS:
        if all(map(tokenizer.has_control_token, marks.all)):
            return marks
    raise InvalidRequest(
        "this model does not fill gaps: its vocabulary has no fill-in-the-middle tokens",
        place="suffix",
        way_out="leave it out, or ask a model that was trained for it, such as Qwen2.5-Coder",
    )
