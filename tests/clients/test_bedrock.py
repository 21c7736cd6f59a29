"""The clients of Amazon Bedrock against a live server: boto3, AnthropicBedrock, and AWS's SDK for JavaScript."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anthropic
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from hokku.api.batch_wires import BatchWires
from hokku.api.bedrock.job_wire import target_of
from hokku.api.config import ApiConfig, Compatibility
from hokku.api.http import create_app
from hokku.blobs.directory import Directory
from hokku.blobs.store import Bucket
from hokku.protocol.errors import EngineFailed
from hokku.protocol.records import DEFAULT_WORKSPACE_ID
from hokku.service.access_pairs import NewPair, SigningSecret
from hokku.service.batch_answers import BatchAnswers
from hokku.service.batch_runner import BatchRunner
from hokku.service.batches import Batches
from hokku.service.jobs import JOB, JobDelivery, Jobs, OpenBucket
from hokku.service.keys import KeyRing, hash_key
from hokku.service.messages import MessagesService
from hokku.storage.storage import Storage
from tests.api.bedrock.conftest import BODY, MODEL, PROFILE, SIGNING_SECRET, add_pair
from tests.api.conftest import KEY, services_of
from tests.batches import QUICK
from tests.clients.field import ANSWER, CITY, EARLY, JSON_ASKED, STORY_ASKED, Field
from tests.clients.installed import HERE, NODE, output_of, skip_without
from tests.documents.pictures import picture
from tests.fakes import MODEL_ID, FakeEngine, Script
from tests.live import live_server

pytestmark = [
    pytest.mark.clients,
    # botocore leaves the sockets of its clients, and of streams that end early, to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

REGION = "us-west-2"
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@dataclass
class Server:
    """A live server, what its model says, and a pair of its keys."""

    url: str
    engine: FakeEngine
    pair: NewPair
    bucket: Path  # of jobs

    def boto3(self, service: str = "bedrock-runtime", *, retries: int = 1, **credentials: str) -> Any:
        pair = {"aws_access_key_id": self.pair.access_key_id, "aws_secret_access_key": self.pair.secret}
        config = Config(retries={"mode": "standard", "total_max_attempts": retries})
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, config=config, **(pair | credentials)
        )

    @property
    def of_anthropic(self) -> dict[str, Any]:
        """What both clients of the vendor are told."""
        return {
            "base_url": self.url,
            "aws_region": REGION,
            "aws_access_key": self.pair.access_key_id,
            "aws_secret_key": self.pair.secret,
        }

    def wait_until_idle(self) -> None:
        until = time.monotonic() + 5
        while self.engine.stats().num_running and time.monotonic() < until:
            time.sleep(0.01)
        assert self.engine.stats().num_running == 0


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bedrock")
    storage = Storage(f"sqlite:///{folder}/hokku.db")
    pair = add_pair(storage, DEFAULT_WORKSPACE_ID)
    engine = FakeEngine(context_window_tokens=200_000, step_secs=0.0002)
    keys = KeyRing([hash_key(KEY)], storage, SigningSecret(SIGNING_SECRET, folder))
    services = services_of(engine)
    buckets: dict[OpenBucket, Bucket] = {OpenBucket(DEFAULT_WORKSPACE_ID, "data"): Directory(folder / "data")}
    blobs = Directory(folder / "blobs")
    wire = BatchWires(services.catalogue, Compatibility.FRIENDLY)
    answers = BatchAnswers(MessagesService(services.catalogue), wire, services.catalogue.manifest)
    runner = BatchRunner(
        storage, blobs, answers, QUICK, deliver=JobDelivery(blobs, buckets, target_of).deliver
    )
    jobs = Jobs(Batches(storage, blobs, runner.wake, JOB), buckets, 1 << 20)
    runner.start()
    with live_server(create_app(replace(services, keys=keys, jobs=jobs), ApiConfig())) as url:
        yield Server(url, engine, pair, folder / "data")
    runner.park()
    engine.close()
    storage.close()


@pytest.fixture
def server(module_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """With a fresh script, and nothing in the environment that a client could find."""
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    module_server.engine.script = Field()
    return module_server


def body_of(words: Any = "Hi", **fields: Any) -> str:
    return json.dumps(BODY | {"max_tokens": 400, "messages": [{"role": "user", "content": words}]} | fields)


def invoked(client: Any, model: str = PROFILE, **fields: Any) -> Any:
    return json.loads(client.invoke_model(modelId=model, body=body_of(**fields))["body"].read())


def streamed(client: Any, **fields: Any) -> list[Any]:
    stream = client.invoke_model_with_response_stream(modelId=PROFILE, body=body_of(**fields))["body"]
    return [json.loads(event["chunk"]["bytes"]) for event in stream]


def text_of(events: list[Any]) -> str:
    return "".join(
        event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta"
    )


def test_boto3_reads_whole_and_streamed_replies(server: Server) -> None:
    client = server.boto3()
    response = client.invoke_model(modelId=PROFILE, body=body_of())
    message = json.loads(response["body"].read())
    assert response["contentType"] == "application/json"
    assert response["ResponseMetadata"]["RequestId"].count("-") == 4
    assert message["content"] == [{"type": "text", "text": "Hello, world!"}]
    events = streamed(client)
    assert text_of(events) == "Hello, world!"
    assert events[-2]["usage"] == message["usage"]
    assert (
        events[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] == message["usage"]["input_tokens"]
    )
    for model in (MODEL, f"arn:aws:bedrock:{REGION}:123456789012:inference-profile/{PROFILE}"):
        assert invoked(client, model)["content"] == message["content"]


def test_boto3_with_a_session_token(server: Server) -> None:
    assert invoked(server.boto3(aws_session_token="opaque/=="))["model"] == MODEL_ID


def test_boto3_calls_tools(server: Server) -> None:
    for call in (
        invoked(server.boto3(), tools=[WEATHER])["content"][0],
        streamed(server.boto3(), tools=[WEATHER])[1]["content_block"],
    ):
        assert (call["type"], call["name"]) == ("tool_use", "weather")
        assert call["id"].startswith("toolu_bdrk_")
    call = invoked(server.boto3(), tools=[WEATHER])["content"][0]
    turns = [
        {"role": "user", "content": "Is it raining?"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "rain"}]},
    ]
    assert invoked(server.boto3(), tools=[WEATHER], messages=turns)["content"][0]["text"] == "It is rain."


def test_boto3_shows_a_picture_to_a_model_that_does_not_see(server: Server) -> None:
    data = base64.b64encode(picture()).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    with pytest.raises(ClientError, match="image") as refused:
        invoked(server.boto3(), words=[image])
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_boto3_counts(server: Server) -> None:
    client = server.boto3()
    counted = client.count_tokens(modelId=MODEL, input={"invokeModel": {"body": body_of().encode()}})
    assert counted["inputTokens"] == invoked(client)["usage"]["input_tokens"]


def test_boto3_asks_for_models(server: Server) -> None:
    control = server.boto3("bedrock")
    (model,) = control.list_foundation_models(byProvider="anthropic")["modelSummaries"]
    assert control.get_foundation_model(modelIdentifier=model["modelArn"])["modelDetails"] == model
    (profile,) = control.list_inference_profiles()["inferenceProfileSummaries"]
    found = control.get_inference_profile(inferenceProfileIdentifier=profile["inferenceProfileArn"])
    assert found["models"] == [{"modelArn": model["modelArn"]}]
    assert found["createdAt"].year == 2024


def test_boto3_tries_again_where_that_may_help(server: Server) -> None:
    assert invoked(server.boto3(retries=3), words=EARLY)["content"][0]["text"] == "Hello, world!"
    with pytest.raises(ClientError) as refused:
        invoked(server.boto3(), words=f"{EARLY}, again")
    assert refused.value.response["Error"] == {"Code": "ServiceUnavailableException", "Message": "Overloaded"}
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


@pytest.mark.parametrize(
    ("credentials", "code", "sentence"),
    [
        (
            {"aws_secret_access_key": "x"},
            "InvalidSignatureException",
            "signature we calculated does not match",
        ),
        ({"aws_access_key_id": "HKIAAAAAAAAAAAAAAAAA"}, "UnrecognizedClientException", "security token"),
    ],
)
def test_boto3_is_told_what_is_wrong_with_a_pair(
    server: Server, credentials: Any, code: str, sentence: str
) -> None:
    with pytest.raises(ClientError, match=sentence) as refused:
        invoked(server.boto3(**credentials))
    assert refused.value.response["Error"]["Code"] == code


def test_boto3_is_told_of_bad_bodies(server: Server) -> None:
    refused_fields: list[tuple[str, Any]] = [
        ("max_tokens: 9000 > 8192", {"max_tokens": 9000}),
        (r"extraneous key \[x\] is not permitted", {"x": 1}),
    ]
    for client_error, fields in refused_fields:
        with pytest.raises(ClientError, match=client_error) as refused:
            invoked(server.boto3(), **fields)
        assert refused.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError, match="The provided model identifier is invalid"):
        invoked(server.boto3(), "anthropic.claude-9-v1:0")


def fails_in_the_middle(server: Server) -> None:
    server.engine.script = lambda _: Script([*b"Hel"], EngineFailed("kernel exploded"), 3)


def test_boto3_sees_a_stream_break(server: Server) -> None:
    fails_in_the_middle(server)
    with pytest.raises(EventStreamError, match="Internal server error") as broken:
        streamed(server.boto3())
    assert broken.value.response["Error"]["Code"] == "modelStreamErrorException"


def test_boto3_leaves_a_stream(server: Server) -> None:
    body = body_of(words=STORY_ASKED, max_tokens=8000)
    with closing(
        server.boto3().invoke_model_with_response_stream(modelId=PROFILE, body=body)["body"]
    ) as stream:
        next(iter(stream))
    server.wait_until_idle()


def test_boto3_runs_a_job(server: Server) -> None:
    control = server.boto3("bedrock")
    server.bucket.mkdir()
    records = [{"recordId": f"R{number}", "modelInput": json.loads(body_of())} for number in range(100)]
    (server.bucket / "in.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
    arn = control.create_model_invocation_job(
        jobName="nightly",
        roleArn="arn:aws:iam::123456789012:role/batch",
        modelId=PROFILE,
        inputDataConfig={"s3InputDataConfig": {"s3Uri": "s3://data/in.jsonl"}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://data/out/"}},
    )["jobArn"]
    (listed,) = control.list_model_invocation_jobs(nameContains="night")["invocationJobSummaries"]
    assert listed["jobArn"] == arn
    until = time.monotonic() + 60
    while (job := control.get_model_invocation_job(jobIdentifier=arn))["status"] == "InProgress":
        assert time.monotonic() < until
        time.sleep(0.1)
    assert (job["status"], job["successRecordCount"]) == ("Completed", 100)
    assert job["endTime"] >= job["submitTime"]
    output = server.bucket / "out" / arn.rpartition("/")[2] / "in.jsonl.out"
    lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [line["recordId"] for line in lines] == [record["recordId"] for record in records]
    assert all(line["modelOutput"]["content"][0]["text"] == "Hello, world!" for line in lines)
    control.stop_model_invocation_job(jobIdentifier=arn)  # too late, and harmless
    assert control.get_model_invocation_job(jobIdentifier=arn)["status"] == "Completed"


def asked(words: Any = "Hi", **fields: Any) -> Any:
    return {"model": PROFILE, "max_tokens": 400, "messages": [{"role": "user", "content": words}]} | fields


@pytest.mark.parametrize("credential", ["pair", "bearer"])
def test_anthropic_bedrock(server: Server, credential: str) -> None:
    told = server.of_anthropic
    if credential == "bearer":
        told = {"base_url": server.url, "aws_region": REGION, "api_key": KEY}
    with anthropic.AnthropicBedrock(**told, max_retries=0) as client:
        message = client.messages.create(**asked())
        with client.messages.stream(**asked()) as stream:
            assert "".join(stream.text_stream) == "Hello, world!"
            final = stream.get_final_message()
        assert message.content[0].to_dict() == {"type": "text", "text": "Hello, world!"}
        assert (final.usage, final.stop_reason) == (message.usage, message.stop_reason)
        assert message.id.startswith("msg_bdrk_")
        call = client.messages.create(**asked(tools=[WEATHER])).content[0].to_dict()
        assert call["input"] == {"city": CITY}
        beta: Any = client.beta.messages  # the SDK's own types do not let its client of Bedrock call it
        document = beta.create(**asked(JSON_ASKED), betas=["context-1m-2025-08-07"])
        assert json.loads(document.content[0].to_dict()["text"]) == ANSWER


async def test_anthropic_bedrock_without_waiting(server: Server) -> None:
    async with anthropic.AsyncAnthropicBedrock(**server.of_anthropic) as client:
        assert (await client.messages.create(**asked())).model == MODEL_ID
        async with client.messages.stream(**asked()) as stream:
            assert await stream.get_final_text() == "Hello, world!"


def test_anthropic_bedrock_is_told_of_errors(server: Server) -> None:
    with anthropic.AnthropicBedrock(**server.of_anthropic, max_retries=0) as client:
        with pytest.raises(anthropic.BadRequestError, match="max_tokens: 9000 > 8192"):
            client.messages.create(**asked(max_tokens=9000))
        with pytest.raises(anthropic.InternalServerError, match="Overloaded"):
            client.messages.create(**asked(EARLY))
        assert client.with_options(max_retries=2).messages.create(**asked(f"{EARLY}!")).model == MODEL_ID
        with client.messages.stream(**asked(STORY_ASKED, max_tokens=8000)) as stream:
            next(iter(stream))
        server.wait_until_idle()
        fails_in_the_middle(server)
        with pytest.raises(anthropic.APIStatusError, match="Internal server error"):
            list(client.messages.create(**asked(), stream=True))
    wrong = server.of_anthropic | {"aws_secret_key": "x"}
    with anthropic.AnthropicBedrock(**wrong) as client, pytest.raises(anthropic.PermissionDeniedError):
        client.messages.create(**asked())


@pytest.fixture(scope="module")
def of_javascript(module_server: Server) -> dict[str, Any]:
    """What AWS's SDK for JavaScript read, in one run."""
    skip_without("aws_sdk")
    module_server.engine.script = Field()
    pair = module_server.pair
    command = [NODE, "uses.mjs", module_server.url, pair.access_key_id, pair.secret, KEY, PROFILE]
    seen: dict[str, Any] = json.loads(output_of(command, HERE / "aws_sdk"))
    module_server.wait_until_idle()
    return seen


