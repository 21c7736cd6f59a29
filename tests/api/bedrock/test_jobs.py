"""Model invocation jobs, from lines in one bucket to lines in another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.api.batch_wires import BatchWires
from hokku.api.bedrock.job_wire import BedrockBatchWire, dialect_text, target_of
from hokku.api.config import ApiConfig, Compatibility
from hokku.api.http import create_app
from hokku.blobs.directory import Directory
from hokku.blobs.location import open_bucket
from hokku.protocol.errors import InvalidRequest, RequestTooLarge, StorageUnavailable
from hokku.protocol.records import DEFAULT_WORKSPACE_ID, UsageQuery
from hokku.service.batch_answers import BatchAnswers
from hokku.service.batch_runner import BatchRunner
from hokku.service.batches import Batches
from hokku.service.jobs import JOB, MAX_LINE_BYTES, JobDelivery, Jobs, OpenBucket, lines_of
from hokku.service.messages import MessagesService
from tests.api.bedrock.conftest import BEARER, BODY, MODEL, PROFILE
from tests.api.bedrock.test_fuzz import is_named
from tests.api.bedrock.test_invoke import is_refused
from tests.api.conftest import HEADERS, services_of
from tests.api.test_fuzz import json_values
from tests.batches import QUICK, BatchHouse, batch_house, wait_until
from tests.blobs.s3_server import BUCKET, VARIABLES, running_s3
from tests.fakes import MODEL_ID, FakeEngine

JOBS = "/model-invocation-job"
MAX_BYTES = 100_000
RECORDS = [{"recordId": f"R{number}", "modelInput": BODY} for number in range(3)]
CONVERSE_INPUT = {
    "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
    "additionalModelResponseFieldPaths": ["/stop_sequence"],
}


@dataclass
class JobHouse:
    """A server with jobs, its buckets, and the runner, which a test starts."""

    house: BatchHouse
    runner: BatchRunner
    another_runner: Callable[[], BatchRunner]
    client: httpx.AsyncClient
    inbox: Path
    outbox: Path

    def put(self, records: list[Any], name: str = "in.jsonl") -> None:
        (self.inbox / name).parent.mkdir(parents=True, exist_ok=True)
        (self.inbox / name).write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")

    async def create(self, **fields: Any) -> httpx.Response:
        return await self.client.post(JOBS, json=asked(**fields))

    async def made(self, **fields: Any) -> str:
        """A job's ARN."""
        response = await self.create(**fields)
        assert response.status_code == 200, response.text
        return str(response.json()["jobArn"])

    async def job(self, arn: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get(f"{JOBS}/{arn}")).json()
        return found

    def work(self) -> None:
        """Until nothing is left to do."""
        self.runner.start()
        wait_until(lambda: not self.house.storage.batches.unfinished())
        self.runner.park()

    def results(self, arn: str, name: str = "in.jsonl.out") -> list[Any]:
        text = (self.outbox / "results" / arn.rpartition("/")[2] / name).read_text("utf-8")
        return [json.loads(line) for line in text.splitlines()]


def asked(**fields: Any) -> dict[str, Any]:
    return {
        "jobName": "nightly",
        "roleArn": "arn:aws:iam::123456789012:role/batch",
        "modelId": PROFILE,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": "s3://inbox/in.jsonl", "s3InputFormat": "JSONL"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://outbox/results/"}},
    } | fields


def from_(uri: str) -> dict[str, Any]:
    return {"inputDataConfig": {"s3InputDataConfig": {"s3Uri": uri}}}


def to(uri: str) -> dict[str, Any]:
    return {"outputDataConfig": {"s3OutputDataConfig": {"s3Uri": uri}}}


@pytest.fixture
def buckets(tmp_path: Path) -> dict[OpenBucket, Directory]:
    return {
        OpenBucket(DEFAULT_WORKSPACE_ID, name): Directory(tmp_path / name) for name in ("inbox", "outbox")
    } | {OpenBucket("wrkspc_other", "theirs"): Directory(tmp_path / "theirs")}


