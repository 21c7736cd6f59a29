"""Signatures: the vectors that AWS publishes, and what must not pass.

The vectors are those of github.com/awslabs/aws-c-auth (tests/aws-signing-test-suite/v4), as far as they are not about
S3's way of writing paths.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.api.bedrock.sigv4 import (
    SentRequest,
    canonical_path,
    canonical_query,
    check_claims,
    check_signature,
    is_signed,
    read_signature,
    signature_of,
)
from hokku.protocol.errors import AuthenticationFailed

VECTORS = json.loads((Path(__file__).parent / "sigv4_vectors.json").read_text("utf-8"))
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SIGNED_AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
# Its session token was put into the query after signing, which not every service of AWS lets pass either.
ADDED_LATER = ("post-sts-header-after", "query")
CASES = [(name, kind) for name in VECTORS for kind in ("header", "query")]


def sent(text: str) -> tuple[SentRequest, bytes]:
    """A request as the vectors write it, and its body."""
    head, _, body = text.partition("\n\n")
    first, *lines = head.replace("\n  ", " ").split("\n")
    method, target = first.removesuffix(" HTTP/1.1").split(" ", 1)
    path, _, query = target.encode().partition(b"?")
    fields = (line.partition(":") for line in lines if line)
    headers = [(name.lower(), value) for name, _, value in fields]
    return SentRequest(method, path, query, headers), body.strip("\n").encode()


@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if case != ADDED_LATER])
def test_published_vectors(name: str, kind: str) -> None:
    request, body = sent(VECTORS[name][kind])
    assert is_signed(request)
    signature = read_signature(request)
    check_signature(signature, request, body, SECRET)
    assert signature.access_key_id == "AKIDEXAMPLE"
    assert signature.is_presigned == (kind == "query")
    if name != "post-sts-header-after":
        check_claims(signature, request, "service", SIGNED_AT)


def test_a_token_that_was_added_after_signing_is_refused() -> None:
    with pytest.raises(AuthenticationFailed):
        verify(*sent(VECTORS[ADDED_LATER[0]]["query"]))
    with pytest.raises(AuthenticationFailed, match="'x-amz-security-token' must be a 'SignedHeader'"):
        verify(*sent(VECTORS[ADDED_LATER[0]]["header"]))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server's clock shows the time of another place."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def verify(request: SentRequest, body: bytes, now: datetime = SIGNED_AT, service: str = "service") -> None:
    signature = read_signature(request)
    check_claims(signature, request, service, now)
    check_signature(signature, request, body, SECRET)


@pytest.fixture(params=["header", "query"])
def good(request: pytest.FixtureRequest) -> tuple[SentRequest, bytes]:
    name = "post-x-www-form-urlencoded"
    good = sent(VECTORS[name][request.param])
    verify(*good)
    return good


def test_whatever_is_changed_on_the_way_is_refused(good: tuple[SentRequest, bytes]) -> None:
    request, body = good
    other_headers = [(name, value + ("x" if name == "host" else "")) for name, value in request.headers]
    for changed, changed_body in (
        (replace(request, method="PUT"), body),
        (replace(request, path=b"/other"), body),
        (replace(request, query=request.query + b"&a=b"), body),
        (replace(request, headers=other_headers), body),
        (request, body + b" "),
        (request, b""),
    ):
        with pytest.raises(
            AuthenticationFailed, match="does not match the signature you provided"
        ) as refused:
            verify(changed, changed_body)
        assert refused.value.error_code == "InvalidSignatureException"


def test_a_host_may_be_signed_as_http2_calls_it(good: tuple[SentRequest, bytes]) -> None:
    request, body = good
    names = tuple(sorted(":authority" if n == "host" else n for n in read_signature(request).signed_headers))
    signature = replace(read_signature(request), signed_headers=names)
    signature = replace(
        signature, value=signature_of(signature, request, hashlib.sha256(body).hexdigest(), SECRET)
    )
    check_claims(signature, request, "service", SIGNED_AT)
    check_signature(signature, request, body, SECRET)
    elsewhere = replace(request, headers=[(n, "other" if n == "host" else v) for n, v in request.headers])
    with pytest.raises(AuthenticationFailed, match="does not match"):
        check_signature(signature, elsewhere, body, SECRET)


def test_another_secret_is_refused(good: tuple[SentRequest, bytes]) -> None:
    request, body = good
    signature = read_signature(request)
    with pytest.raises(AuthenticationFailed, match="does not match"):
        check_signature(signature, request, body, SECRET + "x")
    with pytest.raises(AuthenticationFailed, match="does not match"):
        check_signature(replace(signature, value=signature.value[:-1] + "é"), request, body, SECRET)


def test_a_header_that_is_not_signed_is_refused(good: tuple[SentRequest, bytes]) -> None:
    request, body = good
    with pytest.raises(AuthenticationFailed, match="'x-amz-target' must be a 'SignedHeader'"):
        verify(replace(request, headers=[*request.headers, ("x-amz-target", "Other")]), body)
    verify(replace(request, headers=[*request.headers, ("x-forwarded-for", "1.2.3.4")]), body)
    signature = replace(read_signature(request), signed_headers=("x-amz-date",))
    with pytest.raises(AuthenticationFailed, match="'Host' or ':authority' must be a 'SignedHeader'"):
        check_claims(signature, request, "service", SIGNED_AT)


@pytest.mark.parametrize("kind", ["header", "query"])
def test_a_request_is_good_for_a_while(kind: str) -> None:
    request, body = sent(VECTORS["get-vanilla"][kind])
    lifetime = timedelta(minutes=5) if kind == "header" else timedelta(hours=1)
    second = timedelta(seconds=1)
    for age in (-timedelta(minutes=5), lifetime):
        verify(request, body, SIGNED_AT + age)
    with pytest.raises(
        AuthenticationFailed, match="Signature not yet current: 20150830T123600Z is still later"
    ):
        verify(request, body, SIGNED_AT - timedelta(minutes=5) - second)
    with pytest.raises(AuthenticationFailed, match="Signature expired: .* is now earlier than"):
        verify(request, body, SIGNED_AT + lifetime + second)


def test_expiry_is_told_in_the_official_words() -> None:
    request, body = sent(VECTORS["get-vanilla"]["header"])
    with pytest.raises(AuthenticationFailed) as refused:
        verify(request, body, SIGNED_AT + timedelta(minutes=10))
    assert refused.value.message == (
        "Signature expired: 20150830T123600Z is now earlier than 20150830T124100Z (20150830T124600Z - 5 min.)"
    )


@pytest.mark.parametrize(
    ("part", "instead", "sentence"),
    [
        ("/service/", "/s3/", "Credential should be scoped to correct service: 'service'."),
        ("/aws4_request", "/aws3_request", "with a valid terminator: 'aws4_request'"),
        ("/us-east-1/", "//", "scoped to a valid region"),
        ("/20150830/", "/20150829/", "Date in Credential scope does not match YYYYMMDD"),
        ("/us-east-1", "", "must have exactly 5 slash-delimited elements"),
        ("Signature=", "Sign=", r"requires 'Signature' parameter\.$"),
        ("Credential=", "", r"requires 'Credential' parameter\.$"),
        ("X-Amz-Date:20150830T123600Z", "X-Amz-Date:tomorrow", "ISO-8601 'basic format'. Got 'tomorrow'"),
        ("X-Amz-Date:20150830T123600Z", "X-Amz-Date:20151330T123600Z", "ISO-8601 'basic format'"),
        ("X-Amz-Date:20150830T123600Z", "X-Other:1", "either a 'X-Amz-Date' or a 'Date' header"),
    ],
)
def test_headers_that_are_refused_by_name(part: str, instead: str, sentence: str) -> None:
    text = VECTORS["get-vanilla"]["header"]
    assert part in text
    with pytest.raises(AuthenticationFailed, match=sentence):
        verify(*sent(text.replace(part, instead)))


@pytest.mark.parametrize(
    ("part", "instead", "sentence"),
    [
        ("X-Amz-Expires=3600", "X-Amz-Expires=604801", "at most 604800"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=0", "at least 1"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=-1", "at most 604800"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=+1", "at most 604800"),
        ("X-Amz-Expires=3600", f"X-Amz-Expires={'9' * 5000}", "at most 604800"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=\N{SUPERSCRIPT TWO}", "at most 604800"),
        ("X-Amz-Date=", "X-Amz-When=", "must include 'X-Amz-Date'"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "must include 'X-Amz-Algorithm'"),
    ],
)
def test_queries_that_are_refused_by_name(part: str, instead: str, sentence: str) -> None:
    with pytest.raises(AuthenticationFailed, match=sentence):
        verify(*sent(VECTORS["get-vanilla"]["query"].replace(part, instead)))


def test_the_date_header_does_where_there_is_no_other(elsewhere: None) -> None:
    text = VECTORS["get-vanilla"]["header"].replace("X-Amz-Date:20150830T123600Z", "Date:{}")
    dates = (
        "Sun, 30 Aug 2015 12:36:00 GMT",
        "Sun, 30 Aug 2015 14:36:00 +0200",
        "Sun, 30 Aug 2015 12:36:00 -0000",
        "20150830T123600Z",
    )
    for date in dates:
        assert read_signature(sent(text.format(date))[0]).moment == "20150830T123600Z"
    with pytest.raises(AuthenticationFailed, match="Got 'Sunday'"):
        read_signature(sent(text.format("Sunday"))[0])


def test_paths_are_encoded_once_more() -> None:
    assert canonical_path(b"/model/a%3A0/invoke") == "/model/a%253A0/invoke"
    assert canonical_path(b"/model/a:0/invoke") == "/model/a%3A0/invoke"
    assert canonical_path(b"") == canonical_path(b"/..") == "/"
    assert canonical_path(b"/a//b/./c/../d/") == "/a/b/d/"


def test_queries_are_sorted_by_what_is_encoded() -> None:
    assert canonical_query(b"b=2&a=%7E&a=1&&c&X-Amz-Signature=0") == "a=1&a=~&b=2&c="


@given(
    st.text(max_size=40),
    st.text(max_size=40),
    st.binary(max_size=60),
    st.lists(
        st.tuples(st.sampled_from(["host", "date", "x-amz-date", "x"]), st.text(max_size=20)), max_size=4
    ),
)
def test_any_request_is_refused_by_name(
    fields: str, credential: str, query: bytes, rest: list[tuple[str, str]]
) -> None:
    authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0, {fields}"
    for headers in ([("authorization", authorization), *rest], rest):
        request = SentRequest("POST", b"/\xff", b"X-Amz-Algorithm=AWS4-HMAC-SHA256&" + query, headers)
        assert is_signed(request)
        with pytest.raises(AuthenticationFailed):
            verify(request, b"")
