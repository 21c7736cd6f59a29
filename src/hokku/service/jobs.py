"""Jobs: batches whose requests lie in a bucket as lines, and whose results are put into one.

A job is a batch like any other, of another kind of id; what its wire has to remember of it is in its dialect. Its
requests stand in the client's order, so that input and results are read side by side when it ends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hokku.blobs.store import BlobStore, Bucket
from hokku.protocol.batches import Batch, ResultLine
from hokku.protocol.errors import HokkuError, InvalidRequest, NotFound, RequestTooLarge, StorageUnavailable
from hokku.service.batches import Batches
from hokku.service.keys import Identity

_log = logging.getLogger(__name__)

JOB = "job_"  # how ids of jobs begin
MAX_LINE_BYTES = 25_000_000
MAX_RECORDS = 50_000
_PIECE_BYTES = 1 << 20  # of one write
_MAX_KEY_BYTES = 1_024  # of S3
_MAX_STEP_BYTES = 250  # of a file's name, with room for what the name of results adds


@dataclass(frozen=True, slots=True)
class Place:
    """An object in a bucket, or where objects are to be put: `s3://bucket/key`."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class OpenBucket:
    """A bucket that a workspace's jobs may read from and write to."""

    workspace_id: str
    name: str


class Jobs:
    """What callers may do with jobs.

    Args:
        batches: those whose ids begin with `JOB`.
        buckets: the ones that the operator has opened, each to one workspace.
        max_bytes: of a job's input.
    """

    def __init__(self, batches: Batches, buckets: Mapping[OpenBucket, Bucket], max_bytes: int) -> None:
        self.batches = batches
        self._buckets = buckets
        self._max_bytes = max_bytes

    def submit(
        self,
        identity: Identity,
        job_id: str,
        dialect: str,
        source: Place,
        target: Place,
        lifetime: timedelta,
        check: Callable[[bytes], None],
    ) -> Batch:
        """Take in every line of `source`. Blocks.

        Args:
            check: told of every line. Raises `InvalidRequest` for one that is no record.

        Raises `InvalidRequest` for a place that cannot be used or an input that is none, `RateLimited`, `StorageFull`,
        `StorageUnavailable`.
        """
        bucket_of(self._buckets, identity.workspace_id, target)
        draft = self.batches.draft(identity, dialect)
        try:
            num_records = 0
            with self._opened(identity, source) as pieces:
                for line in lines_of(pieces, self._max_bytes):
                    check(line)
                    draft.take(str(num_records), line, b"")
                    num_records += 1
                    if num_records > MAX_RECORDS:
                        raise InvalidRequest(f"The input has more than {MAX_RECORDS:,} records")
            if not num_records:
                raise InvalidRequest("The input has no records")
            return draft.keep(job_id, lifetime)
        finally:
            draft.discard()

    @contextmanager
    def _opened(self, identity: Identity, source: Place) -> Iterator[Iterator[bytes]]:
        bucket = bucket_of(self._buckets, identity.workspace_id, source)
        try:
            with bucket.open(source.key) as pieces:
                yield pieces
        except NotFound:
            raise InvalidRequest(f"There is no object s3://{source.bucket}/{source.key}") from None


