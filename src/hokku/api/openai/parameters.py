"""Fields that both endpoints of this wire share: how to draw, where to stop, how to answer, and what is not served.

With `compatibility = hosted`, what the vendor's layer ignores is ignored. Otherwise it is honoured as far as the engine
can, and refused by name where it cannot; what says nothing else than would be done without it is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hokku.api.anthropic.fields import (
    a_boolean,
    a_number,
    a_string,
    an_array,
    an_integer,
    an_object,
    one_of,
    refuse,
    refuse_extras,
)
from hokku.api.anthropic.parameters import MAX_USER_ID_CHARS
from hokku.api.config import Compatibility
from hokku.protocol.messages import SamplingParameters

# What of the body concerns the prompt or the answer, and no model of this server can do it: by field, the values that
# ask for nothing. Null always is one.
UNSERVED: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "audio": (),
    "modalities": (["text"],),
    "moderation": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory",),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
# What the vendor's layer accepts and does not look at.
IGNORED_WHERE_HOSTED = frozenset(
    {
        "audio",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "metadata",
        "modalities",
        "prediction",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "service_tier",
        "store",
        "top_logprobs",
        "user",
    }
)
MAX_TEMPERATURE = 2.0
_HOSTED_MAX_TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the answer is sent."""

    stream: bool = False
    include_usage: bool = False  # in a last chunk of the stream


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """How long a reply may be, and the field that says so."""

    field: str
    num_tokens: int


def as_hosted(body: dict[str, Any], compatibility: Compatibility) -> dict[str, Any]:
    """The body without what a hosted layer does not look at."""
    if compatibility is not Compatibility.HOSTED:
        return body
    return {name: value for name, value in body.items() if name not in IGNORED_WHERE_HOSTED}


def refuse_unserved(body: dict[str, Any]) -> None:
    """Refuse the first field that asks for what no model here does."""
    for name, harmless in UNSERVED.items():
        if not _asks_nothing(body.get(name), harmless):
            shown = " or ".join(_shown(value) for value in (*harmless, None))
            refuse(name, f"is not supported by this server: leave it out, or send {shown}")


def read_sampling(body: dict[str, Any], compatibility: Compatibility) -> SamplingParameters | None:
    """How to draw; None where the client leaves it to the model."""
    given = [name for name in ("temperature", "top_p") if body.get(name) is not None]
    if not given:
        return None
    temperature = _number(body, "temperature", MAX_TEMPERATURE)
    if compatibility is Compatibility.HOSTED:
        temperature = min(temperature, _HOSTED_MAX_TEMPERATURE)
    return SamplingParameters(temperature, _number(body, "top_p", 1.0))


def read_stop(value: object, compatibility: Compatibility) -> tuple[str, ...]:
    """`stop`: one sequence or several. The vendor's layer knows those only that are not blank."""
    if value is None:
        return ()
    sequences = [value] if isinstance(value, str) else an_array(value, "stop")
    stops = tuple(a_string(each, f"stop[{index}]") for index, each in enumerate(sequences))
    if compatibility is Compatibility.HOSTED:
        return tuple(stop for stop in stops if stop.strip())
    if not all(stops):
        refuse("stop", "each stop sequence must have at least 1 character")
    return stops


def read_seed(value: object) -> int | None:
    """`seed`: of the draws."""
    return None if value is None else an_integer(value, "seed")


def read_user(body: dict[str, Any]) -> str | None:
    """Who is behind the request, for the log; `safety_identifier` is the newer word for it."""
    user: str | None = None
    for name in ("safety_identifier", "user"):
        if body.get(name) is not None:
            user = a_string(body[name], name)
            if len(user) > MAX_USER_ID_CHARS:
                refuse(name, f"String should have at most {MAX_USER_ID_CHARS} characters")
    return user


def read_limit(body: dict[str, Any], names: tuple[str, ...], least: int) -> OutputLimit | None:
    """How many tokens the reply may have, by whichever of the fields says so; None where none does."""
    given = [name for name in names if body.get(name) is not None]
    limits = [OutputLimit(name, an_integer(body[name], name)) for name in given]
    for limit in limits:
        if limit.num_tokens < least:
            refuse(limit.field, f"must be greater than or equal to {least}")
    if len({limit.num_tokens for limit in limits}) > 1:
        refuse(limits[0].field, f"says something else than {limits[1].field}: send one of them")
    return limits[0] if limits else None


def read_delivery(body: dict[str, Any]) -> Delivery:
    """`stream` and `stream_options`."""
    stream = body.get("stream") is not None and a_boolean(body["stream"], "stream")
    if body.get("stream_options") is None:
        return Delivery(stream)
    options = an_object(body["stream_options"], "stream_options")
    if not stream:
        refuse("stream_options", "may only be sent with stream: true")
    flags = {name: options.get(name) for name in ("include_usage", "include_obfuscation")}
    given = {name: a_boolean(v, f"stream_options.{name}") for name, v in flags.items() if v is not None}
    if given.get("include_obfuscation"):
        refuse("stream_options.include_obfuscation", "chunks are not padded by this server")
    refuse_extras(options, flags, "stream_options")
    return Delivery(stream, given.get("include_usage", False))


def check_harmless(body: dict[str, Any]) -> None:
    """The form of what cannot change a reply: notes of the client's own, and hints that only make others faster."""
    if body.get("metadata") is not None:
        an_object(body["metadata"], "metadata")
    if body.get("prediction") is not None:
        an_object(body["prediction"], "prediction")
    if body.get("prompt_cache_key") is not None:
        a_string(body["prompt_cache_key"], "prompt_cache_key")


def check_thinking(value: object) -> None:
    """The vendor's own `thinking`, which this model cannot."""
    if value is None:
        return
    thinking = an_object(value, "thinking")
    if thinking.get("type") != "disabled":
        refuse("thinking.type", f"{one_of(['disabled'])}: this model does not think")
    refuse_extras(thinking, ("type",), "thinking")


def _number(body: dict[str, Any], name: str, most: float) -> float:
    if body.get(name) is None:
        return 1.0
    number = a_number(body[name], name)
    return number if 0 <= number <= most else refuse(name, f"range: 0..{most:g}")


def _asks_nothing(value: object, harmless: tuple[object, ...]) -> bool:
    # In Python a truth value equals a number, which it is not in JSON.
    return value is None or any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in harmless
    )


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
