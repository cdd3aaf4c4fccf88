"""What a process takes from the machine, read from /proc: on Linux only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_UTIME: Final = 11
"""The index of utime in /proc/PID/stat, counted from the state, which follows the name in ()."""


@attrs.frozen
class Usage:
    """One sample."""

    rss_kib: int
    """Memory that is resident."""
    descriptors: int
    threads: int
    cpu_s: float
    """Processor time in all since its start, in user and in system mode."""


def usage(pid: int | None = None) -> Usage:
    """Take a sample of a process, or of this one. Raises OSError where it has ended."""
    folder = Path("/proc") / ("self" if pid is None else str(pid))
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    times = (folder / "stat").read_text().rpartition(") ")[2].split()[_UTIME : _UTIME + 2]
    return Usage(
        rss_kib=int(status["VmRSS"].split()[0]),
        descriptors=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
        cpu_s=round(sum(map(int, times)) / _TICKS, 2),
    )
