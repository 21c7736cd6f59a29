"""Bodies of this wire: those of Messages, which name the version inside and, but for counting, not the model."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers

from hokku.api.anthropic.dialect import Dialect, betas_of_body, checked_betas
from hokku.api.anthropic.fields import a_string, refuse, required
from hokku.api.anthropic.headers import read_betas
from hokku.api.anthropic.messages_body import MessagesBody, PromptBody, parse_count_body, parse_messages_body
from hokku.api.anthropic.parameters import read_model
from hokku.api.config import Compatibility
from hokku.api.fallback import read_may_fall_back
from hokku.registry.manifest import Manifest
from hokku.service.models import Catalogue

DIALECT_KEYS = ("anthropic_version", "anthropic_beta")  # beside the members of Messages
# What `anthropic_version` may be, and the vendor's version of the same form.
VERSIONS = {"vertex-2023-10-16": "2023-06-01", "2026-10-21": "2026-10-21"}


class VertexReader:
    """Reads the bodies of one request.

    Raises `InvalidRequest` for a header of it that is wrong.
    """

    def __init__(self, headers: Headers, compatibility: Compatibility) -> None:
        self._betas = read_betas(headers, compatibility)
        self._may_fall_back = read_may_fall_back(headers)
        self._compatibility = compatibility

    def message(self, body: dict[str, Any], manifest: Manifest) -> MessagesBody:
        """A body of rawPredict and streamRawPredict, for the model of the path. Raises `InvalidRequest`."""
        dialect = self._dialect(body)
        if "model" in body:
            refuse("model", "Extra inputs are not permitted")
        checked = parse_messages_body({"model": manifest.id, **_without_dialect(body)}, dialect)
        checked.prompt.refuse_unserved(manifest.id)
        return checked

    def prompt(self, body: dict[str, Any], catalogue: Catalogue) -> tuple[PromptBody, Manifest]:
        """A body of count-tokens, and the model that it names. Raises `InvalidRequest`, `NotFound`."""
        dialect = self._dialect(body)
        prompt = parse_count_body(_without_dialect(body), dialect)
        manifest = manifest_of(catalogue, read_model(body))
        prompt.refuse_unserved(manifest.id)
        return prompt, manifest

    def _dialect(self, body: dict[str, Any]) -> Dialect:
        version = a_string(required(body, "anthropic_version", ""), "anthropic_version")
        if version not in VERSIONS:
            refuse("anthropic_version", f'"{version}" is not a valid version')
        named = betas_of_body(body.get("anthropic_beta", []))
        betas = checked_betas(named, "member `anthropic_beta`", self._compatibility)
        return Dialect(
            VERSIONS[version],
            self._betas | betas,
            self._compatibility,
            self._may_fall_back,
            takes_named_files=self._compatibility is not Compatibility.HOSTED,
        )


def manifest_of(catalogue: Catalogue, name: str) -> Manifest:
    """The model behind this wire's name for it: `claude-3-5-haiku@20241022` is `claude-3-5-haiku-20241022`, and without
    a version it is the latest. Raises `NotFound`."""
    names = (name, name.replace("@", "-"), f"{name}-latest")
    known = next((each for each in names if catalogue.knows(each)), name)
    return catalogue.manifest(known)


def _without_dialect(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in DIALECT_KEYS}
