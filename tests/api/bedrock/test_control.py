"""Which models there are, as the control plane tells it."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from hokku.service.models import Catalogue
from tests.api.bedrock.conftest import MODEL, PROFILE, Bedrock
from tests.api.bedrock.test_invoke import is_refused
from tests.fakes import fake_manifest

ARN = f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL}"
PROFILE_ARN = f"arn:aws:bedrock:us-east-1:000000000000:inference-profile/{PROFILE}"


async def test_models(client: httpx.AsyncClient) -> None:
    (model,) = (await client.get("/foundation-models")).json()["modelSummaries"]
    assert model == {
        "modelArn": ARN,
        "modelId": MODEL,
        "modelName": "Claude Haiku 3.5",
        "providerName": "Anthropic",
        "inputModalities": ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "customizationsSupported": [],
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "ACTIVE"},
    }
    for name in (MODEL, ARN, ARN.replace("/", "%2F").replace(":", "%3A")):
        assert (await client.get(f"/foundation-models/{name}")).json() == {"modelDetails": model}
    response = await client.get("/foundation-models/x.y")
    is_refused(response, 400, "ValidationException", "The provided model identifier is invalid")


@pytest.mark.parametrize(
    ("query", "is_there"),
    [
        ("byProvider=anthropic", True),
        ("byProvider=meta", False),
        ("byOutputModality=TEXT&byInferenceType=ON_DEMAND", True),
        ("byOutputModality=IMAGE", False),
        ("byInferenceType=PROVISIONED", False),
        ("byCustomizationType=FINE_TUNING", False),
    ],
)
async def test_filters(client: httpx.AsyncClient, query: str, is_there: bool) -> None:
    found = (await client.get(f"/foundation-models?{query}")).json()["modelSummaries"]
    assert bool(found) == is_there


async def test_profiles(signing: httpx.AsyncClient) -> None:
    """Names have the region that the caller has signed for."""
    (profile,) = (await signing.get("/inference-profiles")).json()["inferenceProfileSummaries"]
    assert profile["inferenceProfileId"] == PROFILE
    assert profile["inferenceProfileArn"] == PROFILE_ARN.replace("us-east-1", "us-west-2")
    assert profile["models"] == [{"modelArn": ARN.replace("us-east-1", "us-west-2")}]
    assert (profile["status"], profile["type"]) == ("ACTIVE", "SYSTEM_DEFINED")
    for name in (PROFILE, PROFILE_ARN):
        assert (await signing.get(f"/inference-profiles/{name}")).json() == profile


async def test_pages_of_profiles(bedrock: Bedrock) -> None:
    manifests = [fake_manifest(), fake_manifest("claude-other", year=2023), fake_manifest("own", year=2022)]
    services = replace(bedrock.services, catalogue=Catalogue(manifests, {}))
    async with Bedrock(services, bedrock.storage, bedrock.pair).client() as client:
        first = (await client.get("/inference-profiles?maxResults=2&type=SYSTEM_DEFINED")).json()
        second = (await client.get(f"/inference-profiles?maxResults=2&nextToken={first['nextToken']}")).json()
        none = (await client.get("/inference-profiles?type=APPLICATION")).json()
    ids = [
        each["inferenceProfileId"] for page in (first, second) for each in page["inferenceProfileSummaries"]
    ]
    assert ids == [PROFILE, "us.anthropic.claude-other-v1:0", "us.own"]
    assert "nextToken" not in second
    assert none == {"inferenceProfileSummaries": []}


@pytest.mark.parametrize(
    "query",
    [
        "foundation-models?byOutputModality=x",
        "foundation-models?byInferenceType=x",
        "foundation-models?byCustomizationType=x",
        "inference-profiles?type=x",
        "inference-profiles?maxResults=0",
        "inference-profiles?maxResults=1001",
        "inference-profiles?maxResults=%C2%B2",
        "inference-profiles?nextToken=x",
    ],
)
async def test_queries_that_are_refused_by_their_name(client: httpx.AsyncClient, query: str) -> None:
    name = query.partition("?")[2].partition("=")[0]
    is_refused(await client.get(f"/{query}"), 400, "ValidationException", f"^{name}: ")


async def test_nobody_sees_anything_without_a_credential(client: httpx.AsyncClient) -> None:
    del client.headers["authorization"]
    for path in ("/foundation-models", "/inference-profiles"):
        is_refused(await client.get(path), 403, "MissingAuthenticationTokenException", "Missing")
