"""One family of errors, each with its place, its cause and a way out.

    HokkuError
    ├── RequestError             the caller can mend it; a wire answers with a status
    │   ├── InvalidRequest       400 invalid_request_error
    │   │   └── PromptTooLong        it does not fit the model's window
    │   ├── AuthenticationFailed 401 authentication_error
    │   ├── PermissionDenied     403 permission_error
    │   ├── NotFound             404 not_found_error
    │   ├── RequestTooLarge      413 request_too_large
    │   ├── RateLimited          429 rate_limit_error
    │   ├── StorageUnavailable   503 api_error: the database or the file storage does not answer
    │   │   └── StorageFull      503 api_error: no room left on its disk
    │   └── Overloaded           529 overloaded_error
    │       ├── ModelLoading         the model cannot serve yet
    │       └── WaitedTooLong        the request's turn did not come in time
    ├── EngineFailed             500 api_error: the engine broke under a request
    ├── UpstreamFailed           500 api_error: the service that answers in a model's place did, or refused our key
    └── OperatorError            the person at the terminal can mend it; printed in one line, exit code
        ├── BadSetting           2
        ├── ModelNotFound        3   no manifest, file or source of that name
        ├── DigestMismatch       4   the bytes are not the ones the manifest pins
        ├── BadModelFile         5   truncated, corrupt, or of an unsupported kind
        ├── SourceUnreachable    6   the registry or hub did not answer
        ├── DiskFull             7
        ├── AddressInUse         8
        ├── ServerUnreachable    9   a command that talks to a server found none
        └── DatabaseMismatch     10  the database is of another release

Only a wire (floor 6) knows status codes; only the command line knows exit codes.
"""

from __future__ import annotations

from hokku.protocol.records import RateLevels


class HokkuError(Exception):
    """Something went wrong that has a name.

    Args:
        message: one line saying what happened.
        place: where, in the caller's terms: a dotted field path, a file, a setting.
        way_out: what the reader can do next, as a full clause without a full stop.
    """

    def __init__(self, message: str, *, place: str | None = None, way_out: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.way_out = way_out

    def __str__(self) -> str:
        head = f"{self.place}: {self.message}" if self.place else self.message
        return f"{head} ({self.way_out})" if self.way_out else head


class RequestError(HokkuError):
    """The caller sent something that cannot be served as it stands.

    `error_code` is a word for programs, where the wire has one beside the sentence (wire.md section 1.4).
    """

    def __init__(
        self,
        message: str,
        *,
        place: str | None = None,
        way_out: str | None = None,
        error_code: str | None = None,
    ) -> None:
        super().__init__(message, place=place, way_out=way_out)
        self.error_code = error_code


class InvalidRequest(RequestError):
    """A malformed or unserviceable request."""


class PromptTooLong(InvalidRequest):
    """A prompt, or a prompt and its reply, that the model's window has no room for."""


class AuthenticationFailed(RequestError):
    """No credential, or one that is not known."""


class PermissionDenied(RequestError):
    """A known credential without the right."""


class NotFound(RequestError):
    """A path, model or object that does not exist."""


class RequestTooLarge(RequestError):
    """A body over the endpoint's limit."""


class RateLimited(RequestError):
    """Over a configured rate; `retry_after_secs` says when to come back, `levels` how full the buckets are."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_secs: int,
        place: str | None = None,
        levels: RateLevels | None = None,
    ) -> None:
        super().__init__(message, place=place)
        self.retry_after_secs = retry_after_secs
        self.levels = levels


class Overloaded(RequestError):
    """The server has more to do than it can take on; the same request may do later."""


class ModelLoading(Overloaded):
    """The model cannot serve yet."""


class WaitedTooLong(Overloaded):
    """The request waited for its turn until its deadline. Nothing of it was computed."""


class StorageUnavailable(RequestError):
    """The database or the file storage does not answer. Nothing was changed; the same request may do later."""


class StorageFull(StorageUnavailable):
    """The disk has no room left. The same request may do once the operator has made some."""


class EngineFailed(HokkuError):
    """The engine broke under this request."""


class UpstreamFailed(HokkuError):
    """The service that was to answer in a model's place did not, or not as its form says."""


class OperatorError(HokkuError):
    """The person who runs Hokku can mend this."""

    exit_code = 1


class BadSetting(OperatorError):
    """A setting has a value that cannot be used."""

    exit_code = 2


class ModelNotFound(OperatorError):
    """No manifest, file or source of that name."""

    exit_code = 3


class DigestMismatch(OperatorError):
    """The bytes are not the ones the manifest pins."""

    exit_code = 4


class BadModelFile(OperatorError):
    """A model file that is truncated, corrupt, or of an unsupported kind."""

    exit_code = 5


class SourceUnreachable(OperatorError):
    """The registry or hub that holds the weights did not answer."""

    exit_code = 6


class DiskFull(OperatorError):
    """No room where something must be written."""

    exit_code = 7


class AddressInUse(OperatorError):
    """Another program listens on that address."""

    exit_code = 8


class ServerUnreachable(OperatorError):
    """A command that talks to a server found none."""

    exit_code = 9


class DatabaseMismatch(OperatorError):
    """The database has a form that this release of Hokku does not know, or no longer knows."""

    exit_code = 10
