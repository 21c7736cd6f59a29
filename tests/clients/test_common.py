"""One suite for all clients that are libraries, against a live server.

Each is driven by a script, which prints what the client read in words that all of them have in common. Skipped where
tools/setup_clients.sh could not install the client.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.api.conftest import KEY
from tests.clients.conftest import Served, field_server
from tests.clients.field import ANSWER, CITY, Field
from tests.clients.installed import HERE, NODE, PYTHON, output_of, skip_without
from tests.fakes import ALIAS, MODEL_ID

pytestmark = pytest.mark.clients


@dataclass(frozen=True)
class Client:
    """A client that is installed in a folder beside this file, or with the tests themselves."""

    folder: str
    command: tuple[str, ...]
    ended: str = "end_turn"  # its words for these four reasons
    cut_short: str = "max_tokens"
    called: str = "tool_use"
    stopped: str = "stop_sequence"
    forces: bool = True  # whether it can force a call that is not structured output
    counts: bool = True  # whether it counts tokens
    caches: bool = True  # whether it can mark what is to be kept
    cites: bool = True  # whether it gives citations to its user
    cites_streams: bool = True  # also those of a streamed reply
    model: str = ALIAS  # its name for the model
    latest: str = ALIAS  # and for whichever is loaded
    statuses: Mapping[str, int] = field(default_factory=dict)  # its own for some errors
    signs: bool = False  # whether it shows a pair of access keys
    tells_model: bool = True  # whether it says which model has replied
    names_urls: bool = True  # whether it can name files by their URL

    def drive(self, url: str, key: str, pair: str, model: str, *words: str) -> Any:
        """What the client read of the server."""
        if self.folder != ".":
            skip_without(self.folder)
        shown = pair if self.signs else key
        return json.loads(output_of([*self.command, url, shown, model, *words], HERE / self.folder))


PYTHON_SDK = (sys.executable, "-W", "ignore", "python_sdk.py")
VERTEX = Client(
    ".", (*PYTHON_SDK, "vertex"), model="claude-3-5-haiku@20241022", latest="claude-3-5-haiku@latest"
)
OPENAI = Client(
    ".",
    (sys.executable, "-W", "ignore", "openai_sdk.py"),
    *("stop", "length", "tool_calls", "stop"),
    counts=False,
    caches=False,
    cites=False,
)

LITELLM = Client(
    "litellm",
    (PYTHON, "drive.py", "anthropic"),
    "stop",
    "length",
    "tool_calls",
    "stop",
    counts=False,
    cites=False,
    model=MODEL_ID,  # what it calls the model of a stream is what it was told
    statuses={"overloaded": 500},
)
CONVERSE = Client(
    ".",
    (sys.executable, "boto3_converse.py"),
    model=f"us.anthropic.{MODEL_ID}-v1:0",
    latest=f"us.anthropic.{ALIAS}-v1:0",
    signs=True,
    tells_model=False,
    names_urls=False,
    statuses={"overloaded": 503, "bad_key": 403, "not_found": 400},
)
LITELLM_CONVERSE = replace(
    LITELLM,
    command=(PYTHON, "drive.py", "bedrock/converse"),
    model=CONVERSE.model,
    latest=CONVERSE.latest,
    tells_model=False,
    statuses=CONVERSE.statuses,
)

CLIENTS = {
    "python": Client(".", (*PYTHON_SDK, "anthropic")),
    "python_0x": Client("python_0x", (PYTHON, "../python_sdk.py", "anthropic"), cites_streams=False),
    "vertex": VERTEX,
    "vertex_0x": replace(
        VERTEX,
        folder="python_0x",
        command=(PYTHON, "../python_sdk.py", "vertex"),
        counts=False,
        cites_streams=False,
    ),
    "openai": OPENAI,
    "openai_node": replace(OPENAI, folder="openai_node", command=(NODE, "drive.mjs")),
    "typescript": Client("typescript", (NODE, "uses.mjs")),
    "langchain": Client("langchain", (PYTHON, "drive.py")),
    "boto3_converse": CONVERSE,
    "langchain_converse": replace(
        CONVERSE, folder="langchain_aws", command=(PYTHON, "drive.py", "ChatBedrockConverse")
    ),
    "langchain_bedrock": replace(
        CONVERSE, folder="langchain_aws", command=(PYTHON, "drive.py", "ChatBedrock"), counts=False
    ),
    "ai_sdk": Client("ai_sdk", (NODE, "drive.mjs"), "stop", "length", "tool-calls", "stop", counts=False),
    "pydantic_ai": Client(
        "pydantic_ai", (PYTHON, "drive.py"), "stop", "length", "tool_call", "stop", forces=False, cites=False
    ),
    "litellm": LITELLM,
    "litellm_vertex": replace(
        LITELLM,
        command=(PYTHON, "drive.py", "vertex_ai"),
        model=VERTEX.model,
        latest=VERTEX.latest,
        statuses={"bad_key": 500},  # the key is refused where Google's library exchanges it
    ),
    "litellm_converse": LITELLM_CONVERSE,
    "litellm_invoke": replace(LITELLM_CONVERSE, command=(PYTHON, "drive.py", "bedrock/invoke")),
    "litellm_openai": replace(LITELLM, command=(PYTHON, "drive.py", "openai"), caches=False, statuses={}),
}


@dataclass(frozen=True)
class Run:
    """A client, what it read in one run, and what was still running on the server at its end."""

    client: Client
    seen: dict[str, Any]
    num_running: int


@pytest.fixture(scope="module", params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]


@pytest.fixture(scope="module")
def run(client: Client) -> Run:
    with field_server() as server:
        server.engine.script = Field()
        seen = client.drive(server.url, KEY, server.pair, client.model)
        until = time.monotonic() + 5
        while server.engine.stats().num_running and time.monotonic() < until:
            time.sleep(0.01)
        return Run(client, seen, server.engine.stats().num_running)


def test_whole_and_streamed_replies_agree(run: Run) -> None:
    whole, streamed = run.seen["whole"], run.seen["streamed"]
    assert whole["text"] == "Hello, world!"
    assert (whole["model"], whole["stop"]) == (MODEL_ID if run.client.tells_model else None, run.client.ended)
    assert whole["input"] == len(b"user: Hi\n")
    assert whole["output"] == len(b"Hello, world!") + 1
    assert streamed == whole


def test_turns_and_a_system_prompt(run: Run) -> None:
    shown = b"system: Be brief.\nuser: Hi\nassistant: Hello, world!\nuser: Again\n"
    assert run.seen["turns"]["text"] == "Hello, world!"
    # pydantic-ai sends the instructions of the agent that goes on, which has none.
    assert run.seen["turns"]["input"] in (len(shown), len(shown) - len(b"system: Be brief.\n"))


@pytest.mark.parametrize("loop", ["loop", "streamed_loop"])
def test_tools_are_called_and_their_results_read(run: Run, loop: str) -> None:
    call, answer = run.seen[loop]
    assert (call["calls"], call["stop"]) == ([["weather", {"city": CITY}]], run.client.called)
    assert (answer["text"], answer["calls"]) == (f"It is rain in {len(CITY)} letters.", [])
    assert answer["stop"] == run.client.ended


def test_a_client_s_own_loop_comes_to_an_answer(run: Run) -> None:
    assert run.seen.get("run", f"It is rain in {len(CITY)} letters.") == f"It is rain in {len(CITY)} letters."


def test_a_forced_call(run: Run) -> None:
    if not run.client.forces:
        assert "forced" not in run.seen
        return
    assert run.seen["forced"]["calls"] == [["weather", {"city": CITY}]]


def test_structured_output(run: Run) -> None:
    assert len(run.seen["structured"]) >= 2
    assert all(given == ANSWER for given in run.seen["structured"])


def test_a_marked_prompt_is_written_and_read(run: Run) -> None:
    if not run.client.caches:
        assert "cached" not in run.seen
        return
    writes, reads = run.seen["cached"]
    assert writes["cache_read"] == reads["cache_written"] == 0
    assert writes["cache_written"] == reads["cache_read"] > 400
    assert writes["input"] == reads["input"]
    assert writes["text"] == reads["text"] == "Hello, world!"


def test_a_cited_reply(run: Run) -> None:
    if not run.client.cites:
        assert "cited" not in run.seen
        return
    passages = ["It has 95 known moons."]
    whole, streamed = run.seen["cited"]
    assert whole == [["Well.", []], [" Jupiter has 95 known moons.", passages], [" Bye.", []]]
    # The SDK of 2024, which was before citations, leaves out what it does not know and reads on.
    read = passages if run.client.cites_streams else []
    assert streamed == [["Well.", []], [" Jupiter has 95 known moons.", read], [" Bye.", []]]


def test_how_replies_end(run: Run) -> None:
    cut_short, stopped = run.seen["cut_short"], run.seen["stopped"]
    assert (cut_short["text"], cut_short["stop"], cut_short["output"]) == ("Hello", run.client.cut_short, 5)
    assert (stopped["text"], stopped["stop"]) == ("Hello", run.client.stopped)


def test_tokens_are_counted(run: Run) -> None:
    if not run.client.counts:
        assert "counted" not in run.seen
        return
    assert run.seen["counted"] in (run.seen["turns"]["input"], run.seen["whole"]["input"])


def test_an_overload_is_retried(run: Run) -> None:
    assert run.seen["retried"]["text"] == "Hello, world!"


def test_a_stream_that_is_left_is_forgotten(run: Run) -> None:
    assert run.seen["left"][0] == "A"
    assert run.num_running == 0


def test_several_at_once(run: Run) -> None:
    assert run.seen["at_once"] == ["Hello, world!"] * 8


ERRORS = {
    "overloaded": (529, "Overloaded"),
    "bad_key": (
        401,
        "invalid x-api-key|Invalid bearer token|had an invalid authentication credential|invalid_grant"
        "|API Key is valid|this API key is not known|The request signature we calculated does not match",
    ),
    "not_found": (404, "model: claude-foo|claude-foo` was not found|model identifier is invalid"),
    "too_many": (400, "tokens: 9000 > 8192"),
    "thinking": (400, f"'{MODEL_ID}' does not support thinking."),
    "image": (400, "image"),
}


def test_errors_keep_status_and_sentence(run: Run) -> None:
    errors = run.seen["errors"]
    assert {"overloaded", "bad_key", "not_found", "image"} <= errors.keys() <= ERRORS.keys()
    for name, error in errors.items():
        status, sentences = ERRORS[name]
        assert error["status"] == run.client.statuses.get(name, status)
        assert any(sentence in error["message"] for sentence in sentences.split("|")), error


@pytest.mark.model
def test_structured_output_of_random_weights_validates(client: Client, long_window: Served) -> None:
    """Nobody has scripted this model: what it says is of the form because it could not say anything else."""
    served = (long_window.url, long_window.key, long_window.pair)
    given = client.drive(*served, client.latest, "structured")["structured"]
    for answer in given:
        assert answer.keys() == ANSWER.keys()
        assert answer["city"] in (CITY, "Rom")
        assert isinstance(answer["trams"], int)
        assert isinstance(answer["warm"], bool)
