"""The Claude Code command line in print mode against a live server, with a home of its own and no other network.

Skipped where tools/setup_clients.sh could not install it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hokku.protocol.engine import GenerationRequest
from hokku.protocol.errors import EngineFailed, Overloaded
from tests.api.conftest import KEY
from tests.clients.conftest import FieldServer, Served, field_server
from tests.clients.field import calls
from tests.clients.installed import CLAUDE_CODE, NODE, claude_code_environment, output_of, skip_without
from tests.fakes import ALIAS, END_OF_TURN, MODEL_ID, Script, says

SECRET = "the key is under the third stone"
OWN_NAME = "hokku-local"  # a name that the command line has never heard of
PIXEL = bytes.fromhex(  # a PNG of one pixel
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f000500"
    "01ff89993d1d0000000049454e44ae426082"
)

pytestmark = pytest.mark.clients


@dataclass(frozen=True)
class ClaudeCode:
    """The command line, in a folder and with a home that nobody else uses."""

    home: Path
    folder: Path

    def __call__(self, url: str, *words: str, fails: bool = False, **more: str) -> list[dict[str, Any]]:
        """Run `claude -p`; the messages it printed, the result last."""
        command = [NODE, str(CLAUDE_CODE), "-p", *words, "--output-format", "stream-json", "--verbose"]
        told = claude_code_environment(self.home, url, KEY, ALIAS) | more
        printed = output_of(command, self.folder, told, fails=fails)
        return [json.loads(line) for line in printed.splitlines()]


@pytest.fixture
def claude(tmp_path: Path) -> ClaudeCode:
    skip_without("claude_code")
    for name in ("home", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "note.txt").write_text(f"{SECRET}\n", "utf-8")
    (tmp_path / "folder" / "dot.png").write_bytes(PIXEL)
    return ClaudeCode(tmp_path / "home", tmp_path / "folder")


@pytest.fixture
def server() -> Iterator[FieldServer]:
    with field_server(OWN_NAME) as server:
        yield server


def check_success(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The result, which has to be a good one."""
    result = messages[-1]
    assert (result["type"], result["subtype"], result["is_error"]) == ("result", "success", False), result
    return result


def calls_then_repeats(name: str, **arguments: Any) -> Any:
    """A model that calls a tool, and says what came back."""

    def script(request: GenerationRequest) -> Script:
        prompt = bytes(request.prompt).decode()
        # The instructions of the command line may well mention the tag; a result stands behind what the user asked.
        last_turn = prompt.rpartition("user: ")[2]
        result = re.search("<tool_response>\n(.*?)</tool_response>", last_turn, re.DOTALL)
        said = f"It says: {result[1]}" if result else calls(name, arguments)
        return Script([*said.encode(), END_OF_TURN])

    return script


@pytest.mark.model
def test_two_turns_on_random_weights(claude: ClaudeCode, long_window: Served) -> None:
    """The second turn reads from the cache what the first wrote there: system prompt, tools and turns."""
    first = check_success(claude(long_window.url, "say hi"))
    assert first["stop_reason"] == "end_turn"
    assert first["result"].strip()
    assert first["usage"]["output_tokens"] > 1
    written = first["usage"]["cache_creation_input_tokens"]
    assert written > 10_000
    second = check_success(claude(long_window.url, "and again", "--continue"))
    assert second["session_id"] == first["session_id"]
    assert second["usage"]["cache_read_input_tokens"] >= written
    assert second["usage"]["output_tokens"] > 1


def test_a_reply_in_pieces(claude: ClaudeCode, server: FieldServer) -> None:
    server.engine.script = says("Grüße, 世界 😀")
    messages = claude(server.url, "say hi", "--include-partial-messages")
    deltas = [
        each["event"]["delta"]["text"]
        for each in messages
        if each["type"] == "stream_event" and each["event"]["type"] == "content_block_delta"
    ]
    assert "".join(deltas) == check_success(messages)["result"] == "Grüße, 世界 😀"
    assert check_success(messages)["modelUsage"][ALIAS]["outputTokens"] == len("Grüße, 世界 😀".encode()) + 1


