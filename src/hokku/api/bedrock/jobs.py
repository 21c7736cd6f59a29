"""Model invocation jobs: the routes, and jobs as clients see them (wire.md section 16.6)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.fields import (
    a_string,
    an_array,
    an_integer,
    an_object,
    one_of,
    refuse,
    refuse_extras,
    required,
)
from hokku.api.bedrock.callers import Call, read_call
from hokku.api.bedrock.control import ACCOUNT_ID, MAX_PAGE
from hokku.api.bedrock.job_wire import CONVERSE, INVOKE_MODEL, check_record, dialect_text, place_of
from hokku.api.bedrock.names import manifest_of
from hokku.api.body import check_body, content_encoding
from hokku.api.config import ApiConfig, Services
from hokku.protocol.batches import Batch
from hokku.protocol.errors import InvalidRequest, NotFound
from hokku.service.call_limits import Calls
from hokku.service.jobs import JOB, Jobs, Place
from hokku.service.keys import Identity

HOURS = (24, 168)
STATUSES = (
    "Submitted",
    "InProgress",
    "Completed",
    "Failed",
    "Stopping",
    "Stopped",
    "PartiallyCompleted",
    "Expired",
    "Validating",
    "Scheduled",
)
REQUIRED_KEYS = ("jobName", "roleArn", "modelId", "inputDataConfig", "outputDataConfig")
OTHER_KEYS = ("clientRequestToken", "timeoutDurationInHours", "modelInvocationType", "tags")
MAX_TAGS = 200
_ID_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789"
_NUM_ID_CHARS = 12
_ROLE = re.compile(r"arn:aws(-[^:]+)?:iam::([0-9]{12})?:role/.+")
_NAME = re.compile(r"[a-zA-Z0-9]{1,63}(-*[a-zA-Z0-9+\-.]){0,63}")
_MAX_NAME_CHARS = 63
_TOKEN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,255}")
_ARN = re.compile(r"(?:arn:aws[a-z-]*:bedrock:[a-z0-9-]*:[0-9]*:model-invocation-job/)?([a-z0-9]{12})")
MANIFEST = "manifest.json"
_ROWS_AT_ONCE = 1_000
_MAX_BODY_BYTES = 100_000  # what is asked is kept with the job


def job_routes(services: Services, config: ApiConfig) -> list[Route]:
    """Every route of jobs."""
    endpoints = JobsEndpoints(services, config)
    return [
        Route("/model-invocation-job", endpoints.create, methods=["POST"]),
        Route("/model-invocation-jobs", endpoints.list, methods=["GET"]),
        Route("/model-invocation-job/{id:path}/stop", endpoints.stop, methods=["POST"]),
        Route("/model-invocation-job/{id:path}", endpoints.retrieve, methods=["GET"]),
    ]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A checked body of CreateModelInvocationJob."""

    asked: dict[str, Any]  # as it was asked, for whoever wants to know later
    model: str  # the model's id here
    kind: str
    source: Place
    target: Place
    lifetime: timedelta


