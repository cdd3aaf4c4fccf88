"""What every client is asked to do, and the loop in which it is asked: one JSON object a line.

Rules kept here:

* A client is one process that lives through all rounds: a just-in-time compiler is warm by then.
* A workload counts what it got and raises where that is not what was asked for.
* Time and CPU are of the work alone; connecting is outside, except where it is the work.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Job:
    """One workload for one client."""

    kind: str
    """``requests``, ``burst``, ``connects``, ``idle``, ``up`` or ``down``."""
    port: int
    count: int
    """Requests, events, connects, idle connections or large messages."""
    size: int = 0
    """Characters of text in each."""
    parallel: int = 1
    """Callers at once."""
    window: int = 200
    """``max_in_flight``, for clients that have one."""
    seconds: float = 0.0
    """How long connections are idle."""

    @property
    def url(self) -> str:
        """Where the server is."""
        return f"ws://127.0.0.1:{self.port}/"


@attrs.frozen
class Result:
    """What came of it."""

    items: int
    seconds: float
    cpu: float
    """CPU seconds of this process."""
    kilobytes: float = 0.0
    """Memory of one idle connection."""


class Stopwatch:
    """Time and CPU from its construction on."""

    def __init__(self) -> None:
        gc.collect()
        self._began = time.perf_counter()
        self._cpu = time.process_time()

    def result(self, items: int, kilobytes: float = 0.0) -> Result:
        """Return what passed."""
        cpu = time.process_time() - self._cpu
        return Result(items, time.perf_counter() - self._began, cpu, kilobytes)


class WrongCount(Exception):
    """A client did not do what it was asked to do."""


def check(got: object, expected: object) -> None:
    """Raise `WrongCount` where they differ."""
    if got != expected:
        raise WrongCount(f"{got!r:.100} instead of {expected!r:.100}")


def resident() -> int:
    """Return the memory of this process in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def serve_jobs(run: Callable[[Job], Result]) -> None:
    """Do one job after another until the runner goes away."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            answer = attrs.asdict(run(Job(**json.loads(line))))
        except Exception:  # noqa: BLE001 - the runner prints it
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