@pytest.fixture
async def jobs(
    engine: FakeEngine, tmp_path: Path, buckets: dict[OpenBucket, Directory]
) -> AsyncIterator[JobHouse]:
    with batch_house(engine, tmp_path) as house:
        wire = BatchWires(house.services.catalogue, Compatibility.FRIENDLY)
        catalogue = house.services.catalogue
        answers = BatchAnswers(MessagesService(catalogue), wire, catalogue.manifest)
        delivery = JobDelivery(house.blobs, buckets, target_of)

        def new_runner() -> BatchRunner:
            return BatchRunner(house.storage, house.blobs, answers, QUICK, deliver=delivery.deliver)

        runner = new_runner()
        of_jobs = Batches(house.storage, house.blobs, runner.wake, JOB)
        services = replace(house.services, jobs=Jobs(of_jobs, buckets, MAX_BYTES))
        transport = httpx.ASGITransport(create_app(services, ApiConfig()))
        async with httpx.AsyncClient(transport=transport, base_url="http://hokku", headers=BEARER) as client:
            made = JobHouse(house, runner, new_runner, client, tmp_path / "inbox", tmp_path / "outbox")
            made.put(RECORDS)
            yield made
            made.runner.park()


async def test_a_job_s_life(jobs: JobHouse) -> None:
    arn = await jobs.made(tags=[{"key": "team", "value": "web"}], timeoutDurationInHours=48)
    assert arn.startswith("arn:aws:bedrock:us-east-1:000000000000:model-invocation-job/")
    job = await jobs.job(arn)
    assert job["jobArn"] == arn
    assert (job["jobName"], job["modelId"], job["roleArn"]) == (
        "nightly",
        PROFILE,
        "arn:aws:iam::123456789012:role/batch",
    )
    assert (job["status"], job["modelInvocationType"]) == ("InProgress", "InvokeModel")
    assert (job["totalRecordCount"], job["processedRecordCount"]) == (3, 0)
    assert job["timeoutDurationInHours"] == 48
    assert "endTime" not in job
    jobs.work()
    ended = await jobs.job(arn.rpartition("/")[2])  # its id does as well
    assert (ended["status"], ended["successRecordCount"], ended["errorRecordCount"]) == ("Completed", 3, 0)
    assert ended["endTime"] >= ended["submitTime"]
    for record, result in zip(RECORDS, jobs.results(arn), strict=True):
        output = result.pop("modelOutput")
        assert result == record
        assert output["content"] == [{"type": "text", "text": "Hello, world!"}]
        assert output["id"].startswith("msg_bdrk_")
        assert output["usage"]["service_tier"] == "batch"
    (manifest,) = jobs.results(arn, "manifest.json.out")
    assert manifest == {
        "totalRecordCount": 3,
        "processedRecordCount": 3,
        "successRecordCount": 3,
        "errorRecordCount": 0,
        "inputTokenCount": 3 * len(b"user: Hi\n"),
        "outputTokenCount": 3 * (len(b"Hello, world!") + 1),
    }


