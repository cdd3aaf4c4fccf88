"""Connect, ask, close, thousands of times, in a process of its own, and sample what is left over.

    python -m tests.chaos.cycles ADAPTER URL TOKEN CYCLES   # prints one JSON line a sample

Rules kept here:

* The process holds the adapter and nothing else: the stand-in is served elsewhere.
* The ways to end take turns: left normally, left by an exception, cut by the gateway, left while
  requests are pending.
* Every outcome is counted.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import attrs
import trio
import trio.testing

import butter_threads
import butter_trio
from butter_proto.errors import RequestFailed
from butter_proto.settings import ReconnectSettings, Settings
from tests.chaos.process import usage

SAMPLES: Final = 20
"""How many samples a run takes."""
SETTINGS: Final = Settings(reconnect=ReconnectSettings(base=0.01, cap=0.01, minimum=0.001))
ASK: Final = "count"
CUT_ME: Final = "cut.me"
"""The stand-in drops the connection in place of an answer."""
NEVER: Final = "never"
"""The stand-in never answers."""


class Leaving(Exception):
    """What a cycle is left by."""


@attrs.frozen
class Sample:
    """What the process has after so many cycles."""

    cycles: int
    rss_kib: int
    descriptors: int
    threads: int
    tasks: int
    """Trio's, or none."""
    objects: int
    """What the garbage collector watches."""
    outcomes: Mapping[str, int]


def sampled(cycles: int, told: Counter[str], tasks: int) -> None:
    """Print a sample."""
    gc.collect()
    now = usage()
    sample = Sample(
        cycles,
        now.rss_kib,
        now.descriptors,
        threading.active_count(),
        tasks,
        len(gc.get_objects()),
        dict(told),
    )
    print(json.dumps(attrs.asdict(sample)), flush=True)


async def over_trio(url: str, token: str, cycles: int) -> None:
    """Run the cycles over butter_trio."""
    told = Counter[str]()

    async def ask(gateway: butter_trio.Gateway, method: str, number: int) -> None:
        told[await _told(lambda: gateway.request(method, {"number": number}))] += 1

    async def cycle(number: int) -> None:
        async with butter_trio.connect(url, token=token, settings=SETTINGS) as gateway:
            await ask(gateway, ASK, number)
            match number % 4:
                case 1:
                    await ask(gateway, CUT_ME, number)
                case 2:
                    raise Leaving
                case 3:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(ask, gateway, NEVER, number)
                        await trio.testing.wait_all_tasks_blocked()
                        raise Leaving

    for number in range(cycles):
        try:
            await cycle(number)
        except* Leaving:
            pass
        if (number + 1) % (cycles // SAMPLES) == 0:
            sampled(number + 1, told, trio.lowlevel.current_statistics().tasks_living)


async def _told(request: Callable[[], Any]) -> str:
    try:
        await request()
    except RequestFailed as failed:
        return failed.delivery.value
    return "replied"


def over_threads(url: str, token: str, cycles: int) -> None:
    """Run the cycles over butter_threads."""
    told = Counter[str]()

    def ask(gateway: butter_threads.Gateway, method: str, number: int) -> None:
        try:
            gateway.request(method, {"number": number})
        except RequestFailed as failed:
            told[failed.delivery.value] += 1
        else:
            told["replied"] += 1

    def cycle(number: int) -> None:
        pending = None
        with butter_threads.connect(url, token=token, settings=SETTINGS) as gateway:
            ask(gateway, ASK, number)
            match number % 4:
                case 1:
                    ask(gateway, CUT_ME, number)
                case 2:
                    raise Leaving
                case 3:
                    pending = gateway.submit(NEVER, {"number": number})
        if pending is not None:
            failure = pending.exception(0)
            assert isinstance(failure, RequestFailed)
            told[failure.delivery.value] += 1

    for number in range(cycles):
        with suppress(Leaving):
            cycle(number)
        if (number + 1) % (cycles // SAMPLES) == 0:
            sampled(number + 1, told, 0)


def main() -> None:
    """Run what the command line says."""
    adapter, url, token, cycles = sys.argv[1:]
    if adapter == "trio":
        trio.run(over_trio, url, token, int(cycles))
    else:
        over_threads(url, token, int(cycles))


if __name__ == "__main__":
    main()
