"""What a process uses: resident memory and processor time, by `ps`, which Linux and macOS share."""

from __future__ import annotations

import subprocess
from pathlib import Path

_TICKS_PER_SEC = 100  # USER_HZ, fixed by the kernel's interface


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(_ps(pid, "rss")) << 10


def cpu_secs(pid: int) -> float:
    """Processor time that a process has used, to a hundredth; to a second where there is no /proc."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text("ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SEC  # utime and stime, proc(5)
    return clock_secs(_ps(pid, "time"))


def clock_secs(text: str) -> float:
    """Seconds of `ps`'s hours, minutes and seconds: "1:02:03" or "2:03.45"."""
    secs = 0.0
    for part in text.split(":"):
        secs = 60 * secs + float(part)
    return secs


def _ps(pid: int, column: str) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
