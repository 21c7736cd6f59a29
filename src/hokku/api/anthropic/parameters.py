"""Fields that several bodies of this wire have in common: whom to ask, how to draw, where to stop."""

from __future__ import annotations

from typing import Any

from hokku.api.anthropic.dialect import Dialect
from hokku.api.anthropic.fields import (
    a_number,
    a_string,
    an_array,
    an_integer,
    refuse,
    refuse_extras,
    required,
)
from hokku.protocol.errors import InvalidRequest

SAMPLING_KEYS = {"temperature", "top_p", "top_k"}
MAX_MODEL_CHARS = 256
MAX_USER_ID_CHARS = 256
MAX_TOP_K = 2**31 - 1  # what an engine's counter holds; far beyond any vocabulary


def read_model(body: dict[str, Any]) -> str:
    """The model as the client wrote it."""
    model = a_string(required(body, "model", ""), "model")
    if not model:
        refuse("model", "String should have at least 1 character")
    if len(model) > MAX_MODEL_CHARS:
        refuse("model", f"String should have at most {MAX_MODEL_CHARS} characters")
    return model


def read_user_id(metadata: object) -> str | None:
    """`metadata.user_id`."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        refuse("metadata", "Input does not match the expected shape.")
    user_id = metadata.get("user_id")
    if user_id is not None and len(a_string(user_id, "metadata.user_id")) > MAX_USER_ID_CHARS:
        refuse("metadata.user_id", f"String should have at most {MAX_USER_ID_CHARS} characters")
    refuse_extras(metadata, ("user_id",), "metadata")
    return user_id


def read_stop_sequences(value: object) -> tuple[str, ...]:
    """`stop_sequences`, none where it is absent or null."""
    if value is None:
        return ()
    array = an_array(value, "stop_sequences")
    sequences = tuple(a_string(each, f"stop_sequences.{index}") for index, each in enumerate(array))
    if any(not sequence.strip() for sequence in sequences):
        refuse("stop_sequences", "each stop sequence must contain non-whitespace")
    return sequences


def read_unit_number(body: dict[str, Any], name: str, dialect: Dialect) -> float:
    """`temperature` or `top_p`: 0 to 1, and 1 when absent."""
    if name not in body:
        return 1.0
    number = a_number(body[name], name)
    if not 0 <= number <= 1:
        refuse(name, "range: 0..1")
    _refuse_sampling(name, dialect)
    return number


def read_top_k(body: dict[str, Any], dialect: Dialect) -> int:
    """How many candidates to keep; anything below 1 keeps them all."""
    if "top_k" not in body:
        return 0
    top_k = an_integer(body["top_k"], "top_k")
    _refuse_sampling("top_k", dialect)
    return min(max(top_k, 0), MAX_TOP_K)


def _refuse_sampling(name: str, dialect: Dialect) -> None:
    if dialect.refuses_sampling:
        raise InvalidRequest(f"`{name}` is deprecated for this model.")
