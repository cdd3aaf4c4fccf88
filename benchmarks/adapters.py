"""The adapters: what trio and threads add to the core, with a real socket and a canned peer.

Rules kept here:

* The peer is a thread that only moves canned bytes; its few system calls are in every figure.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

import butter_threads
import butter_trio
from benchmarks.canned import CHALLENGE, answer, feed, hello, online, stream_of, upgraded
from benchmarks.timing import Case, Group, run_as_script
from butter_proto.machine import OpenTransport
from butter_proto.settings import Json, KeepaliveSettings, Probe, Settings

_URL = "ws://gateway.local:18789/"
_KEY = re.compile(rb"Sec-WebSocket-Key: (\S+)", re.IGNORECASE)
_SETTINGS = Settings(json=Json.STDLIB, keepalive=KeepaliveSettings(probe=Probe.NONE))
_PARAMS = {"text": "how much is the fish", "number": 7}
_GO = answer("2", {})
"""The answer to the first request, after connect's: the script begins with it."""


def groups(quick: bool) -> Sequence[Group]:  # noqa: FBT001 - the one question
    """Return what is timed."""
    many, times = (1_000, 100) if quick else (50_000, 3_000)
    return [
        Group(
            "events of 300 B to a reader (per event)",
            [
                Case("the core alone", many, lambda: _core(many)),
                Case("trio", many, lambda: _trio_events(many)),
                Case("threads", many, lambda: _threads_events(many)),
            ],
        ),
        Group(
            "a request, one at a time (per request)",
            [
                Case("trio", times, lambda: _trio_requests(times)),
                Case("threads", times, lambda: _threads_requests(times)),
            ],
        ),
    ]


def _core(count: int) -> Callable[[], object]:
    machine, transport_id = online(_SETTINGS)
    data = stream_of(count, 232)
    return lambda: feed(machine, transport_id, data)


@contextmanager
def _peer(script: Sequence[bytes]) -> Iterator[Callable[[OpenTransport], socket.socket]]:
    """Play a gateway: greet, then for each piece that comes the next bytes of the script."""
    ours, theirs = socket.socketpair()

    def play() -> None:
        key = _KEY.search(theirs.recv(65536))
        assert key is not None
        theirs.sendall(upgraded(key[1]) + CHALLENGE)
        theirs.recv(65536)
        theirs.sendall(hello("1"))
        for data in script:
            if not theirs.recv(65536):
                return
            theirs.sendall(data)
        theirs.recv(65536)  # the Close frame
        theirs.close()

    playing = threading.Thread(target=play, daemon=True)
    playing.start()
    try:
        yield lambda _: ours
    finally:
        ours.close()
        playing.join()


def _trio_events(count: int) -> Callable[[], object]:
    data = _GO + stream_of(count, 232)

    async def main() -> int:
        taken = 0
        with _peer([data]) as dial:

            async def dial_trio(command: OpenTransport) -> trio.abc.Stream:
                return trio.SocketStream(trio.socket.from_stdlib_socket(dial(command)))

            async with (
                butter_trio.connect(_URL, settings=_SETTINGS, dial=dial_trio) as gateway,
                gateway.events("bench", limit=count) as events,
            ):
                await gateway.request("bench.burst")
                async for _ in events:
                    taken += 1
                    if taken == count:
                        break
        return taken

    return lambda: trio.run(main)


def _threads_events(count: int) -> Callable[[], object]:
    data = _GO + stream_of(count, 232)

    def run() -> int:
        taken = 0
        with (
            _peer([data]) as dial,
            butter_threads.connect(_URL, settings=_SETTINGS, dial=dial) as gateway,
            gateway.events("bench", limit=count) as events,
        ):
            gateway.request("bench.burst")
            for _ in events:
                taken += 1
                if taken == count:
                    break
        return taken

    return run


def _answers(times: int) -> list[bytes]:
    return [answer(str(number), _PARAMS) for number in range(2, times + 2)]


def _trio_requests(times: int) -> Callable[[], object]:
    answers = _answers(times)

    async def main() -> None:
        with _peer(answers) as dial:

            async def dial_trio(command: OpenTransport) -> trio.abc.Stream:
                return trio.SocketStream(trio.socket.from_stdlib_socket(dial(command)))

            async with butter_trio.connect(_URL, settings=_SETTINGS, dial=dial_trio) as gateway:
                for _ in range(times):
                    await gateway.request("bench.echo", _PARAMS)

    return lambda: trio.run(main)


def _threads_requests(times: int) -> Callable[[], object]:
    answers = _answers(times)

    def run() -> None:
        with (
            _peer(answers) as dial,
            butter_threads.connect(_URL, settings=_SETTINGS, dial=dial) as gateway,
        ):
            for _ in range(times):
                gateway.request("bench.echo", _PARAMS)

    return run


if __name__ == "__main__":
    run_as_script(groups)
