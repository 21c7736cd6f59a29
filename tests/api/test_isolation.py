"""One workspace can neither read, list, cancel, delete nor time what another has: a test for each route of the table.

A new route fails here until it is said what keeps workspaces apart on it. Times are not measured: what could differ is
the work that is done, so the statements that reach the database are compared.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from starlette.routing import Route

from hokku.api.config import ApiConfig, MetricsAccess
from hokku.api.http import create_app
from hokku.api.vertex.tokens import EXCHANGE
from hokku.blobs.directory import Directory
from hokku.blobs.store import Bucket
from hokku.protocol.records import UsageQuery
from hokku.service.attachments import Attachments
from hokku.service.batches import Batches
from hokku.service.files import Files
from hokku.service.ids import batch_id, file_id
from hokku.service.jobs import JOB, Jobs, OpenBucket
from hokku.service.key_making import new_key, new_workspace
from hokku.service.keys import hash_key
from hokku.service.messages import MessagesService
from hokku.telemetry.metrics import Metrics
from tests.api.conftest import HEADERS
from tests.batches import BatchHouse, a_request, batch_house, wait_until
from tests.fakes import ALIAS, FakeEngine

Call = tuple[str, str]  # a method and the path of a route
BATCHES, FILES = "/v1/messages/batches", "/v1/files"
REQUEST_IDS = ("request-id", "x-request-id", "x-amzn-requestid")
CONFIG = ApiConfig(metrics=MetricsAccess.ADMIN)


def vertex_paths(base: str) -> list[str]:
    """The three of Vertex AI, below one of its addresses."""
    models = f"{base}/projects/{{project}}/locations/{{location}}/publishers/anthropic/models"
    verbs = ("count-tokens:rawPredict", "{model:path}:rawPredict", "{model:path}:streamRawPredict")
    return [f"{models}/{verb}" for verb in verbs]


def prompt_of(call: Call, **fields: Any) -> tuple[str, dict[str, Any]]:
    """A path and a body for a route that takes a prompt in the blocks of Messages."""
    path = re.sub(r"\{(\w+)(:path)?\}", lambda found: ALIAS if found[1] == "model" else "x", call[1])
    body = {"max_tokens": 5, "model": ALIAS} | fields
    if call in BEDROCK:
        return path, bedrock_body(path, body)
    if "/projects/" in path:
        body["anthropic_version"] = "2026-10-21"
    if "count" in path:
        del body["max_tokens"]
    elif "/projects/" in path:
        del body["model"]
    return path, body


BEDROCK: tuple[Call, ...] = tuple(
    ("POST", f"/model/{{model:path}}/{verb}")
    for verb in ("invoke", "invoke-with-response-stream", "count-tokens")
)


def bedrock_body(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The same for Bedrock, where the path names the model."""
    del body["model"]
    body["anthropic_version"] = "2026-10-21"
    if not path.endswith("count-tokens"):
        return body
    return {"input": {"invokeModel": {"body": base64.b64encode(json.dumps(body).encode()).decode()}}}


