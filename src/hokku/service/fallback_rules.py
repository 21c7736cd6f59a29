"""Which requests an operator's rules give to another model."""

from __future__ import annotations

from hokku.protocol.messages import (
    Attachment,
    ContentBlocks,
    Conversation,
    DocumentPart,
    ImagePart,
    MessagesRequest,
    SearchResultPart,
    TextPart,
)
from hokku.registry.fallback import Rule


def matches(rule: Rule, request: MessagesRequest, num_prompt_tokens: int | None = None) -> bool:
    """Whether every member of a rule fits a request. A member about the prompt's tokens fits none before they are
    counted."""
    conversation = request.conversation
    if rule.prompt_tokens_over is not None and (
        num_prompt_tokens is None or num_prompt_tokens <= rule.prompt_tokens_over
    ):
        return False
    if rule.max_tokens_over is not None and request.max_tokens <= rule.max_tokens_over:
        return False
    facts = (
        (rule.has_tools, bool(conversation.tools)),
        (rule.has_forced_call, conversation.tool_choice.is_forced),
        (rule.has_images, _has_images(conversation)),
        (rule.has_documents, _has_documents(conversation)),
        (rule.is_structured, conversation.output_schema is not None),
    )
    return all(asked is None or asked == found for asked, found in facts)


def _has_images(conversation: Conversation) -> bool:
    return any(
        isinstance(inner, ImagePart)
        for part in conversation.attachments
        for inner in (part, *_inner_parts(part))
    )


def _inner_parts(part: Attachment) -> tuple[TextPart | ImagePart, ...]:
    return part.body.parts if isinstance(part, DocumentPart) and isinstance(part.body, ContentBlocks) else ()


def _has_documents(conversation: Conversation) -> bool:
    return any(isinstance(part, DocumentPart | SearchResultPart) for part in conversation.attachments)