class JobsEndpoints:
    """The endpoints. Each finds out who calls first."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config

    async def create(self, request: Request) -> Response:
        """`POST /model-invocation-job`. The input is taken in before the answer."""
        jobs, call = await self._call(request)
        if self._services.call_limits is not None:
            await self._services.call_limits.refuse_spent(call.identity)
        job = await check_body(call.body, content_encoding(request), _MAX_BODY_BYTES, self._checked)
        job_id = _job_id(call.identity, job.asked.get("clientRequestToken"))
        batch = await _found(jobs, job_id, call.identity)  # of an earlier attempt with the same token
        if batch is None:
            try:
                batch = await asyncio.to_thread(_submit, jobs, call, job_id, job)
            except InvalidRequest:
                # A client that does not wait asks again while its input is still being read.
                batch = await _found(jobs, job_id, call.identity)
                if batch is None:
                    raise
        return _json({"jobArn": _arn(batch)})

    async def retrieve(self, request: Request) -> Response:
        """`GET /model-invocation-job/{id or ARN}`."""
        jobs, call = await self._call(request)
        with _told_of_jobs():
            batch = await jobs.batches.batch(_read_id(request), call.identity)
        return _json(job_object(batch))

    async def stop(self, request: Request) -> Response:
        """`POST /model-invocation-job/{id or ARN}/stop`."""
        jobs, call = await self._call(request)
        with _told_of_jobs():
            await jobs.batches.cancel(_read_id(request), call.identity)
        return _json({})

    async def list(self, request: Request) -> Response:
        """`GET /model-invocation-jobs`."""
        jobs, call = await self._call(request)
        query = JobQuery(request.query_params)
        found = [job async for job in _every_job(jobs, call.identity) if query.wants(job)]
        return _json(query.page(found))

    async def _call(self, request: Request) -> tuple[Jobs, Call]:
        call = await read_call(request, self._services.keys, _MAX_BODY_BYTES)
        if self._services.call_limits is not None:
            await self._services.call_limits.admit(call.identity, Calls.BATCHES)
        if self._services.jobs is None:
            raise NotFound("Not found")
        return self._services.jobs, call

    def _checked(self, body: dict[str, Any]) -> NewJob:
        """Raises `InvalidRequest`."""
        refuse_extras(body, (*REQUIRED_KEYS, *OTHER_KEYS), "")
        for key in ("jobName", "roleArn", "modelId"):
            a_string(required(body, key, ""), key)
        if not _NAME.fullmatch(body["jobName"]) or len(body["jobName"]) > _MAX_NAME_CHARS:
            refuse("jobName", f"String should match pattern '{_NAME.pattern}'")
        if not _ROLE.fullmatch(body["roleArn"]):
            refuse("roleArn", f"String should match pattern '{_ROLE.pattern}'")
        token = body.get("clientRequestToken")
        if token is not None and not _TOKEN.fullmatch(a_string(token, "clientRequestToken")):
            refuse("clientRequestToken", f"String should match pattern '{_TOKEN.pattern}'")
        kind = body.get("modelInvocationType", INVOKE_MODEL)
        if kind not in (INVOKE_MODEL, CONVERSE):
            refuse("modelInvocationType", one_of((INVOKE_MODEL, CONVERSE)))
        _check_tags(body.get("tags", []))
        manifest = manifest_of(self._services.catalogue, body["modelId"], self._config.compatibility)
        return NewJob(
            body,
            manifest.id,
            kind,
            _place(body, "inputDataConfig", "s3InputDataConfig", ("s3Uri", "s3InputFormat")),
            _place(body, "outputDataConfig", "s3OutputDataConfig", ("s3Uri",)),
            _lifetime(body.get("timeoutDurationInHours", HOURS[0])),
        )


def job_object(batch: Batch) -> dict[str, Any]:
    """A job."""
    told = json.loads(batch.dialect)
    asked = {key: value for key, value in told["asked"].items() if key != "tags"}
    counts = batch.counts
    changed_at = batch.ended_at or batch.cancel_initiated_at or batch.created_at
    ended = {"endTime": _timestamp(batch.ended_at)} if batch.ended_at else {}
    return {
        **asked,
        "jobArn": _arn(batch),
        "status": job_status(batch),
        "submitTime": _timestamp(batch.created_at),
        "lastModifiedTime": _timestamp(changed_at),
        **ended,
        "jobExpirationTime": _timestamp(batch.expires_at),
        "timeoutDurationInHours": (batch.expires_at - batch.created_at) // timedelta(hours=1),
        "modelInvocationType": told["kind"],
        "totalRecordCount": counts.total,
        "processedRecordCount": counts.succeeded + counts.errored,
        "successRecordCount": counts.succeeded,
        "errorRecordCount": counts.errored,
    }


def job_status(batch: Batch) -> str:
    """The wire's word for where a job stands."""
    counts = batch.counts
    if batch.status == "in_progress":
        return "InProgress"
    if batch.status == "canceling":
        return "Stopping"
    if counts.canceled:
        return "Stopped"
    if counts.expired:
        return "PartiallyCompleted" if counts.succeeded + counts.errored else "Expired"
    return "Completed"


class JobQuery:
    """Which jobs a client asks to see, newest first unless it says otherwise. Raises `InvalidRequest`."""

    def __init__(self, query: QueryParams) -> None:
        self._status = _choice(query, "statusEquals", STATUSES)
        self._name = query.get("nameContains", "")
        self._after = _moment(query, "submitTimeAfter")
        self._before = _moment(query, "submitTimeBefore")
        _choice(query, "sortBy", ("CreationTime",))
        self._is_ascending = _choice(query, "sortOrder", ("Ascending", "Descending")) == "Ascending"
        limit = query.get("maxResults", str(MAX_PAGE))
        if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= MAX_PAGE:
            refuse("maxResults", f"Input should be a whole number from 1 to {MAX_PAGE}")
        self._limit = int(limit)
        self._token = query.get("nextToken")

    def wants(self, batch: Batch) -> bool:
        """Whether a job is one of them."""
        return (
            (self._status is None or job_status(batch) == self._status)
            and self._name in json.loads(batch.dialect)["asked"]["jobName"]
            and (self._after is None or batch.created_at > self._after)
            and (self._before is None or batch.created_at < self._before)
        )

    def page(self, found: list[Batch]) -> dict[str, Any]:
        """One page of them; a token is the last one's id."""
        jobs = found[::-1] if self._is_ascending else found
        ids = [batch.id.removeprefix(JOB) for batch in jobs]
        if self._token is not None and self._token not in ids:
            refuse("nextToken", "is none that this server gave out for these jobs")
        start = ids.index(self._token) + 1 if self._token is not None else 0
        shown = jobs[start : start + self._limit]
        more = {"nextToken": shown[-1].id.removeprefix(JOB)} if start + self._limit < len(jobs) else {}
        return {"invocationJobSummaries": [job_object(batch) for batch in shown], **more}