# What somebody has is named by an id.
OF_A_BATCH: tuple[Call, ...] = (
    ("GET", f"{BATCHES}/{{id}}"),
    ("DELETE", f"{BATCHES}/{{id}}"),
    ("POST", f"{BATCHES}/{{id}}/cancel"),
    ("GET", f"{BATCHES}/{{id}}/results"),
)
OF_A_FILE: tuple[Call, ...] = (
    ("GET", f"{FILES}/{{id}}"),
    ("GET", f"{FILES}/{{id}}/content"),
    ("DELETE", f"{FILES}/{{id}}"),
)
OF_A_JOB: tuple[Call, ...] = (
    ("GET", "/model-invocation-job/{id:path}"),
    ("POST", "/model-invocation-job/{id:path}/stop"),
)
# What somebody has is listed, in every way of asking for a list.
LISTS: dict[Call, tuple[str, ...]] = {
    ("GET", BATCHES): ("", "?limit=1000", "?after_id={batch}", "?before_id={batch}"),
    ("GET", FILES): ("", "?limit=1000", "?ids[]={file}", "?page={page}"),
}
# What is made is the maker's own.
MAKES: tuple[Call, ...] = (("POST", BATCHES), ("POST", FILES))
# Jobs are made of what lies in a bucket, which is open to one workspace.
JOBS: tuple[Call, ...] = (("POST", "/model-invocation-job"), ("GET", "/model-invocation-jobs"))
# A prompt may name a file, and its beginning may be in a cache.
PROMPTS: tuple[Call, ...] = (
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/complete"),
    *(("POST", path) for base in ("", "/v1", "/v1beta1") for path in vertex_paths(base)),
    *BEDROCK,
)
# A prompt may be in a cache, and names no file: Converse takes bytes only.
CONVERSATIONS: tuple[Call, ...] = tuple(
    ("POST", f"/model/{{model:path}}/{verb}") for verb in ("converse", "converse-stream")
)
# Likewise, in the form of OpenAI's clients.
CHAT, TEXT = ("POST", "/v1/chat/completions"), ("POST", "/v1/completions")
# About everybody together: for administrators.
ADMINISTRATORS: tuple[Call, ...] = (
    ("GET", "/metrics"),
    *(
        (method, f"/v1/organizations/{rest}")
        for method, rest in (
            ("GET", "me"),
            ("GET", "usage_report/messages"),
            ("GET", "cost_report"),
            ("GET", "workspaces"),
            ("POST", "workspaces"),
            ("GET", "workspaces/{id}"),
            ("POST", "workspaces/{id}"),
            ("POST", "workspaces/{id}/archive"),
            ("GET", "workspaces/{id}/rate_limits"),
            ("GET", "rate_limits"),
            ("GET", "api_keys"),
            ("GET", "api_keys/{id}"),
            ("POST", "api_keys/{id}"),
            ("GET", "users"),
            ("GET", "invites"),
        )
    ),
)
# About nobody: the same for every caller.
NOBODYS: tuple[Call, ...] = (
    ("GET", "/"),
    ("GET", "/api/hello"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name:path}"),
    ("GET", "/foundation-models"),
    ("GET", "/foundation-models/{model:path}"),
    ("GET", "/inference-profiles"),
    ("GET", "/inference-profiles/{profile:path}"),
)
# Gives back what it was given, if that is a key.
EXCHANGES: tuple[Call, ...] = (("POST", "/v1/token"),)


@dataclass
class Neighbours:
    """Workspace A, which has one of everything, and workspace B, which has nothing."""

    house: BatchHouse
    a: httpx.AsyncClient
    b: httpx.AsyncClient
    ended_batch: str
    running_batch: str
    file: str
    job: str

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """What is asked of the database inside."""
        heard: list[str] = []

        def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            heard.append(statement)

        engine = self.house.storage.database.engine
        event.listen(engine, "before_cursor_execute", hear)
        try:
            yield heard
        finally:
            event.remove(engine, "before_cursor_execute", hear)


def key_of_a_new_workspace(house: BatchHouse, name: str) -> str:
    workspace = new_workspace(name)
    house.storage.keys.add_workspace(workspace)
    secret, key = new_key(name, workspace.id, "user")
    house.storage.keys.add_key(key, hash_key(secret))
    return secret


