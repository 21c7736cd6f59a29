"""AWS Signature Version 4, from the side that verifies (docs.aws.amazon.com/IAM, "Create a signed AWS API request").

A signature covers the method, the path, the query, the headers that it names, and the body. It comes in the
`Authorization` header, or in the query of a presigned request. Nothing here knows who has which secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from hokku.protocol.errors import AuthenticationFailed

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
MAX_SKEW = timedelta(minutes=5)
MAX_PRESIGNED_SECS = 7 * 24 * 3600

# The names that AWS gives to what is wrong, which clients see as the exception's.
INCOMPLETE = "IncompleteSignatureException"
INVALID = "InvalidSignatureException"

_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
_MOMENT = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_MOMENT_FORMAT = "%Y%m%dT%H%M%SZ"
_EXPIRES = re.compile(r"[0-9]{1,8}")
_SPACES = re.compile(r" +")
_AUTHORITY = ":authority"  # the host, as HTTP/2 calls it
_NUM_SCOPE_PARTS = 5


@dataclass(frozen=True, slots=True)
class SentRequest:
    """What of a request can be signed, besides its body."""

    method: str
    path: bytes  # as it was sent, percent-encoded
    query: bytes
    headers: Sequence[tuple[str, str]]  # names in lower case, in the order in which they came

    def header(self, name: str) -> str | None:
        """The first of this name."""
        return next((value for each, value in self.headers if each == name), None)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and what it says about itself."""

    access_key_id: str
    scope: str  # date/region/service/aws4_request
    moment: str  # 20150830T123600Z
    signed_headers: tuple[str, ...]
    value: str  # 64 hexadecimal digits
    lifetime: timedelta | None = None  # of a presigned request

    @property
    def region(self) -> str:
        """Where the client believes to be calling."""
        return self.scope.split("/")[1]

    @property
    def is_presigned(self) -> bool:
        """Whether it came in the query."""
        return self.lifetime is not None


def is_signed(request: SentRequest) -> bool:
    """Whether there is something that wants to be a signature."""
    authorization = request.header("authorization") or ""
    return authorization.startswith(ALGORITHM) or b"X-Amz-Algorithm=" in request.query


def read_signature(request: SentRequest) -> Signature:
    """The signature of a request that `is_signed`. Raises `AuthenticationFailed` for one that is not whole."""
    authorization = request.header("authorization") or ""
    if authorization.startswith(ALGORITHM):
        return _of_header(authorization, request)
    return _of_query(request)


def check_claims(signature: Signature, request: SentRequest, service: str, now: datetime) -> None:
    """Whether the signature is for this service and this moment, and covers what it has to. Raises
    `AuthenticationFailed`."""
    _check_scope(signature, service)
    _check_time(signature, now)
    _check_coverage(signature, request)


def check_signature(signature: Signature, request: SentRequest, body: bytes, secret: str) -> None:
    """Whether it was made with `secret`, for exactly this request. Raises `AuthenticationFailed`."""
    expected = signature_of(signature, request, hashlib.sha256(body).hexdigest(), secret)
    if not hmac.compare_digest(expected.encode(), signature.value.encode("utf-8", "replace")):
        raise _invalid(_MISMATCH)


def signature_of(signature: Signature, request: SentRequest, body_sha256: str, secret: str) -> str:
    """What the signature's value has to be."""
    # Headers were read as Latin-1, byte for byte; what is no Latin-1 was in no header.
    canonical = canonical_request(signature, request, body_sha256).encode("latin-1", "replace")
    digest = hashlib.sha256(canonical).hexdigest()
    to_sign = f"{ALGORITHM}\n{signature.moment}\n{signature.scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in signature.scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def canonical_request(signature: Signature, request: SentRequest, body_sha256: str) -> str:
    """The one form in which both sides write the request."""
    headers = "".join(f"{name}:{_canonical_value(name, request)}\n" for name in signature.signed_headers)
    return "\n".join(
        (
            request.method,
            canonical_path(request.path),
            canonical_query(request.query),
            headers,
            ";".join(signature.signed_headers),
            body_sha256,
        )
    )


def canonical_path(path: bytes) -> str:
    """Without empty and dotted segments, and encoded once more: for every service but S3 that is the rule."""
    segments: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    is_folder = bool(segments) and path.rpartition(b"/")[2] in (b"", b".", b"..")
    return quote(b"/" + b"/".join(segments) + (b"/" if is_folder else b""), safe="/")