async def _every_job(jobs: Jobs, identity: Identity) -> AsyncIterator[Batch]:
    after_id = None
    has_more = True
    while has_more:
        found, has_more = await jobs.batches.page(identity, _ROWS_AT_ONCE, after_id, None)
        for batch in found:
            yield batch
        after_id = found[-1].id if found else None


async def _found(jobs: Jobs, job_id: str, identity: Identity) -> Batch | None:
    try:
        return await jobs.batches.batch(job_id, identity)
    except NotFound:
        return None


def _submit(jobs: Jobs, call: Call, job_id: str, job: NewJob) -> Batch:
    dialect = dialect_text(job.model, job.kind, call.region, job.asked)
    return jobs.submit(call.identity, job_id, dialect, job.source, job.target, job.lifetime, check_record)


def _job_id(identity: Identity, token: str | None) -> str:
    """The same for the same token of the same workspace, so that an attempt that is made again makes no second job."""
    given = secrets.token_bytes(32) if token is None else f"{identity.workspace_id} {token}".encode()
    number = int.from_bytes(hashlib.sha256(given).digest())
    digits = []
    for _ in range(_NUM_ID_CHARS):
        number, digit = divmod(number, len(_ID_CHARS))
        digits.append(_ID_CHARS[digit])
    return JOB + "".join(digits)


def _read_id(request: Request) -> str:
    found = _ARN.fullmatch(request.path_params["id"])
    if found is None:
        refuse("jobIdentifier", "Input should be the ARN of a job, or the 12 characters at its end")
    return JOB + found[1]


def _arn(batch: Batch) -> str:
    region = json.loads(batch.dialect)["region"]
    return f"arn:aws:bedrock:{region}:{ACCOUNT_ID}:model-invocation-job/{batch.id.removeprefix(JOB)}"


def _place(body: dict[str, Any], config: str, s3_config: str, known: tuple[str, ...]) -> Place:
    outer = an_object(body.get(config, {}), config)
    refuse_extras(outer, (s3_config,), config)
    path = f"{config}.{s3_config}"
    inner = an_object(required(outer, s3_config, config), path)
    refuse_extras(inner, known, path)
    if inner.get("s3InputFormat", "JSONL") != "JSONL":
        refuse(f"{path}.s3InputFormat", one_of(("JSONL",)))
    place = place_of(a_string(required(inner, "s3Uri", path), f"{path}.s3Uri"), f"{path}.s3Uri")
    if config == "inputDataConfig" and (not place.key or place.key.endswith("/")):
        refuse(f"{path}.s3Uri", "must name one object, not a folder")
    if config == "inputDataConfig" and place.key.rpartition("/")[2] == MANIFEST:
        refuse(f"{path}.s3Uri", f"must not be called {MANIFEST}, as the summary of the results is")
    return place


def _lifetime(value: object) -> timedelta:
    hours = an_integer(value, "timeoutDurationInHours")
    if not HOURS[0] <= hours <= HOURS[1]:
        refuse("timeoutDurationInHours", f"Input should be from {HOURS[0]} to {HOURS[1]}")
    return timedelta(hours=hours)


def _check_tags(value: object) -> None:
    """They are kept with the job, for its maker's own books."""
    tags = an_array(value, "tags")
    if len(tags) > MAX_TAGS:
        refuse("tags", f"List should have at most {MAX_TAGS} items")
    for index, tag in enumerate(tags):
        path = f"tags.{index}"
        refuse_extras(an_object(tag, path), ("key", "value"), path)
        for key in ("key", "value"):
            a_string(required(tag, key, path), f"{path}.{key}")


def _choice(query: QueryParams, name: str, choices: tuple[str, ...]) -> str | None:
    value = query.get(name)
    if value is not None and value not in choices:
        refuse(name, f"Input should be one of {', '.join(choices)}")
    return value


def _moment(query: QueryParams, name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        refuse(name, "Input should be a valid timestamp")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def _told_of_jobs() -> Iterator[None]:
    """Inside, what is not there is a job."""
    try:
        yield
    except NotFound:
        raise NotFound("The provided job identifier is not found.") from None


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _json(value: object) -> Response:
    return Response(json.dumps(value), 200, media_type="application/json")
