"""What is compared, as data: the clients, the workloads, the targets.

Rules kept here:

* A target is a ratio of medians in one run. Numbers that are reached stand nowhere in the code.
* Every client of one table does the same workload with the same parameters.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import attrs

from benchmarks.connection import MSGSPEC, STDLIB
from benchmarks.peers.clients.job import Job

MB: Final = 1_000_000


@attrs.frozen
class Client:
    """One column: how it is started. ``{node}``, ``{python}``, ``{npm}`` are the installation's."""

    name: str
    command: tuple[str, ...]


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return "{python}", "-m", f"benchmarks.peers.clients.{module}", *arguments


RAW: Final = "raw socket"
BARE_TRIO: Final = "bare trio"
"""No clients, but bounds: of the machine, and of whatever runs on trio."""
TRIO, TRIO_MSGSPEC = "openbutter trio, json", "openbutter trio, msgspec"
THREADS, THREADS_MSGSPEC = "openbutter threads, json", "openbutter threads, msgspec"
REFERENCE: Final = "reference client (Node)"
WEBSOCKETS, WEBSOCKETS_ORJSON = "websockets + json", "websockets + orjson"
TRIO_WEBSOCKET: Final = "trio-websocket + json"
SDK: Final = "openclaw-sdk"
OURS: Final = (TRIO, TRIO_MSGSPEC, THREADS, THREADS_MSGSPEC)
PYTHON_PEERS: Final = (WEBSOCKETS, WEBSOCKETS_ORJSON, TRIO_WEBSOCKET, SDK)

CLIENTS: Final = (
    Client(RAW, _python("raw")),
    Client(BARE_TRIO, _python("bare_trio")),
    Client(TRIO, _python("ours_trio", "stdlib")),
    Client(TRIO_MSGSPEC, _python("ours_trio", "msgspec")),
    Client(THREADS, _python("ours_threads", "stdlib")),
    Client(THREADS_MSGSPEC, _python("ours_threads", "msgspec")),
    Client(REFERENCE, ("{node}", "--expose-gc", "{clients}/reference.mjs", "{npm}")),
    Client(WEBSOCKETS, _python("websockets_by_hand", "json")),
    Client(WEBSOCKETS_ORJSON, _python("websockets_by_hand", "orjson")),
    Client(TRIO_WEBSOCKET, _python("trio_websocket_by_hand")),
    Client(SDK, _python("openclaw_sdk")),
)


@attrs.frozen
class Workload:
    """One row: what every client is asked to do."""

    name: str
    kind: str
    unit: str
    count: int
    quick: int
    """The count of a quick run."""
    more: dict[str, Any] = attrs.field(factory=dict)
    once: bool = False
    """It takes long and varies little: one round, in a process that did nothing before it."""

    def job(self, port: int, *, quick: bool) -> Job:
        """Return what a client is told."""
        more = dict(self.more)
        if quick and "seconds" in more:
            more["seconds"] = 2.0
        return Job(self.kind, port, self.quick if quick else self.count, **more)


ALONE, FLIGHT, CALLERS = "one at a time", "64 in flight", "1,000 callers"
WINDOW: Final = "1,000 callers, window 1,000"
EVENTS, CONNECTS, IDLE = "events of 300 B", "connects", "1,000 idle connections"
WORKLOADS: Final = (
    Workload(ALONE, "requests", "requests", 4_000, 500),
    Workload(FLIGHT, "requests", "requests", 32_000, 3_200, {"parallel": 64}),
    Workload(CALLERS, "requests", "requests", 20_000, 5_000, {"parallel": 1000}),
    Workload(
        WINDOW,
        "requests",
        "requests",
        20_000,
        5_000,
        {"parallel": 1000, "window": 1000},
    ),
    Workload("events of 100 B", "burst", "events", 100_000, 10_000, {"size": 100}),
    Workload(EVENTS, "burst", "events", 100_000, 10_000, {"size": 300}),
    Workload("events of 10 kB", "burst", "events", 20_000, 1_000, {"size": 10_000}),
    Workload(CONNECTS, "connects", "connects", 300, 30),
    Workload("1 MB to the gateway", "up", "messages", 50, 5, {"size": MB}),
    Workload("1 MB from the gateway", "down", "messages", 50, 5, {"size": MB}),
    Workload("20 MB to the gateway", "up", "messages", 5, 1, {"size": 20 * MB}),
    Workload("20 MB from the gateway", "down", "messages", 5, 1, {"size": 20 * MB}),
    Workload(IDLE, "idle", "connections", 1000, 50, {"seconds": 60.0}, once=True),
)


def does(client: str, workload: Workload) -> bool:
    """Tell whether a client does a workload at all."""
    if client == RAW:
        return workload.kind != "idle" and workload.name != WINDOW
    if client == BARE_TRIO:
        return workload.name in (ALONE, CONNECTS)
    if client not in OURS:
        return workload.name != WINDOW  # they have no window
    return True


class Measure(Enum):
    """What of a result is compared."""

    THROUGHPUT = "items/s"
    CPU = "CPU us per item"
    MEMORY = "kB per connection"

    @property
    def less_is_better(self) -> bool:
        """True for costs."""
        return self is not Measure.THROUGHPUT


@attrs.frozen
class CoreTarget:
    """The core alone (benchmarks/connection.py) over `json.loads` of the same text, at most."""

    case: str
    bound: float


@attrs.frozen
class Target:
    """``ours`` over the best of ``peers``, at least (of a cost: at most) ``bound``."""

    workload: str
    measure: Measure
    ours: str
    peers: tuple[str, ...]
    bound: float


TARGETS: Final = (
    Target(FLIGHT, Measure.THROUGHPUT, TRIO, (REFERENCE,), 1.0),
    Target(FLIGHT, Measure.THROUGHPUT, TRIO_MSGSPEC, (REFERENCE,), 1.5),
    Target(ALONE, Measure.THROUGHPUT, TRIO, PYTHON_PEERS, 1.0),
    Target(ALONE, Measure.THROUGHPUT, TRIO_MSGSPEC, PYTHON_PEERS, 1.1),
    Target(ALONE, Measure.THROUGHPUT, TRIO, (REFERENCE,), 0.8),
    Target(ALONE, Measure.THROUGHPUT, TRIO_MSGSPEC, (REFERENCE,), 1.0),
    Target(EVENTS, Measure.CPU, TRIO, (WEBSOCKETS,), 0.5),
    Target(EVENTS, Measure.CPU, TRIO_MSGSPEC, (REFERENCE,), 1.0),
    Target(CONNECTS, Measure.THROUGHPUT, TRIO, (REFERENCE,), 1.0),
    Target(IDLE, Measure.MEMORY, TRIO, (REFERENCE,), 0.5),
)
CORE_TARGETS: Final = (CoreTarget(STDLIB, 2.3), CoreTarget(MSGSPEC, 1.2))
