"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

_OPTIONS = "-c listen_addresses= -c max_connections=60"
# Without the settings that make a crash harmless: the tests' data are not worth anything.
_UNSAFE_OPTIONS = f"{_OPTIONS} -c fsync=off -c full_page_writes=off"


class Postgres:
    """A running server. Each test gets a database of its own."""

    def __init__(self, folder: Path, run: list[str], programs: Path, options: str) -> None:
        self._folder = folder
        self._options = options
        self._run = run
        self._programs = programs
        self._numbers = count()

    def fresh_url(self) -> str:
        """The URL of a new, empty database."""
        name = f"hokku_{next(self._numbers)}"
        self._program("createdb", "-h", str(self._folder), "-U", "hokku", name)
        return f"postgresql://hokku@/{name}?host={self._folder}"

    def stop(self) -> None:
        """At once, as if the power failed."""
        self._program("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")

    def start(self) -> None:
        """Ready for connections on return."""
        options = f"-k {self._folder} {self._options}"
        log = str(self._folder / "log")
        self._program("pg_ctl", "-D", str(self._folder / "data"), "-o", options, "-l", log, "-w", "start")

    def initialise(self) -> None:
        """Make the cluster."""
        self._program(
            "initdb", "-D", str(self._folder / "data"), "-U", "hokku", "-A", "trust", "-N", "-E", "UTF8"
        )

    def _program(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [*self._run, str(self._programs / name), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )


def programs() -> Path | None:
    """The folder of PostgreSQL's own programs; Debian keeps them apart from the others."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    folders += [Path(found).resolve().parent] if found else []
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def running_postgres(found: Path, *, is_durable: bool = False) -> Iterator[Postgres]:
    """A server that runs as long as the context; `is_durable`: what is committed is on disk."""
    with tempfile.TemporaryDirectory(prefix="hokku-pg-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        run: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "nobody")
            run = ["setpriv", "--reuid=nobody", "--clear-groups", "--"]
        postgres = Postgres(folder, run, found, _OPTIONS if is_durable else _UNSAFE_OPTIONS)
        postgres.initialise()
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
