"""Who is let in: by a bearer key, by a signature, and by nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import httpx
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from hokku.api.config import ApiConfig
from hokku.service.key_making import new_workspace
from hokku.service.keys import KeyRing
from tests.api.bedrock.conftest import BODY, PROFILE, Bedrock, Signing
from tests.api.bedrock.test_invoke import INVOKE, STREAM, is_refused
from tests.fakes import FakeEngine

ARN = f"/model/arn%3Aaws%3Abedrock%3Aus-west-2%3A123456789012%3Ainference-profile%2F{PROFILE}/invoke"
MISMATCH = "^The request signature we calculated does not match the signature you provided"


async def test_signed_requests(signing: httpx.AsyncClient) -> None:
    for path in (INVOKE, STREAM, INVOKE.replace(":", "%3A"), ARN, INVOKE + "?b=~&a=%2F&a=1"):
        assert (await signing.post(path, json=BODY)).status_code == 200


async def test_a_session_token_is_taken_as_it_is(bedrock: Bedrock) -> None:
    async with bedrock.client(auth=replace(bedrock.signing, token="opaque/==")) as client:
        assert (await client.post(INVOKE, json=BODY)).status_code == 200


async def test_the_request_runs_in_the_pair_s_workspace(bedrock: Bedrock, engine: FakeEngine) -> None:
    workspace = new_workspace("web")
    bedrock.storage.keys.add_workspace(workspace)
    pair = bedrock.another_pair(workspace.id)
    async with bedrock.client(auth=Signing(pair.access_key_id, pair.secret)) as client:
        assert (await client.post(INVOKE, json=BODY)).status_code == 200
    assert engine.requests[-1].cache_scope == workspace.id


class Tampering(Signing, ABC):
    """Changes a request after it is signed."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        for signed in super().auth_flow(request):
            yield self.change(signed)

    @abstractmethod
    def change(self, request: httpx.Request) -> httpx.Request: ...


class OtherBody(Tampering):
    def change(self, request: httpx.Request) -> httpx.Request:
        body = request.content.replace(b"Hi", b"Ho")
        return httpx.Request(request.method, request.url, headers=request.headers, content=body)


class OtherPath(Tampering):
    def change(self, request: httpx.Request) -> httpx.Request:
        url = str(request.url).replace("/invoke", "/invoke-with-response-stream")
        return httpx.Request(request.method, url, headers=request.headers, content=request.content)


class OtherHeader(Tampering):
    def change(self, request: httpx.Request) -> httpx.Request:
        request.headers["content-type"] = "application/json; charset=utf-8"
        return request


class OneMoreHeader(Tampering):
    def change(self, request: httpx.Request) -> httpx.Request:
        request.headers["x-amz-meta"] = "x"
        return request


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (OtherBody, MISMATCH),
        (OtherPath, MISMATCH),
        (OtherHeader, MISMATCH),
        (OneMoreHeader, "'x-amz-meta' must be a 'SignedHeader' in the AWS Authorization"),
    ],
)
async def test_what_was_changed_on_the_way_is_refused(
    bedrock: Bedrock, engine: FakeEngine, kind: type[Signing], sentence: str
) -> None:
    async with bedrock.client(auth=kind(bedrock.pair.access_key_id, bedrock.pair.secret)) as client:
        response = await client.post(INVOKE, json=BODY)
    is_refused(response, 403, "InvalidSignatureException", sentence)
    assert engine.requests == []


async def test_a_replayed_request_is_refused_after_a_while(bedrock: Bedrock) -> None:
    async with bedrock.client(auth=bedrock.signing) as client:
        for minutes, sentence in ((-6, "^Signature expired: "), (6, "^Signature not yet current: ")):
            moment = datetime.now(UTC) + timedelta(minutes=minutes)
            with mock.patch(
                "botocore.auth.get_current_datetime", lambda moment=moment: moment.replace(tzinfo=None)
            ):
                response = await client.post(INVOKE, json=BODY)
            is_refused(response, 403, "InvalidSignatureException", sentence)


async def test_pairs_that_are_not_good(bedrock: Bedrock) -> None:
    pair = bedrock.another_pair(lifetime=timedelta(seconds=-1))
    revoked = bedrock.another_pair()
    bedrock.storage.keys.set_status(revoked.key.id, "archived")
    unknown = "UnrecognizedClientException", "The security token included in the request is invalid"
    cases: list[tuple[Signing, str, str]] = [
        (Signing("HKIAAAAAAAAAAAAAAAAA", "x"), *unknown),
        (Signing(revoked.access_key_id, revoked.secret), *unknown),
        (Signing(pair.access_key_id, pair.secret), "ExpiredTokenException", "token .* is expired"),
        (replace(bedrock.signing, secret="x"), "InvalidSignatureException", MISMATCH),
        (replace(bedrock.signing, service="s3"), "InvalidSignatureException", "correct service: 'bedrock'"),
    ]
    for auth, name, sentence in cases:
        async with bedrock.client(auth=auth) as client:
            is_refused(await client.post(INVOKE, json=BODY), 403, name, sentence)


