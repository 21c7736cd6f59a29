"""The body of Converse, ConverseStream and of CountTokens' `converse`, as the model's own body (wire.md section 16.4).

Converse is a layer over what a model takes: its `additionalModelRequestFields` are members of that body, and what the
model says against it names places there. So a request is checked twice: its Converse members here, with the sentences
of that layer, and the whole then as a body of Messages, by the one validator that there is.

What has no effect: `requestMetadata`, which is for filtering logs; `promptVariables`, which belong to stored prompts
and are documented as ignored without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hokku.api.bedrock.converse_content import read_content, read_system
from hokku.api.bedrock.converse_fields import (
    a_choice,
    a_document,
    a_list,
    a_structure,
    a_text,
    a_union,
    a_unit_number,
    a_whole_number,
    joined,
    needed,
    refuse_extraneous,
    refuse_member,
)
from hokku.api.bedrock.converse_tools import read_output_config, read_tool_config
from hokku.protocol.errors import InvalidRequest

PROMPT_MEMBERS = ("messages", "system", "toolConfig", "additionalModelRequestFields")
CONVERSE_MEMBERS = (
    *PROMPT_MEMBERS,
    "inferenceConfig",
    "guardrailConfig",
    "promptVariables",
    "additionalModelResponseFieldPaths",
    "requestMetadata",
    "performanceConfig",
    "serviceTier",
    "outputConfig",
)
# Of the model's own body, what the operation says itself.
RESERVED_FIELDS = ("model", "stream")
MAX_STOP_SEQUENCES = 2_500
MAX_FIELD_PATHS = 10
MAX_METADATA = 16
MAX_SHORT_CHARS = 256  # of a path, and of a key or value of metadata
METADATA_PATTERN = r"[a-zA-Z0-9\s:_@$#=/+,\-.]*"
POINTER_PATTERN = r"(/([^~/]|~[01])*)+"  # RFC 6901, section 3; not the empty one
GUARDRAIL_ID_PATTERN = r"([a-z0-9]+|arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:guardrail/[a-z0-9]+)?"
GUARDRAIL_VERSION_PATTERN = r"([1-9][0-9]{0,7}|DRAFT)?"


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What the answer tells besides the reply."""

    field_paths: tuple[str, ...] = ()  # JSON pointers into the model's own response
    latency: str | None = None  # `performanceConfig.latency`, as asked for
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class ConverseBody:
    """A checked body: what the model is asked, as a body of InvokeModel without its version, and how to answer."""

    model_body: dict[str, Any]
    form: AnswerForm

    @property
    def says_max_tokens(self) -> bool:
        """Whether the client has set a limit; without one it is the model's own."""
        return "max_tokens" in self.model_body


def read_converse_body(body: dict[str, Any]) -> ConverseBody:
    """The body of Converse and of ConverseStream. Raises `InvalidRequest`."""
    asked = a_structure(body, "", CONVERSE_MEMBERS)
    prompt = _prompt(asked, "")
    settings = _inference(asked.get("inferenceConfig", {}), "inferenceConfig")
    output = read_output_config(asked.get("outputConfig", {}), "outputConfig")
    _refuse_guardrail(asked.get("guardrailConfig", {}), "guardrailConfig")
    _check_prompt_variables(asked.get("promptVariables", {}), "promptVariables")
    _check_metadata(asked.get("requestMetadata"), "requestMetadata")
    model_body = _with_additional(asked, {**prompt, **settings, **output})
    return ConverseBody(model_body, _answer_form(asked))


def read_converse_prompt(value: object, path: str) -> ConverseBody:
    """What CountTokens takes of it, as a body like the others. Raises `InvalidRequest`."""
    asked = a_structure(value, path, PROMPT_MEMBERS)
    return ConverseBody(_with_additional(asked, _prompt(asked, path)), AnswerForm())


def _prompt(asked: dict[str, Any], path: str) -> dict[str, Any]:
    place = joined(path, "messages")
    messages = a_list(needed(asked, "messages", path), place)
    prompt: dict[str, Any] = {
        "messages": [_message(each, f"{place}.{index}") for index, each in enumerate(messages)]
    }
    if "system" in asked:
        prompt["system"] = read_system(asked["system"], joined(path, "system"))
    if "toolConfig" in asked:
        prompt |= read_tool_config(asked["toolConfig"], joined(path, "toolConfig"))
    return prompt


