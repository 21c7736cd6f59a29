"""Keys, workspaces, usage and the database from the terminal."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hokku.cli import run
from hokku.protocol.records import LedgerEntry
from hokku.service.access_pairs import SigningSecret
from hokku.service.keys import KeyRing
from hokku.service.prices import HOSTED_PRICES, cost
from hokku.storage.revision import REVISION
from hokku.storage.storage import Storage


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOKKU_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.delenv("HOKKU_DATABASE", raising=False)
    return tmp_path


@pytest.fixture
def storage(home: Path) -> Iterator[Storage]:
    storage = Storage(f"sqlite:///{home}/data/hokku.db")
    yield storage
    storage.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(list(arguments)) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(list(arguments))
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return code, message


async def test_a_key_s_life(storage: Storage, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    secret = said(capsys, "keys", "create", "nightly reports", "--days", "30").strip()
    ring = KeyRing(storage=storage)
    identity = await ring.identify(secret)
    assert identity is not None
    assert (identity.workspace_id, identity.role) == ("wrkspc_default", "user")
    listed = said(capsys, "keys", "list")
    assert re.search(
        rf"{identity.key_id}\s+nightly reports\s+default\s+user\s+sk-hokku\S+…{secret[-4:]}\s+active", listed
    )
    assert secret not in listed
    assert secret.encode() not in b"".join(file.read_bytes() for file in (home / "data").iterdir())
    assert said(capsys, "keys", "revoke", str(identity.key_id)) == f"{identity.key_id} is revoked\n"
    assert await ring.identify(secret) is None
    code, message = refused(capsys, "keys", "revoke", "apikey_none")
    assert code == 1
    assert "there is no key apikey_none" in message


async def test_an_access_key_s_life(storage: Storage, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    printed = said(capsys, "keys", "create", "boto3", "--aws", "--days", "30").splitlines()
    (first, access_key_id), (second, secret) = (line.split("=", 1) for line in printed)
    assert (first, second) == ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    assert (len(access_key_id), len(secret)) == (20, 40)
    ring = KeyRing(storage=storage, signing=SigningSecret("", home / "data"))
    pair = await ring.access_pair(access_key_id)
    assert pair is not None
    assert (pair.secret, pair.is_expired, pair.identity.workspace_id) == (secret, False, "wrkspc_default")
    listed = said(capsys, "keys", "list")
    assert re.search(rf"{pair.identity.key_id}\s+boto3\s+default\s+user\s+{access_key_id}\s+active", listed)
    for file in (home / "data").iterdir():
        assert secret.encode() not in file.read_bytes()
    assert stat.S_IMODE((home / "data" / "signing-secret").stat().st_mode) == 0o600
    for shown in (access_key_id, secret):  # as a bearer they open nothing
        assert await ring.identify(shown) is None
    other = said(capsys, "keys", "create", "other", "--aws").splitlines()
    assert await ring.access_pair(other[0].partition("=")[2]) is not None
    assert (
        await KeyRing(storage=storage, signing=SigningSecret("x" * 32, home)).access_pair(access_key_id)
        is None
    )
    said(capsys, "keys", "revoke", str(pair.identity.key_id))
    assert await ring.access_pair(access_key_id) is None


async def test_workspaces(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    workspace_id = said(capsys, "workspaces", "create", "web").strip()
    secret = said(capsys, "keys", "create", "app", "--workspace", "web", "--role", "admin").strip()
    ring = KeyRing(storage=storage)
    identity = await ring.identify(secret)
    assert identity is not None
    assert (identity.workspace_id, identity.role) == (workspace_id, "admin")
    assert said(capsys, "workspaces", "archive", "web") == "web is archived\n"
    assert await ring.identify(secret) is None
    assert re.search(rf"{workspace_id}\s+web\s+\S+\s+\S+", said(capsys, "workspaces", "list"))
    assert "there is no workspace none" in refused(capsys, "keys", "create", "x", "-w", "none")[1]
    assert "there is a workspace of that name" in refused(capsys, "workspaces", "create", "web")[1]
    code, message = refused(capsys, "keys", "create", "x", "--role", "king")
    assert (code, "must be user or admin" in message) == (2, True)


@pytest.mark.parametrize(
    ("by", "line"),
    [
        ("day", r"\d{4}-\d\d-\d\d +3 +1,200 +0 +0 +30 +0\.0009 +0\.0009 +█"),
        ("workspace", r"wrkspc_2 +1 +200 .*\n"),
        ("key", r"settings +3 .*\n"),
        ("tier", r"batch +1 +400 +0 +0 +10 +0\.0002 +0\.0002"),
        ("model", r"haiku +3 "),
    ],
)
def test_usage(storage: Storage, capsys: pytest.CaptureFixture[str], by: str, line: str) -> None:
    assert said(capsys, "usage").startswith("no requests since ")
    used: list[Any] = [
        ("wrkspc_1", 600, "standard"),
        ("wrkspc_2", 200, "standard"),
        ("wrkspc_1", 400, "batch"),
    ]
    for workspace_id, num_in, tier in used:
        tokens: Any = {"input": num_in, "output": 10}
        own = cost(tokens, HOSTED_PRICES, tier)
        entry = LedgerEntry(
            datetime.now(UTC), "req", workspace_id, None, "haiku", tier, "succeeded", tokens, own
        )
        storage.ledger.append([entry])
    assert re.search(line, said(capsys, "usage", "--by", by))


def test_a_dimension_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    code, message = refused(capsys, "usage", "--by", "moon")
    assert (code, "must be day, workspace, key, model, tier, not 'moon'" in message) == (2, True)


def test_database(storage: Storage, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert f"has revision none; this release needs {REVISION}" in said(capsys, "database", "status")
    told = said(capsys, "database", "upgrade")
    assert told.startswith("making revision 0001\n")
    assert told.endswith(f"making revision {REVISION}\nthe database has revision {REVISION}\n")
    with storage.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    code, message = refused(capsys, "keys", "list")
    assert (code, "which this release does not know" in message) == (10, True)
    code, message = refused(capsys, "database", "status", "--database", "mysql://root:secret@host/x")
    assert (code, "secret" in message) == (2, False)


@pytest.mark.parametrize("command", ["keys create", "usage"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(rf"Examples?:\s+.*hokku {command}", said(capsys, *command.split(), "--help"), re.DOTALL)


def test_limits(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "limits", "set", "everybody", "--requests", "1000", "--input-tokens", "400000") == ""
    said(capsys, "limits", "set", "default", "--output-tokens", "80000", "--usd", "12.5")
    said(capsys, "limits", "set", "default", "--of-model", "haiku", "--requests", "5")
    listed = said(capsys, "limits", "list")
    assert re.search(r"everybody +each +1,000 +400,000 *\n", listed)
    assert re.search(r"default +each +80,000 +12.50 *\n", listed)
    assert re.search(r"default +haiku +5 *\n", listed)
    said(capsys, "limits", "set", "default")
    assert "80,000" not in said(capsys, "limits", "list")
    said(
        capsys,
        "limits",
        "set",
        "everybody",
        "--batch-calls",
        "50",
        "--queued",
        "100000",
        "--count-calls",
        "2000",
    )
    listed = said(capsys, "limits", "list")
    assert all(each in listed for each in ("Batches/min", "50", "Queued", "100,000", "Counts/min", "2,000"))
    assert "Files/min" not in listed
    assert (
        "is for all models together"
        in refused(capsys, "limits", "set", "default", "--queued", "1", "--of-model", "m")[1]
    )
    assert "no workspace nobody" in refused(capsys, "limits", "set", "nobody", "--requests", "1")[1]
    assert "must be an amount of dollars" in refused(capsys, "limits", "set", "everybody", "--usd", "-1")[1]
    assert (
        "is for all models together"
        in refused(capsys, "limits", "set", "default", "--usd", "1", "--of-model", "m")[1]
    )
    assert "must be at most" in refused(capsys, "limits", "set", "default", "--requests", str(2**53))[1]


def test_a_database_of_an_earlier_release_is_refused_until_it_is_upgraded(
    storage: Storage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("hokku.storage.revision.REVISION", "0001")
        secret = said(capsys, "keys", "create", "old").strip()
    storage.close()
    sentence = (
        f"hokku: database: has revision 0001, this release needs {REVISION} (stop every server that uses it, "
        "make a copy, and run hokku database upgrade)\n"
    )
    for command in ("keys", "list"), ("usage",):
        assert refused(capsys, *command) == (10, sentence)
    serving = [sys.executable, "-m", "hokku", "serve", "--port", "0"]
    server = subprocess.run(serving, capture_output=True, text=True, timeout=120)
    assert (server.returncode, server.stdout, server.stderr) == (10, "", sentence)
    steps = said(capsys, "database", "upgrade").splitlines()
    assert steps[0] == "making revision 0002"
    assert steps[-1] == f"the database has revision {REVISION}"
    assert secret[-4:] in said(capsys, "keys", "list")
