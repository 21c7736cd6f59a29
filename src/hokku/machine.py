"""What this machine has to offer besides its processor: memory, as far as this process may take it."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def free_memory_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Memory that can be taken without swapping or meeting the container's limit."""
    in_container = _container_bytes(cgroup)
    available = _kibibytes(meminfo, "MemAvailable") or total_memory_bytes() // 2  # macOS has no such figure
    return available if in_container is None else min(available, in_container)


def total_memory_bytes() -> int:
    """Memory that is built in."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _kibibytes(meminfo: Path, name: str) -> int:
    try:
        match = re.search(rf"^{name}:\s+(\d+) kB$", meminfo.read_text("ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) << 10 if match else 0


def _container_bytes(cgroup: Path) -> int | None:
    """What a control group of version 2 still grants; None without a limit."""
    try:
        limit = (cgroup / "memory.max").read_text("ascii").strip()
        used = (cgroup / "memory.current").read_text("ascii").strip()
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))
