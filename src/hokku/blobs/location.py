"""Where blobs are, as a setting says it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from hokku.blobs.directory import Directory
from hokku.blobs.store import BlobStore, Bucket
from hokku.protocol.errors import BadSetting

if TYPE_CHECKING:
    from hokku.blobs.s3 import S3, S3Config

_EXAMPLES = (
    "for example /var/lib/hokku/blobs or s3://bucket/prefix?endpoint=https://s3.example.com&region=eu-1"
)
_S3 = "s3://"


def open_blobs(location: str, kind: str) -> BlobStore:
    """The store of one kind of blob: no two kinds share names. Nothing is reached before the first use.

    Args:
        location: a directory, or `s3://bucket/prefix?endpoint=…&region=…`.
        kind: "files" or another word, the last step of the path or prefix.

    Raises `BadSetting`.
    """
    return _open(location, kind, "blobs")


def open_bucket(location: str, setting: str) -> Bucket:
    """Objects that others name, at a location as `open_blobs` has it. Raises `BadSetting`."""
    return _open(location, "", setting)


def _open(location: str, kind: str, setting: str) -> Directory | S3:
    if not location.startswith(_S3):
        return Directory(Path(location) / kind)
    if find_spec("obstore") is None:
        raise BadSetting(
            "the library for S3 is not installed", place=setting, way_out="pip install 'hokku-llm[s3]'"
        )
    from hokku.blobs.s3 import S3  # rarely needed

    return S3(_s3_config(location, kind, setting))


def _s3_config(location: str, kind: str, setting: str) -> S3Config:
    url = urlsplit(location)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    unknown = [name for name in options if name not in ("endpoint", "region")]
    if not url.hostname or url.netloc != url.hostname or unknown:
        problem = f"does not know {unknown[0]!r}" if unknown else "must be s3:// and the name of a bucket"
        raise BadSetting(problem, place=setting, way_out=_EXAMPLES)
    endpoint = options.get("endpoint")
    if endpoint is not None and not endpoint.startswith(("https://", "http://")):
        raise BadSetting("the endpoint must be a URL", place=setting, way_out=_EXAMPLES)
    from hokku.blobs.s3 import S3Config

    prefix = "/".join(filter(None, (url.path.strip("/"), kind)))
    return S3Config(url.netloc, prefix, endpoint, options.get("region"))