def canonical_query(query: bytes) -> str:
    """Parameters in the order of their encoded names and values, the signature itself left out."""
    pairs = (pair.partition(b"=") for pair in query.split(b"&") if pair)
    encoded = ((_encoded_again(name), _encoded_again(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in sorted(encoded) if name != "X-Amz-Signature")


def _encoded_again(text: bytes) -> str:
    return quote(unquote_to_bytes(text), safe="")


def _canonical_value(name: str, request: SentRequest) -> str:
    name = "host" if name == _AUTHORITY else name
    values = (value for each, value in request.headers if each == name)
    return ",".join(_SPACES.sub(" ", value.strip()) for value in values)


def _of_header(authorization: str, request: SentRequest) -> Signature:
    parts = (part.strip().partition("=") for part in authorization.removeprefix(ALGORITHM).split(","))
    fields = {name: value for name, _, value in parts}
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not fields.get(name)]
    moment = _moment_of_headers(request)
    if missing or moment is None:
        sentences = [f"Authorization header requires '{name}' parameter." for name in missing]
        if moment is None:
            sentences.append(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
            )
        raise AuthenticationFailed(" ".join(sentences), error_code=INCOMPLETE)
    return _signature(fields["Credential"], moment, fields["SignedHeaders"], fields["Signature"], None)


def _of_query(request: SentRequest) -> Signature:
    fields = dict(parse_qsl(request.query.decode("latin-1"), keep_blank_values=True))
    names = ("Credential", "Signature", "SignedHeaders", "Date", "Expires")
    missing = [f"X-Amz-{name}" for name in names if not fields.get(f"X-Amz-{name}")]
    if missing or fields.get("X-Amz-Algorithm") != ALGORITHM:
        named = missing or ["X-Amz-Algorithm"]
        sentences = (f"AWS query-string parameters must include '{name}'." for name in named)
        raise AuthenticationFailed(" ".join(sentences), error_code=INCOMPLETE)
    secs = fields["X-Amz-Expires"]
    if not _EXPIRES.fullmatch(secs) or not 1 <= int(secs) <= MAX_PRESIGNED_SECS:
        raise AuthenticationFailed(
            f"X-Amz-Expires must be a number of seconds, at least 1 and at most {MAX_PRESIGNED_SECS}.",
            error_code=INCOMPLETE,
        )
    return _signature(
        fields["X-Amz-Credential"],
        fields["X-Amz-Date"],
        fields["X-Amz-SignedHeaders"],
        fields["X-Amz-Signature"],
        timedelta(seconds=int(secs)),
    )


def _signature(
    credential: str, moment: str, signed_headers: str, value: str, lifetime: timedelta | None
) -> Signature:
    access_key_id, _, scope = credential.partition("/")
    if len(credential.split("/")) != _NUM_SCOPE_PARTS:
        raise AuthenticationFailed(
            "Credential must have exactly 5 slash-delimited elements, e.g. "
            f"keyid/date/region/service/term, got '{credential}'.",
            error_code=INCOMPLETE,
        )
    if not _MOMENT.fullmatch(moment) or _parsed(moment) is None:
        raise AuthenticationFailed(
            f"Date must be in ISO-8601 'basic format'. Got '{moment}'.", error_code=INCOMPLETE
        )
    names = tuple(signed_headers.split(";"))
    return Signature(access_key_id, scope, moment, names, value, lifetime)


def _moment_of_headers(request: SentRequest) -> str | None:
    moment = request.header("x-amz-date")
    if moment is not None:
        return moment
    date = request.header("date")
    if date is None or _MOMENT.fullmatch(date):
        return date
    try:
        moment_of_date = parsedate_to_datetime(date)
        if moment_of_date.tzinfo is None:  # `-0000`: in UTC, wherever the sender is (RFC 5322, section 3.3)
            moment_of_date = moment_of_date.replace(tzinfo=UTC)
        return moment_of_date.astimezone(UTC).strftime(_MOMENT_FORMAT)
    except (ValueError, OverflowError):
        return date


def _parsed(moment: str) -> datetime | None:
    try:
        return datetime.strptime(moment, _MOMENT_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _check_scope(signature: Signature, service: str) -> None:
    date, region, named_service, terminator = signature.scope.split("/")
    if terminator != TERMINATOR:
        raise _invalid(f"Credential should be scoped with a valid terminator: '{TERMINATOR}'.")
    if named_service != service:
        raise _invalid(f"Credential should be scoped to correct service: '{service}'.")
    if not region:
        raise _invalid("Credential should be scoped to a valid region.")
    if date != signature.moment[:8]:
        raise _invalid(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{date}' != '{signature.moment[:8]}', from '{signature.moment}'."
        )


def _check_time(signature: Signature, now: datetime) -> None:
    made_at = _parsed(signature.moment)
    assert made_at is not None, "a signature is only made with a moment that can be read"
    shown = now.strftime(_MOMENT_FORMAT)
    if made_at > now + MAX_SKEW:
        raise _invalid(
            f"Signature not yet current: {signature.moment} is still later than "
            f"{(now + MAX_SKEW).strftime(_MOMENT_FORMAT)} ({shown} + 5 min.)"
        )
    if signature.lifetime is not None:
        ends_at = made_at + signature.lifetime
        if now > ends_at:
            raise _invalid(
                f"Signature expired: {ends_at.strftime(_MOMENT_FORMAT)} is now earlier than {shown}"
            )
    elif made_at < now - MAX_SKEW:
        raise _invalid(
            f"Signature expired: {signature.moment} is now earlier than "
            f"{(now - MAX_SKEW).strftime(_MOMENT_FORMAT)} ({shown} - 5 min.)"
        )


def _check_coverage(signature: Signature, request: SentRequest) -> None:
    """What somebody on the way could change or add must not count."""
    if not {"host", _AUTHORITY}.intersection(signature.signed_headers):
        raise _invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    for name, _ in request.headers:
        if name.startswith("x-amz-") and name not in signature.signed_headers:
            raise _invalid(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")


def _invalid(sentence: str) -> AuthenticationFailed:
    return AuthenticationFailed(sentence, error_code=INVALID)