@pytest.mark.parametrize(
    ("authorization", "name", "sentence"),
    [
        (None, "MissingAuthenticationTokenException", "^Missing Authentication Token$"),
        ("Basic eDp5", "MissingAuthenticationTokenException", "^Missing Authentication Token$"),
        (
            "Bearer x",
            "AccessDeniedException",
            "^Authentication failed: Please make sure your API Key is valid.$",
        ),
        ("Bearer bedrock-api-key-x", "AccessDeniedException", "^Authentication failed"),
        ("Bearer bedrock-api-key-eHh4", "AccessDeniedException", "^Authentication failed"),
        (
            "AWS4-HMAC-SHA256",
            "IncompleteSignatureException",
            "requires 'Credential' parameter. .*'Signature'",
        ),
    ],
)
async def test_credentials_that_are_none(
    bedrock: Bedrock, authorization: str | None, name: str, sentence: str
) -> None:
    async with bedrock.client() as client:
        del client.headers["authorization"]
        headers = {"authorization": authorization} if authorization else {}
        is_refused(await client.post(INVOKE, json=BODY, headers=headers), 403, name, sentence)


async def test_an_access_key_is_no_bearer_key(bedrock: Bedrock) -> None:
    async with bedrock.client() as client:
        for token in (bedrock.pair.access_key_id, bedrock.pair.secret):
            response = await client.post(INVOKE, json=BODY, headers={"authorization": f"Bearer {token}"})
            is_refused(response, 403, "AccessDeniedException", "^Authentication failed")


class PresigningOfBodies(SigV4QueryAuth):  # type: ignore[misc]  # botocore has no types
    """Signs a body too. AWS's own library for Python would put it into the query."""

    def __init__(self, bedrock: Bedrock, body: bytes, expires: int) -> None:
        credentials = Credentials(bedrock.pair.access_key_id, bedrock.pair.secret)
        super().__init__(credentials, "bedrock", "us-west-2", expires)
        self._body = body

    def payload(self, request: AWSRequest) -> str:
        return hashlib.sha256(self._body).hexdigest()


def presigned(bedrock: Bedrock, url: str, body: bytes = b"", expires: int = 60) -> str:
    request = AWSRequest("POST", url)
    PresigningOfBodies(bedrock, body, expires).add_auth(request)
    return str(request.prepare().url)


async def test_a_presigned_request(bedrock: Bedrock) -> None:
    body = json.dumps(BODY).encode()
    url = presigned(bedrock, f"http://hokku{INVOKE}", body)
    async with bedrock.client() as client:
        client.headers = httpx.Headers({"content-type": "application/json"})
        assert (await client.post(url, content=body)).status_code == 200
        response = await client.post(url, content=body.replace(b"Hi", b"Ho"))
        is_refused(response, 403, "InvalidSignatureException", MISMATCH)
        expired = presigned(bedrock, f"http://hokku{INVOKE}", body, expires=1)
        later = datetime.now(UTC) + timedelta(seconds=3)
        with mock.patch("hokku.api.bedrock.callers.datetime", mock.Mock(now=lambda _: later)):
            response = await client.post(expired, content=body)
        is_refused(response, 403, "InvalidSignatureException", "^Signature expired: ")


def short_term(bedrock: Bedrock, **query: Any) -> str:
    """A short-term API key, as AWS's generator of such tokens makes it."""
    action = query.get("action", "CallWithBearerToken")
    url = presigned(
        bedrock, f"https://bedrock.amazonaws.com/?Action={action}", expires=query.get("expires", 43_200)
    )
    return (
        "bedrock-api-key-" + base64.b64encode(f"{url.removeprefix('https://')}&Version=1".encode()).decode()
    )


async def test_short_term_keys(bedrock: Bedrock) -> None:
    async with bedrock.client() as client:
        good = {"authorization": f"Bearer {short_term(bedrock)}"}
        forged = replace(bedrock, pair=replace(bedrock.pair, secret="x"))
        assert (await client.post(INVOKE, json=BODY, headers=good)).status_code == 200
        for token, name in (
            (short_term(bedrock, action="Other"), "AccessDeniedException"),
            (short_term(bedrock, expires=43_201), "AccessDeniedException"),
            (short_term(forged), "InvalidSignatureException"),
        ):
            response = await client.post(INVOKE, json=BODY, headers={"authorization": f"Bearer {token}"})
            is_refused(response, 403, name, "Authentication failed|does not match")


async def test_where_everybody_is_let_in(bedrock: Bedrock) -> None:
    keys = KeyRing(open_access=True)
    opened = Bedrock(replace(bedrock.services, keys=keys), bedrock.storage, bedrock.pair)
    for auth in (None, bedrock.signing, Signing("x", "y")):
        async with opened.client(auth=auth) as client:
            assert (await client.post(INVOKE, json=BODY)).status_code == 200
    bedrock.services.keys.open_access = True
    async with bedrock.client(
        auth=replace(bedrock.signing, secret="x")
    ) as client:  # whom we know has to be it
        is_refused(await client.post(INVOKE, json=BODY), 403, "InvalidSignatureException", MISMATCH)


async def test_nothing_of_a_secret_is_in_an_answer(bedrock: Bedrock) -> None:
    async with bedrock.client(
        ApiConfig(), OtherBody(bedrock.pair.access_key_id, bedrock.pair.secret)
    ) as client:
        response = await client.post(INVOKE, json=BODY)
    assert not re.search(r"[0-9a-f]{64}", response.text)
    assert bedrock.pair.secret not in response.text
