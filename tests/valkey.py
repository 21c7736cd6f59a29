"""A Valkey or Redis of the tests' own: in a temporary folder, on a Unix socket, gone afterwards."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Valkey:
    """A server that can be stopped and started anew."""

    def __init__(self, program: str, folder: Path) -> None:
        self._socket = folder / "socket"
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--dir", str(folder)]
        self._command = [program, *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        """Ready for connections on return."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not self._socket.exists():
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """At once: what it held is lost. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)


def program() -> str | None:
    """The server's program, where there is one."""
    return shutil.which("valkey-server") or shutil.which("redis-server")


@contextmanager
def running_valkey(found: str) -> Iterator[Valkey]:
    """A server that runs as long as the context."""
    with tempfile.TemporaryDirectory(prefix="hokku-valkey-") as name:
        valkey = Valkey(found, Path(name))
        valkey.start()
        try:
            yield valkey
        finally:
            valkey.stop()
