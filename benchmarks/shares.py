"""Where openbutter's CPU time goes, workload by workload: sockets, trio, wsproto, JSON, the core.

    python -m benchmarks.shares           # some ten seconds
    python -m benchmarks.shares --quick   # one or two; no figure counts

Rules kept here:

* The time is sampled by the process's own profiling timer. A sample belongs to the innermost frame
  of a part that is named here: what trio does with contextlib is trio's.
* The workloads and the server are those of ``benchmarks.peers``.

Sampling itself costs some percent, most of it in the interpreter's loop, so shares are rough.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Final

import trio

from benchmarks.peers.clients.job import Job
from benchmarks.peers.clients.on_trio import RUNTIME
from benchmarks.peers.clients.ours_trio import open_session
from benchmarks.peers.clients.workloads import Open, run
from benchmarks.peers.install import install
from benchmarks.peers.plan import ALONE, CONNECTS, EVENTS, FLIGHT, WORKLOADS, Workload
from benchmarks.peers.server import running
from butter_proto.settings import Json

_EVERY: Final = 0.002
"""Seconds of CPU time between two samples."""
SOCKETS, TRIO, WSPROTO, JSON = "sockets", "trio", "wsproto, h11", "JSON"
CORE, ADAPTER, REST = "butter_proto", "butter_trio", "the rest"
PARTS: Final = (SOCKETS, TRIO, WSPROTO, JSON, CORE, ADAPTER, REST)
_OF_MODULES: Final = {
    "butter_trio.plain_socket": SOCKETS,
    "socket": SOCKETS,
    "trio._socket": SOCKETS,
    "trio._core._io_epoll": SOCKETS,
    "butter_proto.codec": JSON,
    "benchmarks.shares": REST,
}
_OF_PACKAGES: Final = {
    "trio": TRIO,
    "outcome": TRIO,
    "wsproto": WSPROTO,
    "h11": WSPROTO,
    "json": JSON,
    "butter_proto": CORE,
    "butter_trio": ADAPTER,
    "benchmarks": REST,
}
_NAMES: Final = (ALONE, FLIGHT, EVENTS, CONNECTS, "1 MB to the gateway", "1 MB from the gateway")
SHOWN: Final = tuple(workload for workload in WORKLOADS if workload.name in _NAMES)
Shares = dict[str, float]


def part_of(frame: FrameType | None) -> str:
    """Return the part that a frame works for."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        part = _OF_MODULES.get(module) or _OF_PACKAGES.get(module.partition(".")[0])
        if part is not None:
            return part
        frame = frame.f_back
    return REST


@contextmanager
def sampled() -> Iterator[Counter[str]]:
    """Count samples by their parts for as long as the ``with`` lasts."""
    counted: Counter[str] = Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        counted[part_of(frame)] += 1

    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
    try:
        yield counted
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


async def _sampled_run(job: Job, opener: Open) -> Counter[str]:
    with sampled() as counted:  # each signal wakes trio's loop: none may come after it
        await run(job, opener, RUNTIME)
    return counted


def shares(workload: Workload, port: int, json: Json, *, quick: bool) -> Shares:
    """Do a workload and return the share of each part; they add up to 1."""
    job = workload.job(port, quick=quick)
    opener = partial(open_session, json=json)
    trio.run(run, job, opener, RUNTIME)  # what is done once is done before
    counted = trio.run(_sampled_run, job, opener)
    total = counted.total() or 1
    return {part: counted[part] / total for part in PARTS}


def line(name: str, measured: Shares) -> str:
    """Return a row of the table."""
    return f"| {name} | " + " | ".join(f"{measured[part]:.0%}" for part in PARTS) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Shows where the CPU time goes.")
    parser.add_argument("--quick", action="store_true", help="small, for CI")
    options = parser.parse_args(arguments)
    print("| workload | " + " | ".join(PARTS) + " |")
    print("| --- |" + " --- |" * len(PARTS))
    with running(install(peers=False).server) as server:
        for workload in SHOWN:
            for json in (Json.STDLIB, Json.MSGSPEC):
                measured = shares(workload, server.port, json, quick=options.quick)
                print(line(f"{workload.name}, {json.value}", measured), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