def test_javascript_reads_whole_and_streamed_replies(of_javascript: dict[str, Any]) -> None:
    whole, events = of_javascript["whole"], of_javascript["streamed"]
    assert whole["contentType"] == "application/json"
    assert whole["requestId"].count("-") == 4
    assert whole["message"]["content"] == [{"type": "text", "text": "Hello, world!"}]
    assert text_of(events) == "Hello, world!"
    assert events[-2]["usage"] == whole["message"]["usage"]
    assert "And then ".startswith(of_javascript["left"])
    assert of_javascript["byHttp1"]["message"]["content"] == whole["message"]["content"]


def test_javascript_reads_whole_and_streamed_conversations(of_javascript: dict[str, Any]) -> None:
    whole, events = of_javascript["conversed"], of_javascript["conversedInPieces"]
    assert (whole["content"], whole["stopReason"]) == ([{"text": "Hello, world!"}], "end_turn")
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert "".join(delta["text"] for delta in deltas) == "Hello, world!"
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    assert of_javascript["countedOfConverse"] == whole["usage"]["inputTokens"]


def test_javascript_calls_tools_in_conversations(of_javascript: dict[str, Any]) -> None:
    (block,) = of_javascript["called"]["content"]
    assert block["toolUse"]["input"] == {"city": CITY}
    events = of_javascript["calledInPieces"]
    started = next(event["contentBlockStart"]["start"] for event in events if "contentBlockStart" in event)
    assert started["toolUse"]["name"] == block["toolUse"]["name"] == "weather"
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert json.loads("".join(delta["toolUse"]["input"] for delta in deltas)) == {"city": CITY}


def test_javascript_shows_other_credentials(of_javascript: dict[str, Any]) -> None:
    for name in ("bearer", "session", "retried"):
        assert of_javascript[name]["message"]["model"] == MODEL_ID


def test_javascript_counts_and_asks_for_models(of_javascript: dict[str, Any]) -> None:
    assert of_javascript["counted"] == of_javascript["whole"]["message"]["usage"]["input_tokens"]
    assert [each["modelId"] for each in of_javascript["models"]] == [MODEL]
    assert [each["inferenceProfileId"] for each in of_javascript["profiles"]] == [PROFILE]


def test_javascript_is_told_of_errors(of_javascript: dict[str, Any]) -> None:
    errors = of_javascript["errors"]
    assert {name: (error["name"], error["status"]) for name, error in errors.items()} == {
        "secret": ("InvalidSignatureException", 403),
        "unknown": ("UnrecognizedClientException", 403),
        "too_many": ("ValidationException", 400),
        "too_many_conversed": ("ValidationException", 400),
        "overloaded": ("ServiceUnavailableException", 503),
        "overloaded_conversed": ("ServiceUnavailableException", 503),
    }
    assert "max_tokens: 9000 > 8192" in errors["too_many"]["message"]
