"""Records of jobs: how they are read, and what is written beside them (wire.md section 16.6)."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

from hokku.api.anthropic.fields import an_object, refuse_deep, required
from hokku.api.anthropic.sse import message_object
from hokku.api.bedrock.converse import converse_request
from hokku.api.bedrock.converse_body import read_converse_body
from hokku.api.bedrock.converse_reply import ReplyTeller
from hokku.api.bedrock.errors import error_object, status_and_name
from hokku.api.bedrock.invoke_body import parse_invoke_body
from hokku.api.bedrock.invoke_replies import MARK
from hokku.api.body import parse_object
from hokku.api.cloud_ids import marked_reply
from hokku.api.config import Compatibility
from hokku.protocol.batches import Batch
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.events import Reply
from hokku.protocol.messages import MessagesRequest
from hokku.service.jobs import JOB, Place
from hokku.service.models import Catalogue

INVOKE_MODEL, CONVERSE = "InvokeModel", "Converse"
OUTPUT_SUFFIX = ".out"
MAX_RECORD_DEPTH = 200  # more than any request may have; a record is read and written again when its job ends


def dialect_text(model: str, kind: str, region: str, asked: dict[str, Any]) -> str:
    """What has to be remembered of a job: the model's id here, the form of its records, and what its maker asked."""
    return json.dumps({"model": model, "kind": kind, "region": region, "asked": asked})


def place_of(uri: str, path: str) -> Place:
    """`s3://bucket/key`. Raises `InvalidRequest`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise InvalidRequest("must be s3:// and the name of a bucket", place=path)
    return Place(bucket, key)


def target_of(batch: Batch) -> tuple[Place, str] | None:
    """The folder of a job's results, and the name of their file; None for a batch that is no job."""
    if not batch.id.startswith(JOB):
        return None
    asked = json.loads(batch.dialect)["asked"]
    source = place_of(asked["inputDataConfig"]["s3InputDataConfig"]["s3Uri"], "")
    target = place_of(asked["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"], "")
    above = target.key.rstrip("/")
    folder = f"{above}/" if above else ""
    name = source.key.rpartition("/")[2]
    return Place(target.bucket, f"{folder}{batch.id.removeprefix(JOB)}/"), name + OUTPUT_SUFFIX


def check_record(line: bytes) -> None:
    """Whether a line is a record, whatever its model will say of it. Raises `InvalidRequest`."""
    record = parse_object(line)
    refuse_deep(record, MAX_RECORD_DEPTH, "")
    an_object(required(record, "modelInput", ""), "modelInput")


class BedrockBatchWire:
    """Reads records with the rules of the operation that the job names, of the moment in which they are worked off."""

    def __init__(self, catalogue: Catalogue, compatibility: Compatibility) -> None:
        self._catalogue = catalogue
        self._compatibility = compatibility

    def read(self, body: bytes, dialect: str) -> MessagesRequest:
        """A request, checked. Raises `InvalidRequest`, `NotFound`."""
        told = json.loads(dialect)
        manifest = self._catalogue.manifest(told["model"])
        model_input = parse_object(body)["modelInput"]
        if told["kind"] == CONVERSE:
            return converse_request(model_input, manifest, self._compatibility)[0]
        return parse_invoke_body(model_input, manifest, self._compatibility)

    def succeeded(self, reply: Reply, body: bytes, dialect: str) -> str:
        """What is written beside the record: the operation's own answer."""
        marked = marked_reply(reply, MARK)
        if json.loads(dialect)["kind"] == CONVERSE:
            form = read_converse_body(parse_object(body)["modelInput"]).form
            output = ReplyTeller(form, perf_counter()).whole(marked)
            del output["metrics"]  # how long a record waits and takes is nobody's concern
        else:
            output = message_object(marked)
        return json.dumps({"modelOutput": output}, separators=(",", ":"))

    def errored(self, error: Exception, request_id: str | None, dialect: str) -> str:
        """What is written beside the record: status and sentence."""
        told = {"errorCode": status_and_name(error)[0], "errorMessage": error_object(error)["message"]}
        return json.dumps({"error": told}, separators=(",", ":"))