class JobDelivery:
    """Puts the results of jobs into their buckets.

    Args:
        blobs: where batches keep what they were asked.
        buckets: as for `Jobs`.
        target_of: where a job's results go, and under which name; None for a batch that is no job.
    """

    def __init__(
        self,
        blobs: BlobStore,
        buckets: Mapping[OpenBucket, Bucket],
        target_of: Callable[[Batch], tuple[Place, str] | None],
    ) -> None:
        self._blobs = blobs
        self._buckets = buckets
        self._target_of = target_of

    def deliver(self, batch: Batch, lines: Iterator[ResultLine]) -> bool:
        """Write all results of a batch that is a job; whether they have arrived, or never can. A second time it writes
        the same again. Blocks."""
        target = self._target_of(batch)
        if target is None:
            return True
        try:
            self._write(batch, *target, lines)
        except StorageUnavailable as cause:
            _log.warning("results of %s wait for their bucket: %s", batch.id, cause)
            return False
        except HokkuError as failure:
            _log.error("results of %s cannot be delivered: %s", batch.id, failure)
        return True

    def _write(self, batch: Batch, place: Place, name: str, lines: Iterator[ResultLine]) -> None:
        bucket = bucket_of(self._buckets, batch.workspace_id, place)
        tally: dict[str, int] = dict.fromkeys(("inputTokenCount", "outputTokenCount"), 0)
        with self._blobs.open(batch.input_blob) as pieces, bucket.writer_of(f"{place.key}{name}") as writer:
            waiting = bytearray()
            # One line of the input for each result, in the same order.
            for record, line in zip(lines_of(pieces, None), lines, strict=True):
                if line.result is None:
                    continue  # canceled or expired: it is as if it had not been asked
                result = json.loads(line.result)
                _count(result, tally)
                waiting += json.dumps(json.loads(record) | result, ensure_ascii=False).encode() + b"\n"
                if len(waiting) >= _PIECE_BYTES:
                    writer.write(bytes(waiting))
                    waiting.clear()
            writer.write(bytes(waiting))
            writer.keep()
        counts = batch.counts
        manifest = {
            "totalRecordCount": counts.total,
            "processedRecordCount": counts.succeeded + counts.errored,
            "successRecordCount": counts.succeeded,
            "errorRecordCount": counts.errored,
            **tally,
        }
        with bucket.writer_of(f"{place.key}manifest.json.out") as writer:
            writer.write(json.dumps(manifest).encode())
            writer.keep()


def bucket_of(buckets: Mapping[OpenBucket, Bucket], workspace_id: str, place: Place) -> Bucket:
    """The bucket of a place. Raises `InvalidRequest` where it is not open to a workspace, or the key is none."""
    bucket = buckets.get(OpenBucket(workspace_id, place.bucket))
    if bucket is None:
        raise InvalidRequest(
            f"The bucket {place.bucket} is not open to jobs of this workspace; the operator opens it with the setting "
            "job_buckets"
        )
    _check_key(place)
    return bucket


def _check_key(place: Place) -> None:
    """A key may be a path on a disk; what cannot be written there must be known before the work is done."""
    named, steps = f"s3://{place.bucket}/{place.key}", place.key.rstrip("/").split("/")
    if any(step in ("", ".", "..") for step in steps if place.key):
        raise InvalidRequest(f"{named} has an empty step, or one of dots")
    if any(char < " " or char == "\x7f" for char in place.key):
        raise InvalidRequest(f"s3://{place.bucket}/{place.key!a} has a control character")
    if len(place.key.encode()) > _MAX_KEY_BYTES or any(
        len(step.encode()) > _MAX_STEP_BYTES for step in steps
    ):
        raise InvalidRequest(
            f"{named} is too long: a key has at most {_MAX_KEY_BYTES:,} bytes, each of its steps at most "
            f"{_MAX_STEP_BYTES}"
        )


def lines_of(pieces: Iterator[bytes], max_bytes: int | None) -> Iterator[bytes]:
    """Lines that are not empty, without their ends. Raises `RequestTooLarge` for a line over `MAX_LINE_BYTES`, or for
    more than `max_bytes` of them."""
    begun = bytearray()
    num_bytes = 0
    for piece in pieces:
        num_bytes += len(piece)
        if max_bytes is not None and num_bytes > max_bytes:
            raise RequestTooLarge(f"The input exceeds {max_bytes:,} bytes")
        *whole, rest = piece.split(b"\n")
        for end in whole:
            begun += end
            _refuse_endless(begun)
            if line := bytes(begun).strip():
                yield line
            begun.clear()
        begun += rest
        _refuse_endless(begun)
    if line := bytes(begun).strip():
        yield line


def _refuse_endless(line: bytearray) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise RequestTooLarge(f"A record exceeds {MAX_LINE_BYTES:,} bytes")


def _count(result: Mapping[str, Any], tally: dict[str, int]) -> None:
    usage = result.get("modelOutput", {}).get("usage", {})
    tally["inputTokenCount"] += usage.get("input_tokens", usage.get("inputTokens", 0))
    tally["outputTokenCount"] += usage.get("output_tokens", usage.get("outputTokens", 0))