def _message(value: object, path: str) -> dict[str, Any]:
    message = a_structure(value, path, ("role", "content"))
    role = needed(message, "role", path)
    content = needed(message, "content", path)
    return {
        "role": a_choice(role, joined(path, "role"), ("user", "assistant", "system")),
        "content": read_content(content, joined(path, "content")),
    }


def _inference(value: object, path: str) -> dict[str, Any]:
    config = a_structure(value, path, ("maxTokens", "temperature", "topP", "stopSequences"))
    settings: dict[str, Any] = {}
    if "maxTokens" in config:
        settings["max_tokens"] = a_whole_number(config["maxTokens"], joined(path, "maxTokens"), least=1)
    for name, model_name in (("temperature", "temperature"), ("topP", "top_p")):
        if name in config:
            settings[model_name] = a_unit_number(config[name], joined(path, name))
    if "stopSequences" in config:
        place = joined(path, "stopSequences")
        sequences = a_list(config["stopSequences"], place, most=MAX_STOP_SEQUENCES)
        settings["stop_sequences"] = [
            a_text(each, f"{place}.{index}", least=1) for index, each in enumerate(sequences)
        ]
    return settings


def _with_additional(asked: dict[str, Any], model_body: dict[str, Any]) -> dict[str, Any]:
    """The body with the fields that the client gives for it in the model's own words."""
    place = "additionalModelRequestFields"
    fields = a_document(asked.get(place, {}), place)
    for name in fields:
        if name in model_body:
            raise InvalidRequest(f"The additional field {name} conflicts with an existing field.")
        if name in RESERVED_FIELDS:
            refuse_extraneous("", name)
    return {**model_body, **fields}


def _answer_form(asked: dict[str, Any]) -> AnswerForm:
    performance = a_structure(asked.get("performanceConfig", {}), "performanceConfig", ("latency",))
    latency = performance.get("latency")
    if latency is not None:
        a_choice(latency, "performanceConfig.latency", ("standard", "optimized"))
    tier = None
    if "serviceTier" in asked:
        fields = a_structure(asked["serviceTier"], "serviceTier", ("type",))
        tiers = ("priority", "default", "flex", "reserved")
        tier = a_choice(needed(fields, "type", "serviceTier"), "serviceTier.type", tiers)
    return AnswerForm(_field_paths(asked), latency, tier)


def _field_paths(asked: dict[str, Any]) -> tuple[str, ...]:
    place = "additionalModelResponseFieldPaths"
    pointers = a_list(asked.get(place, []), place, most=MAX_FIELD_PATHS)
    for index, pointer in enumerate(pointers):
        text = a_text(pointer, f"{place}.{index}", least=1, most=MAX_SHORT_CHARS)
        if not re.fullmatch(POINTER_PATTERN, text):
            raise InvalidRequest(f"'{text}' is not a JSON pointer", place=f"{place}.{index}")
    return tuple(pointers)


def _refuse_guardrail(value: object, path: str) -> None:
    """There are none here, so none exists by whatever name; and what asks for one must not go without."""
    config = a_structure(
        value, path, ("guardrailIdentifier", "guardrailVersion", "trace", "streamProcessingMode")
    )
    patterns = {
        "guardrailIdentifier": GUARDRAIL_ID_PATTERN,
        "guardrailVersion": GUARDRAIL_VERSION_PATTERN,
    }
    named = [a_text(config.get(name, ""), joined(path, name), pattern=patterns[name]) for name in patterns]
    choices = {
        "trace": ("enabled", "disabled", "enabled_full"),
        "streamProcessingMode": ("sync", "async"),
    }
    for name, known in choices.items():
        if name in config:
            a_choice(config[name], joined(path, name), known)
    if any(named):
        raise InvalidRequest("The guardrail identifier or version provided in the request does not exist.")


def _check_prompt_variables(value: object, path: str) -> None:
    for name, variable in _mapping(value, path).items():
        a_text(a_union(variable, joined(path, name), ("text",))[1], joined(path, name))


def _check_metadata(value: object, path: str) -> None:
    if value is None:
        return
    metadata = _mapping(value, path)
    if not 1 <= len(metadata) <= MAX_METADATA:
        refuse_member(path, f"have length from 1 to {MAX_METADATA}")
    for name, each in metadata.items():
        a_text(name, joined(path, "key"), least=1, most=MAX_SHORT_CHARS, pattern=METADATA_PATTERN)
        a_text(each, joined(path, "value"), most=MAX_SHORT_CHARS, pattern=METADATA_PATTERN)


def _mapping(value: object, path: str) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else refuse_member(path, "be a map")
