"""How much a model takes and gives: its output maximum, its window, and what cannot fit into it at all."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hokku.protocol.errors import InvalidRequest, PromptTooLong
from hokku.protocol.messages import (
    ContentBlocks,
    Conversation,
    DocumentPart,
    Part,
    PdfFile,
    PlainText,
    SearchResultPart,
    TextPart,
    ToolResultPart,
    ToolUsePart,
    Turn,
)
from hokku.registry.manifest import Manifest
from hokku.service.models import ServedModel

# No vocabulary has a longer token; text beyond this many characters for every token of the window cannot fit, and
# is not tokenised at all: 32 MB of it would take a minute and gigabytes.
MAX_TOKEN_CHARS = 128
SAMPLE_CHARS = 100_000
_USUAL_TOKEN_CHARS = 4  # of English prose


def check_output_limit(max_tokens: int, manifest: Manifest) -> None:
    """Refuse more output than the model's manifest allows."""
    limit = manifest.max_output_tokens
    if max_tokens > limit:
        raise InvalidRequest(
            f"{max_tokens} > {limit}, which is the maximum allowed number of output tokens for {manifest.id}",
            place="max_tokens",
        )


def check_window(num_prompt_tokens: int, model: ServedModel) -> None:
    """Refuse a prompt beyond the window. What `max_tokens` asks beyond it is legal: the reply ends at the
    window.
    """
    limit = model.context_window_tokens
    if num_prompt_tokens > limit:
        raise PromptTooLong(f"prompt is too long: {num_prompt_tokens} tokens > {limit} maximum")


def check_room(num_prompt_tokens: int, max_tokens: int, model: ServedModel) -> None:
    """Refuse a reply that could be longer than the window has room for, as the hosted service did for this
    generation of models (wire.md section 2.2).
    """
    limit = model.context_window_tokens
    if num_prompt_tokens + max_tokens > limit:
        raise PromptTooLong(
            f"input length and `max_tokens` exceed context limit: {num_prompt_tokens} + {max_tokens} > {limit}, "
            "decrease input length or `max_tokens` and try again"
        )


def is_far_beyond(conversation: Conversation, model: ServedModel) -> bool:
    """Whether the text is too long for the window however well it tokenises."""
    return num_chars(conversation) > model.context_window_tokens * MAX_TOKEN_CHARS


def beginning(conversation: Conversation, max_chars: int) -> Conversation:
    """The first `max_chars` characters of the text, as one turn."""
    pieces: list[str] = []
    for text in _texts(conversation):
        pieces.append(text[:max_chars])
        max_chars -= len(pieces[-1])
        if not max_chars:
            break
    return Conversation((), (Turn("user", (TextPart("".join(pieces)),)),))


def num_chars(conversation: Conversation) -> int:
    """Characters of text in a conversation, tools and schemas included."""
    return sum(map(len, _texts(conversation)))


def estimated_tokens(conversation: Conversation) -> int:
    """About how many tokens the text has for a model whose tokenizer is not here."""
    return -(-num_chars(conversation) // _USUAL_TOKEN_CHARS)


def _texts(conversation: Conversation) -> Iterator[str]:
    for words in conversation.system:
        yield words.text
    for tool in conversation.shown_tools:
        yield f"{tool.name} {tool.description} {json.dumps(tool.input_schema, ensure_ascii=False)}"
    if conversation.output_schema is not None:
        yield json.dumps(conversation.output_schema, ensure_ascii=False)
    for turn in conversation.turns:
        for part in turn.parts:
            yield from _texts_of_part(part)


def _texts_of_part(part: Part) -> Iterator[str]:
    match part:
        case TextPart(text=text):
            yield text
        case ToolUsePart():
            yield f"{part.name} {json.dumps(part.input, ensure_ascii=False)}"
        case ToolResultPart():
            for inner in part.parts:
                yield from _texts_of_part(inner)
        case DocumentPart(body=body):
            yield f"{part.title or ''} {part.context or ''}"
            yield from _texts_of_body(body)
        case SearchResultPart(parts=parts):
            yield f"{part.source} {part.title}"
            yield from (inner.text for inner in parts)


def _texts_of_body(body: PlainText | PdfFile | ContentBlocks) -> Iterator[str]:
    match body:
        case PlainText(text=text):
            yield text
        case PdfFile(pages=pages):
            yield from pages or ()
        case ContentBlocks(parts=parts):
            yield from (part.text for part in parts if isinstance(part, TextPart))
