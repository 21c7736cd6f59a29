"""How many instructions a streamed token costs on each wire, counted by valgrind.

    python -m benchmarks.wire_instructions

`benchmarks.wires` measures time, which other programs on the machine change by more than the wires differ. Instructions
are the same in every run. The same replies go out on every wire, once short and once long; what the long one takes
besides, of all threads, divided by its tokens besides, is what a token costs (to hold: at most 5 % more than on the
Anthropic wire). Needs valgrind (`apt install valgrind`, `dnf install valgrind`) and a few minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.platform_overhead import bare
from benchmarks.wires import MOST_SHARE, LockstepEngine, ask, wires
from hokku.opening import open_model
from hokku.service import bridge
from hokku.service.models import ServedModel
from hokku.settings import load_settings

_VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
_COUNT = re.compile(r"^==(\d+)==\s+I\s+refs:\s+([\d,]+)", re.MULTILINE)
_SHORT, _LONG = 200, 1200


@dataclass(frozen=True, slots=True)
class Count:
    """One wire's."""

    wire: str
    instructions_a_token: float
    more_share: float  # than the Anthropic wire


def answer(opened: ServedModel, place: int, num_tokens: int) -> None:
    """One reply on the wire of this place, after a short one that warms up."""
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for wanted in (8, num_tokens):
            engine = LockstepEngine(num_streams=1)
            client = bare(replace(opened, engine=engine), Path(folder))
            runner.run(ask(client.app, client.key, wires(wanted)[place], engine))


def answer_all() -> None:
    """Under valgrind: every reply in a process of its own, which begins with the model open. Prints which is whose."""
    bridge.SECS_A_READER = 0.0  # no token waits for company: whether one does is a matter of time
    opened = open_model(load_settings({}, os.environ)).served
    opened.engine.close()
    for place in range(len(wires(_SHORT))):
        for num_tokens in (_SHORT, _LONG):
            child = os.fork()
            if child == 0:
                answer(opened, place, num_tokens)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status:
                raise SystemExit(f"the reply of wire {place} failed")
            print(json.dumps([child, place, num_tokens]), flush=True)


def counts_of(log: str, runs: Mapping[int, tuple[int, int]]) -> list[Count]:
    """Valgrind's log, and each process's place of the wire and number of tokens → every wire against the first."""
    totals = {runs[int(pid)]: int(n.replace(",", "")) for pid, n in _COUNT.findall(log) if int(pid) in runs}
    names = [wire.name for wire in wires(_SHORT)]
    each = [
        (totals[place, _LONG] - totals[place, _SHORT]) / (_LONG - _SHORT)
        for place in range(len(names))
    ]  # fmt: skip
    return [Count(name, own, own / each[0] - 1) for name, own in zip(names, each, strict=True)]


def measure() -> list[Count]:
    """Run all replies under valgrind."""
    if shutil.which(_VALGRIND[0]) is None:
        raise SystemExit("valgrind is not installed: apt install valgrind, or dnf install valgrind")
    with TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        log = Path(folder, "log")
        command = [*_VALGRIND, f"--log-file={log}", sys.executable, "-m", __spec__.name, "--under-valgrind"]
        told = {**os.environ, "PYTHONHASHSEED": "0"}
        task = progress.add_task("replies", total=2 * len(wires(_SHORT)))
        runs: dict[int, tuple[int, int]] = {}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=told) as process:
            assert process.stdout is not None
            for line in process.stdout:
                pid, place, num_tokens = json.loads(line)
                runs[pid] = place, num_tokens
                progress.advance(task)
        if process.returncode:
            raise SystemExit(f"valgrind ended with {process.returncode}:\n{log.read_text()}")
        return counts_of(log.read_text(), runs)


def table_of(counts: list[Count]) -> Table:
    """One row for each wire."""
    table = Table("Wire", "A token", "More", "To hold", title="Instructions of a streamed token")
    for count in counts:
        table.add_row(
            count.wire,
            f"{count.instructions_a_token / 1e3:.1f} thousand",
            f"{count.more_share:+.1%}",
            f"≤ {MOST_SHARE:.0%}",
        )
    return table


def main() -> None:
    """Count, print the table, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--under-valgrind", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().under_valgrind:
        answer_all()
        return
    counts = measure()
    Console().print(table_of(counts))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    print(json.dumps({"at": at, "wires": [asdict(count) for count in counts]}))


if __name__ == "__main__":
    main()
