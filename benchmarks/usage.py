"""What a process uses: resident memory and processor time, by `ps`, which Linux and macOS share."""

from __future__ import annotations

import subprocess
from pathlib import Path

_PID, _SESSION, _UTIME, _STIME = 0, 4, 12, 13  # in what `_stat_fields` gives
_TICKS_PER_SEC = 100  # USER_HZ, fixed by the kernel's interface


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(_ps(pid, "rss")) << 10


def cpu_secs(pid: int) -> float:
    """Processor time that a process and, on Linux, all others of the session it leads have used, to a hundredth."""
    stats = [fields for fields in map(_stat_fields, Path("/proc").glob("[0-9]*/stat")) if fields]
    ours = [fields for fields in stats if str(pid) in (fields[_PID], fields[_SESSION])]
    if not stats:  # no /proc: to a second, the process alone
        return clock_secs(_ps(pid, "time"))
    return sum(int(fields[_UTIME]) + int(fields[_STIME]) for fields in ours) / _TICKS_PER_SEC


def _stat_fields(stat: Path) -> list[str]:
    """The fields of proc(5)'s stat without the command's name, which may hold spaces; none if the process has ended."""
    try:
        before, _, after = stat.read_text("ascii", errors="replace").rpartition(")")
    except OSError:
        return []
    return [before.partition(" ")[0], *after.split()]


def clock_secs(text: str) -> float:
    """Seconds of `ps`'s hours, minutes and seconds: "1:02:03" or "2:03.45"."""
    secs = 0.0
    for part in text.split(":"):
        secs = 60 * secs + float(part)
    return secs


def _ps(pid: int, column: str) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
