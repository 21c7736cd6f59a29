"""The README's snippets run as they stand, but for the address and the key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.server import RealServer

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_a_client_and_a_script() -> None:
    assert [("anthropic" in snippet, "hokku import" in snippet) for snippet in SNIPPETS] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.model
@pytest.mark.clients
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_client_works(real_server: RealServer, capsys: pytest.CaptureFixture[str]) -> None:
    snippet = SNIPPETS[0].replace("http://127.0.0.1:8080", real_server.url)
    exec(snippet.replace("the key that was printed", real_server.key), {})
    assert len(capsys.readouterr().out) > 40


@pytest.mark.model
def test_the_script_works(capsys: pytest.CaptureFixture[str]) -> None:
    exec(SNIPPETS[1], {})
    assert "end_turn" in (said := capsys.readouterr().out) or "max_tokens" in said
