"""A server that speaks S3, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

BUCKET = "bucket"
VARIABLES = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
_START_SECS = 60


@contextmanager
def running_s3() -> Iterator[str]:
    """Its URL; it has one bucket, `BUCKET`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _make_bucket(f"{url}/{BUCKET}", process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _make_bucket(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECS
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, data=b"", method="PUT")).close()
            return
        except URLError:
            assert process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < until, "the S3 server did not start"
            time.sleep(0.1)
