"""The pages about wires say everything the code does, and name only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hokku.api.anthropic.blocks import BLOCK_TYPES
from hokku.api.anthropic.dialect import VERSIONS
from hokku.api.anthropic.envelope import STATUS_AND_TYPE
from hokku.api.anthropic.messages_body import MESSAGES_KEYS
from hokku.api.bedrock.converse_body import CONVERSE_MEMBERS
from hokku.api.bedrock.converse_content import CONTENT_MEMBERS, SYSTEM_MEMBERS
from hokku.api.bedrock.errors import STATUS_AND_NAME
from hokku.api.bedrock.invoke_body import VERSIONS as BEDROCK_VERSIONS
from hokku.api.openai.chat_body import CHAT_KEYS
from hokku.api.openai.completion_body import COMPLETION_KEYS
from hokku.api.vertex.body import VERSIONS as VERTEX_VERSIONS
from hokku.api.vertex.errors import GOOGLE_STATUS
from hokku.protocol.errors import HokkuError, OperatorError

ROOT = Path(__file__).parents[2]
COMPATIBILITY = (ROOT / "docs" / "compatibility.md").read_text("utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text("utf-8")
WIRES = {path.stem: path.read_text("utf-8") for path in (ROOT / "docs" / "wires").glob("*.md")}


def family(parent: type[HokkuError]) -> list[type[HokkuError]]:
    return [parent, *(each for child in parent.__subclasses__() for each in family(child))]


@pytest.mark.parametrize("word", [*MESSAGES_KEYS, *BLOCK_TYPES, *VERSIONS])
def test_every_field_block_and_version_is_documented(word: str) -> None:
    assert f"`{word}`" in COMPATIBILITY


def test_fields_are_documented_in_the_order_of_the_checks() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", COMPATIBILITY.partition("## Body of Messages")[2], re.MULTILINE)
    assert rows[: len(MESSAGES_KEYS)] == list(MESSAGES_KEYS)


@pytest.mark.parametrize("error", STATUS_AND_TYPE)
def test_every_status_is_documented(error: type[HokkuError]) -> None:
    status, error_type = STATUS_AND_TYPE[error]
    assert f"| `{error.__name__}` | {status} | `{error_type}` |" in ERRORS


@pytest.mark.parametrize("error", family(OperatorError))
def test_every_exit_code_is_documented(error: type[OperatorError]) -> None:
    assert f"| `{error.__name__}` | {error.exit_code} |" in ERRORS


@pytest.mark.parametrize("error", GOOGLE_STATUS)
def test_every_status_of_google_is_documented(error: type[HokkuError]) -> None:
    status, word = GOOGLE_STATUS[error]
    assert re.search(rf"^\| `{error.__name__}` \| {status}.* \| `{word}` \|", WIRES["vertex"], re.MULTILINE)


def test_every_version_of_vertex_is_documented() -> None:
    assert ", ".join(f"`{version}`" for version in VERTEX_VERSIONS) in WIRES["vertex"]


@pytest.mark.parametrize("error", STATUS_AND_NAME)
def test_every_exception_of_bedrock_is_documented(error: type[HokkuError]) -> None:
    status, name = STATUS_AND_NAME[error]
    assert f"| `{error.__name__}` | {status} | `{name}` |" in WIRES["bedrock"]


@pytest.mark.parametrize("member", [*CONVERSE_MEMBERS, *CONTENT_MEMBERS, *SYSTEM_MEMBERS])
def test_every_member_of_converse_is_documented(member: str) -> None:
    assert re.search(rf"^\|.*`{member}`.* \|", WIRES["converse"], re.MULTILINE)


def test_every_version_of_bedrock_is_documented() -> None:
    assert ", ".join(f"`{version}`" for version in BEDROCK_VERSIONS) in WIRES["bedrock"]


@pytest.mark.parametrize("field", sorted(CHAT_KEYS | COMPLETION_KEYS))
def test_every_field_of_openai_is_documented(field: str) -> None:
    assert re.search(rf"^\| [^|]*`{field}`[^|]* \|", WIRES["openai"], re.MULTILINE)


@pytest.mark.parametrize("page", [COMPATIBILITY, *WIRES.values()], ids=["compatibility", *WIRES])
def test_named_tests_exist(page: str) -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert named
    assert {name for name in named if f"def {name}(" not in sources} == set()