@pytest.fixture
async def neighbours(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[Neighbours]:
    with batch_house(engine, tmp_path) as house:
        files = Files(house.storage, Directory(tmp_path / "files"))
        messages = MessagesService(house.services.catalogue, attachments=Attachments(files=files))
        buckets: dict[OpenBucket, Bucket] = {}
        jobs = Jobs(Batches(house.storage, house.blobs, prefix=JOB), buckets, 10_000)
        services = replace(
            house.services, files=files, messages=messages, metrics=Metrics(list, lambda: 0), jobs=jobs
        )
        transport = httpx.ASGITransport(create_app(services, CONFIG))

        def client_of(secret: str) -> httpx.AsyncClient:
            headers = {**HEADERS, "x-api-key": secret, "authorization": f"Bearer {secret}"}
            del headers["content-type"]
            return httpx.AsyncClient(transport=transport, base_url="http://hokku", headers=headers)

        a, b = (client_of(key_of_a_new_workspace(house, name)) for name in "ab")
        async with a, b:
            ended = (await a.post(BATCHES, json={"requests": [a_request("a")]})).json()["id"]
            house.runner.start()
            wait_until(lambda: not house.storage.batches.unfinished())
            house.runner.park()
            running = (await a.post(BATCHES, json={"requests": [a_request("a")]})).json()["id"]
            file = (await a.post(FILES, files={"file": ("a.txt", b"A's own")})).json()["id"]
            (tmp_path / "in.jsonl").write_text('{"modelInput":{}}\n', "utf-8")
            workspace = (await a.get("/v1/models")).headers["anthropic-workspace-id"]
            buckets[OpenBucket(workspace, "bucket-of-a")] = Directory(tmp_path)
            job = (await a.post(JOBS[0][1], json=a_job("bucket-of-a"))).json()["jobArn"][-12:]
            yield Neighbours(house, a, b, ended, running, file, job)
        files.close()


def test_every_route_is_here() -> None:
    def has(route: Route) -> set[Call]:
        return {(method, route.path) for method in (route.methods or ()) if method != "HEAD"}

    of_jobs = {*OF_A_JOB, *JOBS}
    of_people = {*OF_A_BATCH, *OF_A_FILE, *of_jobs, *LISTS, *MAKES, *PROMPTS, *CONVERSATIONS, CHAT, TEXT}
    house_of_tests = {*of_people, *ADMINISTRATORS, *NOBODYS, *EXCHANGES}
    assert house_of_tests == set().union(*(has(route) for route in routes()))


def routes() -> list[Route]:
    """The table of the application itself."""
    from tests.api.conftest import services_of

    return [route for route in create_app(services_of(None), CONFIG).routes if isinstance(route, Route)]


async def same_as_for_nothing(
    neighbours: Neighbours, method: str, path: str, theirs: str, never: str, **request: Any
) -> None:
    """B is answered alike, after like work, about what A has and about what never was."""
    answers, work = [], []
    for name in (theirs, never):
        with neighbours.statements() as heard:
            asked = {key: value(name) if callable(value) else value for key, value in request.items()}
            response = await neighbours.b.request(method, path.replace("{id}", name), **asked)
        headers = {key: value for key, value in response.headers.items() if key not in REQUEST_IDS}
        body = response.json()
        body.pop("request_id", None)
        answers.append((response.status_code, headers, repr(body).replace(name, "it")))
        work.append(heard)
    assert answers[0][0] == 404
    assert answers[0] == answers[1]
    assert work[0] == work[1]


@pytest.mark.parametrize("call", OF_A_BATCH)
@pytest.mark.parametrize("state", ["ended", "running"])
async def test_a_batch(neighbours: Neighbours, call: Call, state: str) -> None:
    theirs = neighbours.ended_batch if state == "ended" else neighbours.running_batch
    before = (await neighbours.a.get(f"{BATCHES}/{theirs}")).json()
    await same_as_for_nothing(neighbours, *call, theirs, batch_id())
    assert (await neighbours.a.get(f"{BATCHES}/{theirs}")).json() == before


@pytest.mark.parametrize("call", OF_A_FILE)
async def test_a_file(neighbours: Neighbours, call: Call) -> None:
    await same_as_for_nothing(neighbours, *call, neighbours.file, file_id(datetime.now(UTC)))
    assert (await neighbours.a.get(f"{FILES}/{neighbours.file}")).status_code == 200


def a_job(bucket: str) -> dict[str, Any]:
    return {
        "jobName": "a",
        "roleArn": "arn:aws:iam::123456789012:role/a",
        "modelId": ALIAS,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": f"s3://{bucket}/in.jsonl"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://{bucket}/"}},
    }


@pytest.mark.parametrize("call", OF_A_JOB)
async def test_a_job(neighbours: Neighbours, call: Call) -> None:
    path = call[1].replace("{id:path}", "{id}")
    await same_as_for_nothing(neighbours, call[0], path, neighbours.job, "abcdefghijkl")
    assert (await neighbours.a.get(f"/model-invocation-job/{neighbours.job}")).json()[
        "status"
    ] == "InProgress"


async def test_jobs(neighbours: Neighbours) -> None:
    (make, listing) = (path for _, path in JOBS)
    answers = [await neighbours.b.post(make, json=a_job(name)) for name in ("bucket-of-a", "bucket-of-c")]
    sentences = [answer.json()["message"].replace("bucket-of-c", "bucket-of-a") for answer in answers]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert sentences[0] == sentences[1]
    assert (await neighbours.b.get(listing)).json() == {"invocationJobSummaries": []}
    assert neighbours.job in (await neighbours.a.get(listing)).text
    first = await neighbours.b.get(f"{listing}?nextToken={neighbours.job}")
    never = await neighbours.b.get(f"{listing}?nextToken=abcdefghijkl")
    assert (first.status_code, first.json()) == (never.status_code, never.json())


@pytest.mark.parametrize(("call", "query"), [(call, query) for call in LISTS for query in LISTS[call]])
async def test_a_list(neighbours: Neighbours, call: Call, query: str) -> None:
    names = {"batch": neighbours.ended_batch, "file": neighbours.file}
    names["page"] = "page_" + neighbours.file.removeprefix("file_")
    never = {"batch": batch_id(), "file": file_id(datetime.now(UTC))}
    never["page"] = "page_" + never["file"].removeprefix("file_")
    shown = [await neighbours.b.get(call[1] + query.format(**each)) for each in (names, never)]
    assert shown[0].status_code == shown[1].status_code
    if shown[0].status_code == 200:
        assert shown[0].json() == shown[1].json()
        assert shown[0].json()["data"] == []
    else:
        sentences = [each.json()["error"]["message"] for each in shown]
        assert sentences[0].replace(names["batch"], "it") == sentences[1].replace(never["batch"], "it")


async def test_what_is_made_is_the_maker_s(neighbours: Neighbours) -> None:
    made = await neighbours.b.post(BATCHES, json={"requests": [a_request("b")]})
    uploaded = await neighbours.b.post(FILES, files={"file": ("b.txt", b"B's own")})
    for path, response in ((BATCHES, made), (FILES, uploaded)):
        assert [each["id"] for each in (await neighbours.b.get(path)).json()["data"]] == [
            response.json()["id"]
        ]
        assert response.json()["id"] not in (await neighbours.a.get(path)).text


def with_file(name: str) -> dict[str, Any]:
    document = {"type": "document", "source": {"type": "file", "file_id": name}}
    return {"model": ALIAS, "messages": [{"role": "user", "content": [document]}]}


@pytest.mark.parametrize("call", [call for call in PROMPTS if call[1] != "/v1/complete"])
async def test_files_in_prompts(neighbours: Neighbours, call: Call) -> None:
    path, body = prompt_of(call, **with_file(neighbours.file))
    assert (await neighbours.a.post(path, json=body)).status_code == 200
    await same_as_for_nothing(
        neighbours,
        "POST",
        path,
        neighbours.file,
        file_id(datetime.now(UTC)),
        json=lambda name: prompt_of(call, **with_file(name))[1],
    )


async def test_files_in_chats(neighbours: Neighbours) -> None:
    def chat(name: str) -> dict[str, Any]:
        file = {"type": "file", "file": {"file_id": name}}
        return {"model": ALIAS, "messages": [{"role": "user", "content": [file]}]}

    path = CHAT[1]
    assert (await neighbours.a.post(path, json=chat(neighbours.file))).status_code == 200
    never = file_id(datetime.now(UTC))
    await same_as_for_nothing(neighbours, "POST", path, neighbours.file, never, json=chat)


async def test_files_in_batches(neighbours: Neighbours) -> None:
    requests = [{"custom_id": "b", "params": with_file(neighbours.file) | {"max_tokens": 5}}]
    made = (await neighbours.b.post(BATCHES, json={"requests": requests})).json()["id"]
    runner = neighbours.house.another_runner()
    runner.start()
    wait_until(lambda: not neighbours.house.storage.batches.unfinished())
    runner.park()
    results = (await neighbours.b.get(f"{BATCHES}/{made}/results")).text
    assert "errored" in results
    assert "A's own" not in results


FRAMED = ("POST", "/model/{model:path}/invoke-with-response-stream")  # whose answers are no JSON
REPLIES = [
    call for call in PROMPTS if "count" not in call[1] and call not in (("POST", "/v1/complete"), FRAMED)
]


@pytest.mark.parametrize("call", REPLIES)
async def test_caches(neighbours: Neighbours, call: Call) -> None:
    words = {"type": "text", "text": "Once upon a time. " * 30, "cache_control": {"type": "ephemeral"}}
    path, body = prompt_of(call, messages=[{"role": "user", "content": [words]}])
    read = []
    for client in (neighbours.a, neighbours.a, neighbours.b):
        usage = (await client.post(path, json=body)).json()["usage"]
        read.append(usage["cache_read_input_tokens"])
    assert read[1] > 0
    assert read[2] == read[0] == 0


async def test_caches_where_no_usage_is_read(neighbours: Neighbours, engine: FakeEngine) -> None:
    completion = {"model": ALIAS, "max_tokens_to_sample": 5, "prompt": "\n\nHuman: Hi\n\nAssistant:"}
    framed = prompt_of(FRAMED, messages=[{"role": "user", "content": "Hi"}])
    chat = {"model": ALIAS, "messages": [{"role": "user", "content": "Hi"}]}
    text = {"model": ALIAS, "prompt": "Hi"}
    for path, body in (("/v1/complete", completion), framed, (CHAT[1], chat), (TEXT[1], text)):
        for client in (neighbours.a, neighbours.b):
            assert (await client.post(path, json=body)).status_code == 200
        scopes = [request.cache_scope for request in engine.requests[-2:]]
        assert len(set(scopes)) == 2


@pytest.mark.parametrize("call", CONVERSATIONS)
async def test_caches_of_conversations(neighbours: Neighbours, call: Call, engine: FakeEngine) -> None:
    content = [{"text": "Once upon a time. " * 30}, {"cachePoint": {"type": "default"}}]
    body = {"messages": [{"role": "user", "content": content}], "inferenceConfig": {"maxTokens": 5}}
    for client in (neighbours.a, neighbours.b):
        response = await client.post(call[1].replace("{model:path}", ALIAS), json=body)
        assert response.status_code == 200
        assert b'"cacheReadInputTokens":0' in response.content.replace(b" ", b"")
    scopes = [request.cache_scope for request in engine.requests[-2:]]
    assert len(set(scopes)) == 2


@pytest.mark.parametrize("call", ADMINISTRATORS)
async def test_what_is_about_everybody(neighbours: Neighbours, call: Call) -> None:
    responses = [
        await client.request(call[0], call[1].replace("{id}", "x")) for client in (neighbours.a, neighbours.b)
    ]
    for response in responses:
        assert response.status_code == 403
        assert response.json()["error"]["type"] == "permission_error"


@pytest.mark.parametrize("call", EXCHANGES)
async def test_what_is_exchanged(neighbours: Neighbours, call: Call) -> None:
    form = {"grant_type": EXCHANGE, "subject_token": "sk-of-nobody"}
    shown = [await client.request(*call, data=form) for client in (neighbours.a, neighbours.b)]
    assert shown[0].status_code == 400
    assert shown[0].json() == shown[1].json()


@pytest.mark.parametrize("call", NOBODYS)
async def test_what_is_about_nobody(neighbours: Neighbours, call: Call) -> None:
    path = re.sub(r"\{\w+:path\}", ALIAS, call[1])
    shown = [await client.request(call[0], path) for client in (neighbours.a, neighbours.b)]
    assert shown[0].status_code == 200
    assert shown[0].json() == shown[1].json()


async def test_usage_is_booked_to_whoever_used(neighbours: Neighbours) -> None:
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    query = UsageQuery(day, datetime.max.replace(tzinfo=UTC, year=9000), group_by=("workspace_id",))
    sums = neighbours.house.storage.ledger.usage(query)
    (workspace,) = (each.group["workspace_id"] for each in sums)
    a = (await neighbours.a.get("/v1/models")).headers["anthropic-workspace-id"]
    assert workspace == a
