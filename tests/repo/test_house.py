"""The house itself: floors, versions, links, and what may not stand in a committed file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import hokku

ROOT = Path(__file__).parents[2]
# Written in two parts each, so that this file may name what no file may hold.
MACHINE_PATHS = re.compile("/" + r"(work|farm|root)/")
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
EYES = ROOT / "src" / "hokku" / "registry" / "eyes" / "model.safetensors"
MOST_BYTES = 2_000_000


def committed(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [file for name in listed.stdout.split("\0") if name and (file := ROOT / name).is_file()]


def lines_with(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    found = []
    for file in files:
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # a golden array, not a text
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    return found


def test_imports_go_down_the_floors_only() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_no_path_of_one_machine_is_committed() -> None:
    assert lines_with(MACHINE_PATHS, committed()) == []


def test_nothing_unfinished_is_committed() -> None:
    assert lines_with(UNFINISHED, committed("src", "csrc", "tools", "tests/*.py")) == []


def test_no_committed_file_is_large_but_the_eyes() -> None:
    """Those have a limit of their own (`tests/house/test_eyes.py`)."""
    assert [file for file in committed() if file.stat().st_size > MOST_BYTES and file != EYES] == []


def test_every_python_file_opens_with_what_it_is_for() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in committed("src/*.py", "tools/*.py", "tests/*.py")
        if (text := file.read_text("utf-8")).strip() and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


def test_the_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert {project["version"], hokku.__version__, version("hokku-llm"), newest[1]} == {project["version"]}


def test_links_between_documents_lead_somewhere() -> None:
    link = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in committed("*.md")
        for target in link.findall(page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_files_that_documents_name_are_there() -> None:
    named = re.compile(r"`((?:src|csrc|tools|tests|docs)/[\w./-]+)`")
    missing = {
        f"{page.relative_to(ROOT)}: {name}"
        for page in committed("*.md")
        for name in named.findall(page.read_text("utf-8"))
        if not (ROOT / name).exists()
    }
    assert missing == set()


def test_every_decision_is_listed() -> None:
    notes = ROOT / "docs" / "decisions"
    index = (notes / "README.md").read_text("utf-8")
    assert [file.name for file in sorted(notes.glob("0*.md")) if f"({file.name})" not in index] == []


def test_constraints_pin_versions_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert all(
        line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line) for line in lines
    )


@pytest.mark.parametrize(
    "module",
    [
        *(
            "PIL",
            "alembic",
            "gguf",
            "httpcore",
            "httpx",
            "huggingface_hub",
            "llguidance",
            "opentelemetry",
            "prometheus_client",
            "pypdfium2",
            "redis",
        ),
        *("sqlalchemy", "sqlite3", "torch", "transformers"),
        # Of our own, what most servers never need:
        *("hokku.blobs.s3", "hokku.quotas.valkey", "hokku.upstream.client"),
        *("hokku.documents.worker", "hokku.storage.database", "hokku.storage.keys", "hokku.storage.ledger"),
    ],
)
def test_serving_does_not_load(module: str) -> None:
    code = f"import sys, hokku.app, hokku.server, hokku.cli; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