async def test_buckets_of_s3(
    jobs: JobHouse, buckets: dict[OpenBucket, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    with running_s3() as url:
        bucket = open_bucket(f"s3://{BUCKET}?endpoint={url}", "job_buckets")
        buckets[OpenBucket(DEFAULT_WORKSPACE_ID, "data")] = bucket
        with bucket.writer_of("in/today.jsonl") as writer:
            writer.write("".join(json.dumps(record) + "\n" for record in RECORDS).encode())
            writer.keep()
        is_refused(
            await jobs.create(**from_("s3://data/none")), 400, "ValidationException", "There is no object"
        )
        arn = await jobs.made(**from_("s3://data/in/today.jsonl"), **to("s3://data"))
        jobs.work()
        with bucket.open(f"{arn.rpartition('/')[2]}/today.jsonl.out") as pieces:
            lines = b"".join(pieces).splitlines()
    assert [json.loads(line)["recordId"] for line in lines] == ["R0", "R1", "R2"]


async def test_records_that_are_refused(jobs: JobHouse) -> None:
    bad = {"recordId": "bad", "modelInput": BODY | {"max_tokens": 9000}}
    jobs.put([bad, {"modelInput": {}, "recordId": "worse"}, RECORDS[0]])
    arn = await jobs.made()
    jobs.work()
    first, second, third = jobs.results(arn)
    assert first["error"]["errorCode"] == 400
    assert "max_tokens: 9000 > 8192" in first["error"]["errorMessage"]
    assert "required key [anthropic_version] not found" in second["error"]["errorMessage"]
    assert third["modelOutput"]["model"] == MODEL_ID
    job = await jobs.job(arn)
    assert (job["status"], job["successRecordCount"], job["errorRecordCount"]) == ("Completed", 1, 2)


async def test_records_of_converse(jobs: JobHouse) -> None:
    jobs.put([{"recordId": "c", "modelInput": CONVERSE_INPUT}])
    arn = await jobs.made(modelInvocationType="Converse", modelId=MODEL)
    jobs.work()
    (result,) = jobs.results(arn)
    output = result["modelOutput"]
    assert output["output"]["message"] == {"role": "assistant", "content": [{"text": "Hello, world!"}]}
    assert (output["stopReason"], output["usage"]["inputTokens"]) == ("end_turn", len(b"user: Hi\n"))
    assert output["additionalModelResponseFields"] == {"stop_sequence": None}
    assert jobs.results(arn, "manifest.json.out")[0]["outputTokenCount"] == len(b"Hello, world!") + 1


def test_records_are_held_to_what_converse_is_held_to(engine: FakeEngine) -> None:
    wire = BedrockBatchWire(services_of(engine).catalogue, Compatibility.HOSTED)
    dialect = dialect_text(MODEL_ID, "Converse", "us-west-2", {})
    blank = {"messages": [{"role": "user", "content": [{"text": " "}]}]}
    for model_input, sentence in (
        (blank, "is blank. Add text to the text field"),
        (CONVERSE_INPUT | {"inferenceConfig": {"maxTokens": 0}}, "1 validation error detected"),
        (
            CONVERSE_INPUT | {"inferenceConfig": {"stopSequences": [" "]}},
            "The model returned the following errors",
        ),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            wire.read(json.dumps({"modelInput": model_input}).encode(), dialect)


async def test_a_job_is_stopped(jobs: JobHouse) -> None:
    arn = await jobs.made()
    assert (await jobs.client.post(f"{JOBS}/{arn}/stop")).json() == {}
    assert (await jobs.job(arn))["status"] == "Stopping"
    jobs.work()
    assert (await jobs.job(arn))["status"] == "Stopped"
    assert jobs.results(arn) == []


async def test_a_job_is_booked_like_a_batch(jobs: JobHouse) -> None:
    await jobs.made()
    jobs.work()
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    query = UsageQuery(day, day + timedelta(days=2), group_by=("tier", "model"))
    (total,) = jobs.house.storage.ledger.usage(query)
    assert (total.group["tier"], total.group["model"], total.num_requests) == ("batch", MODEL_ID, 3)
    assert total.tokens["input"] == 3 * len(b"user: Hi\n")


async def test_an_attempt_that_is_made_again_makes_no_second_job(jobs: JobHouse) -> None:
    first = await jobs.made(clientRequestToken="once")
    assert await jobs.made(clientRequestToken="once") == first
    assert await jobs.made(clientRequestToken="twice") != first
    assert await jobs.made() != await jobs.made()
    assert len((await jobs.client.get("/model-invocation-jobs")).json()["invocationJobSummaries"]) == 4


async def test_attempts_side_by_side_make_one_job(jobs: JobHouse) -> None:
    attempts = [jobs.made(clientRequestToken="once") for _ in range(4)]
    assert len(set(await asyncio.gather(*attempts))) == 1
    assert len(jobs.house.storage.batches.unfinished()) == 1
    assert len(list(jobs.house.blobs.entries())) == 1


async def test_a_job_outlives_its_server(jobs: JobHouse, engine: FakeEngine) -> None:
    jobs.put([RECORDS[0] | {"recordId": number} for number in range(40)])
    engine.step_secs = 0.01
    arn = await jobs.made()
    jobs.runner.start()
    wait_until(lambda: jobs.house.storage.batches.unfinished()[0].counts.succeeded > 0)
    jobs.runner.park()
    assert (await jobs.job(arn))["status"] == "InProgress"
    engine.step_secs = 0
    jobs.runner = jobs.another_runner()
    jobs.work()
    assert [result["recordId"] for result in jobs.results(arn)] == list(range(40))
    assert all("modelOutput" in result for result in jobs.results(arn))


async def test_a_job_is_stopped_twice_and_after_its_end(jobs: JobHouse) -> None:
    stopped, ended = await jobs.made(), await jobs.made()
    for _ in range(2):
        assert (await jobs.client.post(f"{JOBS}/{stopped}/stop")).json() == {}
    jobs.work()
    for arn, status in ((stopped, "Stopped"), (ended, "Completed")):
        assert (await jobs.client.post(f"{JOBS}/{arn}/stop")).status_code == 200
        assert (await jobs.job(arn))["status"] == status


async def test_lists(jobs: JobHouse) -> None:
    arns = [await jobs.made(jobName=name) for name in ("one", "two", "three")]
    await jobs.client.post(f"{JOBS}/{arns[0]}/stop")

    async def listed(query: str = "") -> list[str]:
        page = (await jobs.client.get(f"/model-invocation-jobs?{query}")).json()
        return [job["jobName"] for job in page["invocationJobSummaries"]]

    assert await listed() == ["three", "two", "one"]
    assert await listed("sortBy=CreationTime&sortOrder=Ascending") == ["one", "two", "three"]
    assert await listed("nameContains=t") == ["three", "two"]
    assert await listed("statusEquals=Stopping") == ["one"]
    assert await listed("submitTimeAfter=2020-01-01T00:00:00Z&submitTimeBefore=2020-01-02T00:00:00Z") == []
    page = (await jobs.client.get("/model-invocation-jobs?maxResults=2")).json()
    assert await listed(f"maxResults=2&nextToken={page['nextToken']}") == ["one"]
    assert await listed("maxResults=3") == ["three", "two", "one"]
    for query in (
        "statusEquals=x",
        "sortBy=x",
        "sortOrder=x",
        "maxResults=0",
        "nextToken=x",
        "submitTimeAfter=x",
    ):
        response = await jobs.client.get(f"/model-invocation-jobs?{query}")
        is_refused(response, 400, "ValidationException", f"^{query.partition('=')[0]}: ")


async def test_jobs_and_batches_do_not_see_each_other(jobs: JobHouse) -> None:
    arn = await jobs.made()
    job_id = JOB + arn.rpartition("/")[2]
    headers = dict(HEADERS)
    assert (await jobs.client.get("/v1/messages/batches", headers=headers)).json()["data"] == []
    for call in (
        jobs.client.get(f"/v1/messages/batches/{job_id}", headers=headers),
        jobs.client.post(f"/v1/messages/batches/{job_id}/cancel", headers=headers),
        jobs.client.delete(f"/v1/messages/batches/{job_id}", headers=headers),
        jobs.client.get(f"/v1/messages/batches/{job_id}/results", headers=headers),
    ):
        assert (await call).status_code == 404
    assert (await jobs.job(arn))["status"] == "InProgress"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"jobName": "-"}, "^jobName: String should match"),
        ({"roleArn": "x"}, "^roleArn: String should match"),
        ({"modelId": "x"}, "The provided model identifier is invalid"),
        ({"modelInvocationType": "x"}, "^modelInvocationType: Input should be 'InvokeModel' or 'Converse'"),
        ({"clientRequestToken": "-"}, "^clientRequestToken: "),
        ({"timeoutDurationInHours": 23}, "^timeoutDurationInHours: Input should be from 24 to 168"),
        ({"tags": [{"key": "a"}]}, r"^tags\.0\.value: Field required"),
        ({"tags": [{"key": "a", "value": "b"}] * 201}, "^tags: "),
        ({"vpcConfig": {}}, "^vpcConfig: Extra inputs are not permitted"),
        ({"inputDataConfig": {}}, r"^inputDataConfig\.s3InputDataConfig: Field required"),
        (from_("https://x/y"), r"s3Uri: must be s3:// and the name of a bucket"),
        (from_("s3://inbox/folder/"), r"s3Uri: must name one object, not a folder"),
        (from_("s3://inbox/none.jsonl"), "There is no object s3://inbox/none.jsonl"),
        (from_("s3://inbox/../outbox/x"), "one of dots"),
        (from_("s3://inbox//x"), "an empty step"),
        (from_("s3://inbox/a\0b"), "has a control character"),
        (to("s3://outbox/a\nb/"), "has a control character"),
        (from_(f"s3://inbox/{'x' * 251}"), "is too long: a key has at most 1,024 bytes"),
        (to(f"s3://outbox/{'x/' * 513}"), "is too long: a key has at most 1,024 bytes"),
        (from_("s3://inbox/in.jsonl/x"), "There is no object s3://inbox/in.jsonl/x"),
        (from_("s3://inbox/manifest.json"), "s3Uri: must not be called manifest.json"),
        (from_("s3://theirs/in.jsonl"), "bucket theirs is not open to jobs of this workspace"),
        (to("s3://theirs/"), "bucket theirs is not open to jobs of this workspace"),
        (to("s3://outbox/../../x"), "one of dots"),
        (
            {"outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://outbox/", "s3EncryptionKeyId": "k"}}},
            "s3EncryptionKeyId: Extra inputs are not permitted",
        ),
    ],
)
async def test_jobs_that_are_refused(jobs: JobHouse, fields: dict[str, Any], sentence: str) -> None:
    is_refused(await jobs.create(**fields), 400, "ValidationException", sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The input has no records"),
        ("\n\n", "The input has no records"),
        ("{", "not valid JSON"),
        ("[]", "should be an object"),
        ('{"recordId":"x"}', "modelInput: Field required"),
        ('{"modelInput":1}', "modelInput: Input should be an object"),
    ],
)
async def test_inputs_that_are_none(jobs: JobHouse, text: str, sentence: str) -> None:
    (jobs.inbox / "in.jsonl").write_text(text, "utf-8")
    is_refused(await jobs.create(), 400, "ValidationException", sentence)
    assert jobs.house.storage.batches.unfinished() == []


