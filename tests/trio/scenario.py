"""What the adapter's tests share: how they run, and what they wait for.

An async test runs on a clock that jumps, or in real time where sockets are involved. Whichever
way, no task may be left over when it is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Final, ParamSpec

import trio
import trio.testing

from butter_proto.events import StateEvent
from butter_proto.machine import OpenTransport
from butter_proto.settings import Framing
from butter_trio import Gateway

_P = ParamSpec("_P")

URL: Final = "ws://gateway.local"
COMMAND: Final = OpenTransport(
    1, "gateway.local", 80, False, "gateway.local", None, Framing.BYTES, URL
)
UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: gateway.local\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
VIRTUAL_LIMIT: Final = 7 * 24 * 3600.0
"""Seconds on the jumping clock after which a test hangs."""
REAL_LIMIT: Final = 30.0


class Oops(Exception):
    """What a test raises itself."""


def virtual_time(test: Callable[_P, Awaitable[None]]) -> Callable[_P, None]:
    """Run a test on trio with a clock that jumps whenever every task waits."""

    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(_watched, lambda: test(*args, **kwargs), VIRTUAL_LIMIT, clock=clock)

    return run


def real_time(test: Callable[_P, Awaitable[None]]) -> Callable[_P, None]:
    """Run a test on trio in real time."""

    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        trio.run(_watched, lambda: test(*args, **kwargs), REAL_LIMIT)

    return run


def tasks_living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def until(gateway: Gateway, kind: type[StateEvent]) -> float:
    """Wait for a state event of this kind; the present one counts. Returns when it came."""
    async for event in gateway.states():
        if isinstance(event, kind):
            break
    return trio.current_time()


async def read_to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while part := await stream.receive_some():
        data += part
    return data


async def _watched(test: Callable[[], Awaitable[None]], limit: float) -> None:
    before = tasks_living()
    with trio.fail_after(limit):
        await test()
    assert tasks_living() == before, "a task outlived the test"
