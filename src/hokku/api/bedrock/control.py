"""What clients of the control plane ask first: which models there are (wire.md section 16.6)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.fields import refuse
from hokku.api.anthropic.models import timestamp
from hokku.api.bedrock.callers import Call, read_call
from hokku.api.bedrock.names import manifest_of, model_arn, model_id, profile_arn, profile_id
from hokku.api.config import ApiConfig, Services
from hokku.registry.manifest import Manifest

ACCOUNT_ID = "000000000000"  # of every name here: an installation is one account
PROVIDER = "Anthropic"
MAX_NAME_CHARS = 20  # of a branded name
MAX_PAGE = 1000
INFERENCE_TYPE = "ON_DEMAND"
LIFECYCLE_STATUS = {"active": "ACTIVE", "deprecated": "LEGACY", "retired": "LEGACY"}
MODALITIES = ("TEXT", "IMAGE", "EMBEDDING")
CUSTOMIZATIONS = ("FINE_TUNING", "CONTINUED_PRE_TRAINING", "DISTILLATION")
PROFILE_TYPES = ("SYSTEM_DEFINED", "APPLICATION")


def control_routes(services: Services, config: ApiConfig) -> list[Route]:
    """Foundation models and inference profiles."""
    endpoints = ControlEndpoints(services, config)
    return [
        Route("/foundation-models", endpoints.models, methods=["GET"]),
        Route("/foundation-models/{model:path}", endpoints.model, methods=["GET"]),
        Route("/inference-profiles", endpoints.profiles, methods=["GET"]),
        Route("/inference-profiles/{profile:path}", endpoints.profile, methods=["GET"]),
    ]


class ControlEndpoints:
    """The endpoints."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config

    async def models(self, request: Request) -> Response:
        """`GET /foundation-models`."""
        call = await self._call(request)
        is_wanted = read_filter(request.query_params)
        found = (model_object(each, call.region) for each in self._services.catalogue.manifests)
        return _json({"modelSummaries": [each for each in found if is_wanted(each)]})

    async def model(self, request: Request) -> Response:
        """`GET /foundation-models/{id or ARN}`."""
        call = await self._call(request)
        return _json({"modelDetails": model_object(self._named(request.path_params["model"]), call.region)})

    async def profiles(self, request: Request) -> Response:
        """`GET /inference-profiles`."""
        call = await self._call(request)
        query = request.query_params
        start = _read_token(query)
        limit = _read_limit(query)
        asked_type = _one_of(query, "type", PROFILE_TYPES)
        manifests = self._services.catalogue.manifests if asked_type != "APPLICATION" else ()
        shown = [profile_object(each, call.region) for each in manifests[start : start + limit]]
        more = {"nextToken": str(start + limit)} if start + limit < len(manifests) else {}
        return _json({"inferenceProfileSummaries": shown, **more})

    async def profile(self, request: Request) -> Response:
        """`GET /inference-profiles/{id or ARN}`."""
        call = await self._call(request)
        return _json(profile_object(self._named(request.path_params["profile"]), call.region))

    async def _call(self, request: Request) -> Call:
        return await read_call(request, self._services.keys, self._config.max_body_bytes)

    def _named(self, name: str) -> Manifest:
        return manifest_of(self._services.catalogue, name, self._config.compatibility)


def model_object(manifest: Manifest, region: str) -> dict[str, Any]:
    """A foundation model."""
    sees = "image_input" in manifest.capabilities
    return {
        "modelArn": model_arn(manifest, region),
        "modelId": model_id(manifest),
        "modelName": manifest.display_name[:MAX_NAME_CHARS],
        "providerName": PROVIDER,
        "inputModalities": ["TEXT", "IMAGE"] if sees else ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "customizationsSupported": [],
        "inferenceTypesSupported": [INFERENCE_TYPE],
        "modelLifecycle": {"status": LIFECYCLE_STATUS[manifest.lifecycle.stage]},
    }


def profile_object(manifest: Manifest, region: str) -> dict[str, Any]:
    """The inference profile of a model, which is the model under another name."""
    made_at = timestamp(manifest.created_at)
    return {
        "inferenceProfileName": f"US {PROVIDER} {manifest.display_name}",
        "description": f"Requests to {manifest.display_name} on this server",
        "createdAt": made_at,
        "updatedAt": made_at,
        "inferenceProfileArn": profile_arn(manifest, region, ACCOUNT_ID),
        "inferenceProfileId": profile_id(manifest),
        "models": [{"modelArn": model_arn(manifest, region)}],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }


def read_filter(query: QueryParams) -> Callable[[dict[str, Any]], bool]:
    """Which models a client asks to see. Raises `InvalidRequest`."""
    provider = query.get("byProvider")
    modality = _one_of(query, "byOutputModality", MODALITIES)
    inference_type = _one_of(query, "byInferenceType", (INFERENCE_TYPE, "PROVISIONED"))
    customization = _one_of(query, "byCustomizationType", CUSTOMIZATIONS)

    def is_wanted(model: dict[str, Any]) -> bool:
        return (
            (provider is None or provider.lower() == model["providerName"].lower())
            and (modality is None or modality in model["outputModalities"])
            and (inference_type is None or inference_type in model["inferenceTypesSupported"])
            and (customization is None or customization in model["customizationsSupported"])
        )

    return is_wanted


def _one_of(query: QueryParams, name: str, choices: tuple[str, ...]) -> str | None:
    value = query.get(name)
    if value is not None and value not in choices:
        refuse(name, f"Input should be one of {', '.join(choices)}")
    return value


def _read_limit(query: QueryParams) -> int:
    text = query.get("maxResults", str(MAX_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE):
        refuse("maxResults", f"Input should be a whole number from 1 to {MAX_PAGE}")
    return int(text)


def _read_token(query: QueryParams) -> int:
    text = query.get("nextToken", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        refuse("nextToken", "is none that this server gave out")
    return int(text)


def _json(value: object) -> Response:
    return Response(json.dumps(value), 200, media_type="application/json")