async def test_an_input_that_is_too_large(jobs: JobHouse) -> None:
    jobs.put([{"modelInput": {"x": "y" * MAX_BYTES}}])
    is_refused(await jobs.create(), 413, "RequestEntityTooLargeException", "exceeds 100,000 bytes")


async def test_what_is_asked_is_no_library(jobs: JobHouse) -> None:
    tags = [{"key": "x" * 100_000, "value": "y"}]
    is_refused(await jobs.create(tags=tags), 413, "RequestEntityTooLargeException", "maximum allowed")


texts = st.sampled_from(
    ["s3://inbox/in.jsonl", "s3://outbox/", "s3://", "s3://inbox/a/../b", "Converse", "x"]
)
places = st.recursive(
    json_values | texts,
    lambda inner: st.dictionaries(
        st.sampled_from(["s3InputDataConfig", "s3OutputDataConfig", "s3Uri", "s3InputFormat"]),
        inner,
        max_size=3,
    ),
    max_leaves=4,
)
jobs_asked: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(
        [*asked(), "clientRequestToken", "timeoutDurationInHours", "modelInvocationType", "tags", "x"]
    ),
    json_values | texts | places,
    max_size=3,
)


@given(jobs_asked)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_jobs_are_refused_by_name_or_made(jobs: JobHouse, fields: dict[str, Any]) -> None:
    is_named(await jobs.create(**fields))


