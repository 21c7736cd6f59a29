"""Models as this wire names them: ids, inference profiles and ARNs (wire.md sections 0.2 and 16.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hokku.api.config import Compatibility
from hokku.protocol.errors import InvalidRequest
from hokku.registry.manifest import Manifest
from hokku.service.models import Catalogue

HOSTED_REGION = "us"  # the only one that had a profile of the hosted model
_ARN = re.compile(
    r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:[0-9]*:"
    r"(?:foundation-model|(?:application-)?inference-profile)/(?P<name>[^/]+)"
)
_FOREIGN = re.compile(r"(?:(?P<region>us|eu|apac|jp|au|global|us-gov)\.)?anthropic\.(?P<id>.+)-v1:0")


def model_id(manifest: Manifest) -> str:
    """The id of a model on this wire; models that are not the vendor's go by their own."""
    return f"anthropic.{manifest.id}-v1:0" if manifest.id.startswith("claude-") else manifest.id


def profile_id(manifest: Manifest) -> str:
    """The id of the model's inference profile."""
    return f"{HOSTED_REGION}.{model_id(manifest)}"


def model_arn(manifest: Manifest, region: str) -> str:
    """The model's full name."""
    return f"arn:aws:bedrock:{region}::foundation-model/{model_id(manifest)}"


def profile_arn(manifest: Manifest, region: str, account_id: str) -> str:
    """The full name of the model's inference profile."""
    return f"arn:aws:bedrock:{region}:{account_id}:inference-profile/{profile_id(manifest)}"


def manifest_of(catalogue: Catalogue, given: str, compatibility: Compatibility) -> Manifest:
    """The model behind an id, a profile or an ARN of either, or, unless hosted, a name of ours. Raises
    `InvalidRequest`."""
    names = _names(given, is_hosted=compatibility is Compatibility.HOSTED)
    known = next((name for name in names if catalogue.knows(name)), None)
    if known is None:
        raise InvalidRequest("The provided model identifier is invalid.")
    return catalogue.manifest(known)


def _names(given: str, *, is_hosted: bool) -> Iterator[str]:
    arn = _ARN.fullmatch(given)
    name = arn["name"] if arn else given
    foreign = _FOREIGN.fullmatch(name)
    if foreign and not (is_hosted and foreign["region"] not in (None, HOSTED_REGION)):
        yield foreign["id"]
    if not is_hosted:
        yield name
        yield name.removeprefix(f"{HOSTED_REGION}.")
