"""The body of `POST /v1/completions`: a text to go on with, or a gap in one to fill, as editors ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hokku.api.anthropic.fields import a_boolean, a_string, an_integer, refuse, refuse_extras, required
from hokku.api.anthropic.parameters import read_model
from hokku.api.config import Compatibility
from hokku.api.openai.parameters import (
    UNSERVED,
    Delivery,
    OutputLimit,
    read_delivery,
    read_limit,
    read_sampling,
    read_seed,
    read_stop,
    read_user,
    refuse_unserved,
)
from hokku.protocol.messages import MessagesRequest, plain_text

HONOURED_KEYS = (
    "model",
    "prompt",
    "suffix",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "echo",
    "user",
    "stream",
    "stream_options",
)
_UNSERVED_KEYS = ("n", "best_of", "logprobs", "logit_bias", "presence_penalty", "frequency_penalty")
COMPLETION_KEYS = frozenset({*HONOURED_KEYS, *_UNSERVED_KEYS})
DEFAULT_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class CompletionBody:
    """A checked body."""

    request: MessagesRequest
    delivery: Delivery
    echoed: str  # what the answer begins with, besides what is generated


def parse_completion_body(body: dict[str, Any]) -> CompletionBody:
    """Read and check a body. Raises `InvalidRequest`."""
    refuse_extras(body, COMPLETION_KEYS, "")
    model = read_model(body)
    prompt = _prompt(required(body, "prompt", ""))
    # Editors send an empty one at the end of a file, where there is no gap.
    suffix = None if body.get("suffix") is None else a_string(body["suffix"], "suffix") or None
    echo = body.get("echo") is not None and a_boolean(body["echo"], "echo")
    limit = read_limit(body, ("max_tokens",), least=0) or OutputLimit("max_tokens", DEFAULT_MAX_TOKENS)
    _refuse_unserved(body)
    if not prompt and suffix is None:
        refuse("prompt", "must not be empty")
    request = MessagesRequest(
        model=model,
        conversation=plain_text(prompt, suffix),
        max_tokens=limit.num_tokens,
        stop_sequences=read_stop(body.get("stop"), Compatibility.FRIENDLY),
        sampling=read_sampling(body, Compatibility.FRIENDLY),
        user_id=read_user(body),
        seed=read_seed(body.get("seed")),
    )
    return CompletionBody(request, read_delivery(body), prompt if echo else "")


def _prompt(value: object) -> str:
    """The text; one alone in a list is as good. Token ids are another tokenizer's."""
    if isinstance(value, list):
        if len(value) != 1 or not isinstance(value[0], str):
            refuse(
                "prompt", "Input should be a string, or a list of one: several prompts are several requests"
            )
        return str(value[0])
    return a_string(value, "prompt")


def _refuse_unserved(body: dict[str, Any]) -> None:
    if body.get("best_of") is not None and an_integer(body["best_of"], "best_of") != 1:
        refuse("best_of", "is not supported by this server: leave it out, or send 1 or null")
    if body.get("logprobs") is not None:
        refuse("logprobs", "is not supported by this server: leave it out, or send null")
    refuse_unserved({name: body[name] for name in UNSERVED if name in body})
