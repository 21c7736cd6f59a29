"""The snippets of docs/migrate.md run as they stand, but for the address and the keys.

The lines of before are run with what the page exports, or with another address in the place of the vendor's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.protocol.records import DEFAULT_WORKSPACE_ID
from hokku.service.access_pairs import NewPair, SigningSecret
from hokku.service.keys import KeyRing, hash_key
from hokku.storage.storage import Storage
from tests.api.bedrock.conftest import SIGNING_SECRET, add_pair
from tests.api.conftest import KEY, services_of
from tests.clients.installed import HERE, NODE, PYTHON, output_of, skip_without
from tests.fakes import FakeEngine
from tests.live import live_server

PAGE = (HERE.parents[1] / "docs" / "migrate.md").read_text("utf-8")
# heading → what stands behind the language of a block → the block
SECTIONS: dict[str, dict[str, str]] = {
    section.partition("\n")[0]: dict(re.findall(r"```\w+ (\w+)\n(.*?)```", section, re.DOTALL))
    for section in PAGE.split("\n## ")[1:]
}
# The folder whose environment a section's snippets run in; "." has what the tests themselves have.
FOLDERS = {
    "Python SDK": ".",
    "TypeScript SDK": "typescript",
    "AnthropicBedrock": ".",
    "boto3, InvokeModel": ".",
    "boto3, Converse": ".",
    "LangChain for AWS": "langchain_aws",
    "AWS SDK for JavaScript": "aws_sdk",
    "AnthropicVertex": "litellm",  # which has Google's library
    "OpenAI's Python client": ".",
    "OpenAI's Node client": "openai_node",
    "litellm": "litellm",
}
NODE_FOLDERS = {"typescript", "aws_sdk", "openai_node"}
VENDOR = "https://api.anthropic.com"
CLOUDS = ("ANTHROPIC_", "AWS_", "GOOGLE_", "OPENAI_", "VERTEXAI_", "CLOUD_ML_")

pytestmark = pytest.mark.clients


@dataclass(frozen=True)
class Server:
    """A live server, and the pair that opens it besides the key."""

    url: str
    pair: NewPair

    def told(self, snippet: str) -> str:
        """A snippet with this server's address and keys."""
        for shown, real in (
            ("http://127.0.0.1:8080", self.url),
            ("the key that was printed", KEY),
            ("the id that was printed", self.pair.access_key_id),
            ("the secret that was printed", self.pair.secret),
        ):
            snippet = snippet.replace(shown, real)
        return snippet


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("migration")
    storage = Storage(f"sqlite:///{folder}/hokku.db")
    pair = add_pair(storage, DEFAULT_WORKSPACE_ID)
    engine = FakeEngine()
    keys = KeyRing([hash_key(KEY)], storage, SigningSecret(SIGNING_SECRET, folder))
    with live_server(create_app(replace(services_of(engine), keys=keys), ApiConfig())) as url:
        yield Server(url, pair)
    engine.close()
    storage.close()


def interpreter(heading: str) -> list[str]:
    """What runs a section's snippets, from the folder of its client."""
    folder = FOLDERS[heading]
    if folder in NODE_FOLDERS:
        return [NODE, "--input-type=module", "-e"]
    return [sys.executable if folder == "." else PYTHON, "-W", "ignore", "-c"]


def environment(**more: str) -> dict[str, str]:
    """Nothing that would lead to a cloud, but what is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CLOUDS)}
    return kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"} | more


def last_line(command: list[str], heading: str, told: dict[str, str]) -> str:
    """What a snippet prints in the end; litellm may say something about itself before."""
    return output_of(command, HERE / FOLDERS[heading], told).splitlines()[-1]


def exported(block: str, folder: Path) -> dict[str, str]:
    """What a block of the shell exports, run in a folder."""
    printed = output_of(["sh", "-c", f"{block}\nenv -0"], folder, environment())
    pairs = dict(line.partition("=")[::2] for line in printed.split("\0") if line)
    return {name: pairs[name] for name in re.findall(r"^export (\w+)=", block, re.MULTILINE)}


def test_every_snippet_is_run() -> None:
    assert SECTIONS.keys() == FOLDERS.keys()
    assert PAGE.count("```") // 2 == sum(map(len, SECTIONS.values()))
    assert all(blocks.keys() >= {"before", "after"} for blocks in SECTIONS.values())
    assert sorted([*LED, *MOVED]) == sorted(SECTIONS)


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_lines_of_after_run(server: Server, heading: str) -> None:
    skip_without_client(heading)
    command = [*interpreter(heading), server.told(SECTIONS[heading]["after"])]
    assert last_line(command, heading, environment()) == "Hello, world!"


# What the page exports leads these lines of before here; the others have to be moved from the vendor's address.
LED = [heading for heading, blocks in SECTIONS.items() if "instead" in blocks]
MOVED = [heading for heading, blocks in SECTIONS.items() if VENDOR in blocks["before"]]


@pytest.mark.parametrize("heading", LED)
def test_the_lines_of_before_run_with_what_is_exported(server: Server, heading: str, tmp_path: Path) -> None:
    skip_without_client(heading)
    told = exported(server.told(SECTIONS[heading]["instead"]), tmp_path)
    command = [*interpreter(heading), SECTIONS[heading]["before"]]
    assert last_line(command, heading, environment(**told)) == "Hello, world!"


@pytest.mark.parametrize("heading", MOVED)
def test_the_lines_of_before_run_at_another_address(server: Server, heading: str) -> None:
    skip_without_client(heading)
    command = [*interpreter(heading), SECTIONS[heading]["before"].replace(VENDOR, server.url)]
    told = environment(ANTHROPIC_API_KEY=KEY)
    assert last_line(command, heading, told) == "Hello, world!"


def skip_without_client(heading: str) -> None:
    if FOLDERS[heading] != ".":
        skip_without(FOLDERS[heading])