async def test_jobs_that_are_none(jobs: JobHouse) -> None:
    for name in ("abcdefghijkl", "arn:aws:bedrock:us-east-1:000000000000:model-invocation-job/abcdefghijkl"):
        is_refused(
            await jobs.client.get(f"{JOBS}/{name}"), 404, "ResourceNotFoundException", "job identifier"
        )
        response = await jobs.client.post(f"{JOBS}/{name}/stop")
        is_refused(response, 404, "ResourceNotFoundException", "job identifier")
    is_refused(await jobs.client.get(f"{JOBS}/X"), 400, "ValidationException", "^jobIdentifier: ")


async def test_results_wait_for_their_bucket(
    jobs: JobHouse, buckets: dict[OpenBucket, Directory], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    class Away(Directory):
        def writer_of(self, name: str) -> Any:
            tried.append(name)
            raise StorageUnavailable("away")

    outbox = OpenBucket(DEFAULT_WORKSPACE_ID, "outbox")
    there, buckets[outbox] = buckets[outbox], Away(Path("nowhere"))
    arn = await jobs.made()
    jobs.runner.start()
    wait_until(lambda: len(tried) > 1)
    assert (await jobs.job(arn))["status"] == "InProgress"
    buckets[outbox] = there
    wait_until(lambda: not jobs.house.storage.batches.unfinished())
    assert len(jobs.results(arn)) == 3


async def test_results_whose_bucket_was_closed_are_not_tried_for_ever(
    jobs: JobHouse, buckets: dict[OpenBucket, Directory]
) -> None:
    arn = await jobs.made()
    del buckets[OpenBucket(DEFAULT_WORKSPACE_ID, "outbox")]
    jobs.work()
    assert (await jobs.job(arn))["status"] == "Completed"


async def test_a_file_in_the_way_of_results_does_not_hold_up_others(jobs: JobHouse) -> None:
    jobs.outbox.mkdir()
    (jobs.outbox / "file").write_text("not a folder", "utf-8")
    arns = [await jobs.made(**to("s3://outbox/file/")), await jobs.made()]
    jobs.work()
    assert [(await jobs.job(arn))["status"] for arn in arns] == ["Completed", "Completed"]
    assert len(jobs.results(arns[1])) == 3


async def test_a_job_that_ran_out_of_time(jobs: JobHouse) -> None:
    arn = await jobs.made()
    batches = jobs.house.storage.batches
    (batch,) = batches.unfinished()
    settled = batches.settle(batch.id, batch.created_at + timedelta(hours=25))
    assert settled.num_concluded == 3
    jobs.work()
    job = await jobs.job(arn)
    assert (job["status"], job["processedRecordCount"]) == ("Expired", 0)


def test_lines_however_they_are_cut() -> None:
    text = b'{"a": 1}\r\n\n  \n{"b": 2}\n{"c": 3}'
    for size in range(1, len(text) + 1):
        pieces = (text[at : at + size] for at in range(0, len(text), size))
        assert list(lines_of(pieces, None)) == [b'{"a": 1}', b'{"b": 2}', b'{"c": 3}']


def test_a_line_without_end_is_not_read_to_its_end() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    with pytest.raises(RequestTooLarge, match="A record exceeds 25,000,000 bytes"):
        list(lines_of(endless(), None))
    largest = b"x" * MAX_LINE_BYTES
    assert list(lines_of(iter([largest + b"\n"]), None)) == [largest]
    with pytest.raises(RequestTooLarge, match="A record exceeds 25,000,000 bytes"):
        list(lines_of(iter([largest + b"x\n"]), None))


async def test_a_server_without_jobs(engine: FakeEngine, tmp_path: Path) -> None:
    with batch_house(engine, tmp_path) as house:
        transport = httpx.ASGITransport(create_app(house.services, ApiConfig()))
        async with httpx.AsyncClient(transport=transport, base_url="http://hokku", headers=BEARER) as client:
            is_refused(await client.post(JOBS, json=asked()), 404, "ResourceNotFoundException", "Not found")


@pytest.mark.parametrize("depth", [200, 900, 5_000])
async def test_a_record_that_is_too_deep(jobs: JobHouse, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    (jobs.inbox / "in.jsonl").write_text(f'{{"recordId": {deep}, "modelInput": {{}}}}\n', "utf-8")
    sentence = "is nested deeper than 200 levels|nesting is too deep"
    is_refused(await jobs.create(), 400, "ValidationException", sentence)