@pytest.mark.parametrize(
    ("tool", "arguments", "allowed"),
    [
        ("Read", {"file_path": "note.txt"}, "Read"),
        ("Bash", {"command": "cat note.txt", "description": "Read the note"}, "Bash(cat:*)"),
    ],
)
def test_its_tools_are_called_and_their_results_come_back(
    claude: ClaudeCode, server: FieldServer, tool: str, arguments: dict[str, str], allowed: str
) -> None:
    if "file_path" in arguments:
        arguments = {"file_path": str(claude.folder / arguments["file_path"])}
    server.engine.script = calls_then_repeats(tool, **arguments)
    result = check_success(claude(server.url, "what does the note say?", "--allowedTools", allowed))
    assert SECRET in result["result"]
    assert result["num_turns"] == 2
    call, answer = server.engine.requests
    assert SECRET not in bytes(call.prompt).decode()
    assert SECRET in bytes(answer.prompt).decode()
    assert result["usage"]["cache_read_input_tokens"] > 10_000


def test_a_form_for_the_answer(claude: ClaudeCode, server: FieldServer) -> None:
    """`--json-schema` becomes a tool of its own."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    server.engine.script = says(calls("StructuredOutput", {"n": 7}))
    result = check_success(claude(server.url, "a number", "--json-schema", json.dumps(schema)))
    assert result["structured_output"] == {"n": 7}


def test_a_window_that_is_too_small_is_said(claude: ClaudeCode, server: FieldServer) -> None:
    """It reads the figures out of the refusal. Bare, it needs far less."""
    server.engine.context_window_tokens = 16_384
    result = claude(server.url, "say hi", fails=True)[-1]
    assert result["is_error"]
    assert "limit 16384" in result["result"]
    assert check_success(claude(server.url, "say hi", "--bare"))["result"] == "Hello, world!"


def test_tokens_are_counted(claude: ClaudeCode, server: FieldServer) -> None:
    counted = check_success(claude(server.url, "/context"))["result"]
    assert "System prompt" in counted
    assert not server.engine.requests


def test_a_wrong_key_is_the_end(claude: ClaudeCode, server: FieldServer) -> None:
    result = claude(server.url, "say hi", fails=True, ANTHROPIC_API_KEY="sk-wrong")[-1]
    assert result["is_error"]
    assert result["api_error_status"] == 401


def test_a_token_is_as_good_as_a_key(claude: ClaudeCode, server: FieldServer) -> None:
    check_success(claude(server.url, "say hi", ANTHROPIC_API_KEY="", ANTHROPIC_AUTH_TOKEN=KEY))


def test_failures_are_tried_again(claude: ClaudeCode, server: FieldServer) -> None:
    replies = iter(
        [
            Script([], Overloaded("Overloaded"), error_after=-1),
            Script([*b"Half a"], EngineFailed("a secret"), error_after=3),
        ]
    )
    server.engine.script = lambda request: next(replies, None) or says("Hello, world!")(request)
    assert check_success(claude(server.url, "say hi"))["result"] == "Hello, world!"


def test_an_image_that_is_refused_is_left_out(claude: ClaudeCode, server: FieldServer) -> None:
    server.engine.script = calls_then_repeats("Read", file_path=str(claude.folder / "dot.png"))
    check_success(claude(server.url, "what is to be seen?", "--allowedTools", "Read"))


def test_what_a_newer_model_would_be_sent_is_refused_until_it_fits(
    claude: ClaudeCode, server: FieldServer
) -> None:
    """To a name it does not know it sends what today's models take: deferred tools, effort, a system prompt in parts
    between the turns. Each refusal names its field, and the command line goes on without."""
    result = check_success(claude(server.url, "say hi", ANTHROPIC_MODEL=OWN_NAME, MAX_THINKING_TOKENS="0"))
    assert result["result"] == "Hello, world!"
    assert list(result["modelUsage"]) == [OWN_NAME]


def test_a_model_that_is_not_there(claude: ClaudeCode, server: FieldServer) -> None:
    result = claude(server.url, "say hi", fails=True, ANTHROPIC_MODEL="claude-3-7-sonnet-20250219")[-1]
    assert result["is_error"]
    assert result["api_error_status"] == 404
    assert MODEL_ID not in result["result"]
