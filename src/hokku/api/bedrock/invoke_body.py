"""Bodies of InvokeModel: those of Messages without the model, with the version and the betas inside (wire.md 16.2)."""

from __future__ import annotations

from typing import Any

from hokku.api.anthropic.dialect import Dialect, unknown_betas
from hokku.api.anthropic.fields import a_string, an_array, refuse
from hokku.api.anthropic.messages_body import MESSAGES_KEYS, parse_messages_body
from hokku.api.config import Compatibility
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import MessagesRequest
from hokku.registry.manifest import Manifest

# What `anthropic_version` may be, and the vendor's version of the same form.
VERSIONS = {"bedrock-2023-05-31": "2023-06-01", "2026-10-21": "2026-10-21"}
REQUIRED_KEYS = ("anthropic_version", "max_tokens", "messages")
OWN_KEYS = ("anthropic_version", "anthropic_beta", "user_profile_id")
IN_THE_PATH = ("model", "stream")  # as the path says whom to ask, and whether to stream
NEVER_HOSTED_KEYS = ("cache_control", "output_config")


def parse_invoke_body(
    body: dict[str, Any], manifest: Manifest, compatibility: Compatibility, *, may_fall_back: bool = True
) -> MessagesRequest:
    """A checked body, for the model of the path. Raises `InvalidRequest`."""
    _check_keys(body, compatibility)
    if (profile := body.get("user_profile_id")) is not None:
        a_string(profile, "user_profile_id")  # for the hosted service's own records
    dialect = Dialect(
        _version(body["anthropic_version"]),
        _betas(body.get("anthropic_beta"), compatibility),
        compatibility,
        may_fall_back,
        takes_named_files=compatibility is not Compatibility.HOSTED,
    )
    messages_body = {key: value for key, value in body.items() if key not in OWN_KEYS}
    checked = parse_messages_body({"model": manifest.id, **messages_body}, dialect)
    checked.prompt.refuse_unserved(manifest.id)
    return checked.request


def _check_keys(body: dict[str, Any], compatibility: Compatibility) -> None:
    unknown = set(IN_THE_PATH)
    if compatibility is Compatibility.HOSTED:
        unknown.update(NEVER_HOSTED_KEYS)
    known = {*MESSAGES_KEYS, *OWN_KEYS} - unknown
    for key in body:
        if key not in known:
            raise malformed(f"#: extraneous key [{key}] is not permitted")
    for key in REQUIRED_KEYS:
        if key not in body:
            raise malformed(f"#: required key [{key}] not found")


def malformed(what: str) -> InvalidRequest:
    """The sentence of the layer in front of the model."""
    return InvalidRequest(f"Malformed input request: {what}, please reformat your input and try again.")


def _version(value: object) -> str:
    version = a_string(value, "anthropic_version")
    return VERSIONS.get(version) or refuse("anthropic_version", f'"{version}" is not a valid version')


def _betas(value: object, compatibility: Compatibility) -> frozenset[str]:
    if value is None:
        return frozenset()
    array = an_array(value, "anthropic_beta")
    betas = frozenset(a_string(each, f"anthropic_beta.{index}") for index, each in enumerate(array))
    if unknown_betas(betas) and compatibility is Compatibility.HOSTED:
        raise InvalidRequest("invalid beta flag")
    return betas
