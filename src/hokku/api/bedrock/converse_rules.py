"""What hosted Converse refuses although this engine could serve it; for `compatibility = "hosted"` alone.

The sentences are those that users of the hosted layer report.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from hokku.protocol.errors import InvalidRequest

DOCUMENT_NAME_PATTERN = r"(?!.*\s\s)[\w\s\-()\[\]]+"


def refuse_as_hosted(body: dict[str, Any]) -> None:
    """Look at a body that `read_converse_body` has found good. Raises `InvalidRequest`."""
    messages = body["messages"]
    if messages and messages[0]["role"] != "user":
        _refuse(
            "A conversation must start with a user message. Try again with a conversation that starts with a user "
            "message."
        )
    for index, message in enumerate(messages):
        _check_message(message["content"], f"messages.{index}")
    blocks = [block for message in messages for block in message["content"]]
    if not body.get("toolConfig") and any(_has(block, "toolUse", "toolResult") for block in blocks):
        _refuse("The toolConfig field must be defined when using toolUse and toolResult content blocks.")


def _check_message(content: list[dict[str, Any]], path: str) -> None:
    if not content:
        _refuse(
            f"The content field in the Message object at {path} is empty. Add a ContentBlock object to the content "
            "field and try again."
        )
    for index, block in enumerate(content):
        _check_block(block, f"{path}.content.{index}")
    if any(_has(block, "document") for block in content) and not any(
        _has(block, "text") for block in content
    ):
        raise InvalidRequest("a document needs a text block beside it", place=f"{path}.content")


def _check_block(block: dict[str, Any], path: str) -> None:
    if _has(block, "text") and not block["text"].strip():
        _refuse(
            f"The text field in the ContentBlock object at {path} is blank. Add text to the text field, and try again."
        )
    if _has(block, "document") and not re.fullmatch(DOCUMENT_NAME_PATTERN, block["document"]["name"]):
        _refuse(
            "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, "
            "parentheses, and square brackets. The name can't contain more than one consecutive whitespace character."
        )
    if _has(block, "toolResult"):
        result = block["toolResult"]
        if result.get("status") == "error" and not result["content"]:
            _refuse(f"The content field at {path}.toolResult cannot be empty when status value is error.")


def _has(block: dict[str, Any], *names: str) -> bool:
    return any(block.get(name) is not None for name in names)


def _refuse(sentence: str) -> NoReturn:
    raise InvalidRequest(sentence)
