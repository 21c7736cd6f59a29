"""`hokku serve` as a process on the default model: the printed client works as pasted, and the end is clean."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hokku.cli.serve import snippet

pytestmark = pytest.mark.model

Server = tuple["subprocess.Popen[str]", str]  # the process and what it printed until it was ready


@pytest.fixture
def server(default_gguf: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    grace_secs = getattr(request, "param", "60")
    environ = os.environ | {
        "HOKKU_DATA_DIR": str(tmp_path),
        "HOKKU_PORT": "0",
        "HOKKU_GRACE_SECS": grace_secs,
    }
    environ.pop("HOKKU_API_KEY", None)
    command = [sys.executable, "-m", "hokku", "serve"]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        printed = ""
        for line in process.stdout or ():
            printed += line
            if line == "PY\n":
                break
        yield process, printed
        process.send_signal(signal.SIGKILL)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in {text!r}"
    return match[1]


def ask(printed: str, max_tokens: int) -> tuple[str, dict[str, str], dict[str, object]]:
    """Address, headers and body of a streamed question to the server that printed this."""
    headers = {"x-api-key": found(r'api_key="([^"]+)"', printed), "anthropic-version": "2023-06-01"}
    messages = [{"role": "user", "content": "Tell me a story."}]
    body = {
        "model": "claude-3-5-haiku-latest",
        "max_tokens": max_tokens,
        "stream": True,
        "messages": messages,
    }
    return found(r"address +(\S+)", printed) + "/v1/messages", headers, body


def test_the_printed_client_works_as_pasted(server: Server, tmp_path: Path) -> None:
    _, printed = server
    assert "SmolLM2-135M" in printed
    client = printed.split("Try it from another terminal:\n\n")[1]
    pasted = subprocess.run(["bash", "-c", client], capture_output=True, text=True, check=True)
    assert len(pasted.stdout.strip()) > 20
    assert stat.S_IMODE((tmp_path / "api-key").stat().st_mode) == 0o600


def test_a_configured_key_is_not_printed() -> None:
    client = snippet("http://127.0.0.1:1", None, "m")
    assert 'api_key=os.environ["HOKKU_API_KEY"]' in client
    compile(client.split("<<'PY'\n")[1].removesuffix("PY"), "snippet", "exec")


def test_a_stream_under_way_at_sigterm_is_finished(server: Server) -> None:
    process, printed = server
    url, headers, body = ask(printed, max_tokens=120)
    with httpx.stream("POST", url, headers=headers, json=body, timeout=60) as response:
        lines = response.iter_lines()
        next(line for line in lines if "content_block_delta" in line)
        process.send_signal(signal.SIGTERM)
        assert any("message_stop" in line for line in lines)
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("server", ["1"], indirect=True)
def test_a_stream_that_needs_longer_ends_with_an_error(server: Server) -> None:
    process, printed = server
    url, headers, body = ask(printed, max_tokens=4000)
    ready = url.replace("/v1/messages", "/readyz")
    with httpx.stream("POST", url, headers=headers, json=body, timeout=60) as response:
        lines = response.iter_lines()
        next(line for line in lines if "content_block_delta" in line)
        process.send_signal(signal.SIGTERM)
        while (state := httpx.get(ready)).status_code == 200:
            pass
        assert state.json() == {"status": "draining"}
        refused = httpx.post(url, headers=headers, json=body)
        assert refused.status_code == 529
        last = [line for line in lines if line][-2:]
    assert last[0] == "event: error"
    assert "overloaded_error" in last[1]
    assert process.wait(timeout=60) == 0


def test_ctrl_c_is_a_clean_end_too(server: Server) -> None:
    process, _ = server
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert "Traceback" not in (process.stdout.read() if process.stdout else "")


# No start or reply needs these: `rich` draws bars and tables (18 ms), the other commands measure and fetch, and what
# fetches and packs weights is for the first start only.
HEAVY = {"rich", "httpx", "huggingface_hub", "requests", "PIL", "pytest", "unittest", "anthropic"}
OTHER_ROOMS = {"hokku.chat.gguf_vocab", "hokku.chat.hf_vocab", "hokku.registry.sources.wheel"}
OTHER_COMMANDS = {f"hokku.cli.{name}" for name in ("bench", "chat", "doctor", "models", "measure", "remote")}


def test_a_start_loads_nothing_that_it_does_not_need(default_gguf: Path, tmp_path: Path) -> None:
    environ = os.environ | {"HOKKU_DATA_DIR": str(tmp_path), "HOKKU_PORT": "0"}
    command = [sys.executable, "-X", "importtime", "-m", "hokku", "serve"]
    told = tmp_path / "imports.txt"
    with (
        told.open("w") as imports,
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=imports, text=True) as process,
    ):
        assert any(line == "PY\n" for line in process.stdout or ())
        process.terminate()
    loaded = set(re.findall(r"\| +(\S+)$", told.read_text(), re.MULTILINE))
    assert "hokku.app" in loaded
    assert loaded & (HEAVY | OTHER_ROOMS | OTHER_COMMANDS) == set()
