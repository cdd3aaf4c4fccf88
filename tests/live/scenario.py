"""What the live scenarios share: how they run, how they connect, what they watch.

Only this file knows the adapters. A scenario runs over each of them, side by side against the same
gateway; one that hurts the gateway runs once, with clients of all adapters.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from functools import partial, wraps
from itertools import pairwise
from typing import Any, Final, Generic, ParamSpec, TypeVar

import attrs
import trio

import butter_threads
import butter_trio
from butter_proto.errors import EndKind
from butter_proto.events import Connecting, GaveUp, Notice, Retrying, StateEvent
from butter_proto.identity import BACKEND
from butter_proto.machine import OpenTransport
from butter_proto.pool_gateway import PoolGateway
from butter_proto.settings import ReconnectSettings, Settings

from . import async_threads
from .async_threads import AsyncGateway, AsyncPool, AsyncStream
from .real_gateway import RealGateway

_P = ParamSpec("_P")
_S = TypeVar("_S", bound=StateEvent)
_N = TypeVar("_N", bound=Notice)

Client = butter_trio.Gateway | AsyncGateway
Connect = Callable[..., AbstractAsyncContextManager[Client]]
Pool = butter_trio.Pool | AsyncPool
ConnectPool = Callable[..., AbstractAsyncContextManager[Pool]]

ADAPTERS: Final[Mapping[str, Connect]] = {
    "trio": butter_trio.connect,
    "threads": async_threads.connect,
}
POOLS: Final[Mapping[str, ConnectPool]] = {
    "trio": butter_trio.connect_pool,
    "threads": async_threads.connect_pool,
}
ADMIN: Final = Settings(identity=attrs.evolve(BACKEND, scopes=("operator.admin",)))
IMPATIENT: Final = Settings(
    reconnect=ReconnectSettings(base=0.1, factor=1.0, cap=0.1, minimum=0.05)
)
"""Knocks as fast as the gateway's hints allow."""
_NARROW: Final = (socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
_adapter: Final = ContextVar[str]("adapter")

_LATE = 0.1
"""Seconds by which a watching task may note an event too late on a busy machine."""


def scenario(
    limit: float, *, once: bool = False
) -> Callable[[Callable[_P, Awaitable[None]]], Callable[_P, None]]:
    """Make a test of an async function, and fail it after ``limit`` seconds.

    It runs once per adapter, all at the same time: `adapter` tells which. With ``once`` it runs
    once, and has to name the adapter wherever it connects.
    """

    def decorate(function: Callable[_P, Awaitable[None]]) -> Callable[_P, None]:
        async def over(name: str, *args: _P.args, **kwargs: _P.kwargs) -> None:
            _adapter.set(name)
            record = kwargs.get("record_property")
            if callable(record):
                kwargs["record_property"] = lambda what, value: record(f"{name}: {what}", value)
            try:
                await function(*args, **kwargs)
            except BaseException as error:
                error.add_note(f"over {name}")
                raise

        @wraps(function)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
            async def bounded() -> None:
                with trio.fail_after(limit):
                    if once:
                        await function(*args, **kwargs)
                        return
                    async with trio.open_nursery() as nursery:
                        for name in ADAPTERS:
                            nursery.start_soon(partial(over, name, *args, **kwargs))

            trio.run(bounded)

        return run

    return decorate


def adapter() -> str:
    """Return the name of the adapter that the scenario runs over."""
    return _adapter.get()


def connected(
    gateway: RealGateway,
    settings: Settings | None = None,
    *,
    over: str | None = None,
    url: str | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[Client]:
    """Connect with the gateway's own token, unless ``options`` has another.

    ``over`` names the adapter, where it is not the scenario's.
    """
    options.setdefault("token", gateway.token)
    connect = ADAPTERS[over or adapter()]
    return connect(url or gateway.url, settings=settings, **options)


def pooled(
    gateways: Mapping[str, RealGateway],
    settings: Settings | None = None,
    *,
    over: str | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[Pool]:
    """Connect a pool of these gateways, each with its own token; the first is the best one.

    ``over`` as in `connected`.
    """
    members = [
        PoolGateway(gateway.url, name=name, token=gateway.token)
        for name, gateway in gateways.items()
    ]
    connect = POOLS[over or adapter()]
    return connect(members, settings=settings, **options)


@asynccontextmanager
async def begun(
    gateway: RealGateway, settings: Settings | None = None, **options: Any
) -> AsyncIterator[tuple[Client, Timeline]]:
    """Connect as `connected` does, without waiting, and watch the state events from the first on."""
    async with (
        connected(gateway, settings, wait=False, **options) as client,
        client.states() as states,
    ):
        yield client, Timeline(states)


def narrow_dial() -> Callable[[OpenTransport], Any]:
    """Return a dial of this adapter after which little waits in the kernel to be sent."""

    async def dial_on_trio(command: OpenTransport) -> trio.abc.Stream:
        stream = await butter_trio.dial_tcp(command)
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(*_NARROW)
        return stream

    def dial_in_thread(command: OpenTransport) -> socket.socket:
        connected = butter_threads.dial_tcp(command)
        connected.setsockopt(*_NARROW)
        return connected

    return dial_on_trio if adapter() == "trio" else dial_in_thread


class Timeline:
    """The state events of one connector from now on, each with the time at which it was told."""

    def __init__(self, states: butter_trio.StateStream | AsyncStream[StateEvent]) -> None:
        self._states = states
        self.entries: list[tuple[float, StateEvent]] = []

    async def until(self, kind: type[_S]) -> tuple[float, _S]:
        """Follow the events to the next one of this kind; return it and its time."""
        async for event in self._states:
            now = trio.current_time()
            self.entries.append((now, event))
            if isinstance(event, kind):
                return now, event
        raise AssertionError(f"stopped before {kind.__name__}: {self.entries}")

    @property
    def retries(self) -> list[Retrying]:
        """What every ended attempt said."""
        return [event for _, event in self.entries if isinstance(event, Retrying)]

    def assert_hints_honoured(self) -> None:
        """No delay is shorter than the peer's hint, and no attempt began before its delay."""
        for (told_at, event), (next_at, following) in pairwise(self.entries):
            if isinstance(event, Retrying):
                assert event.delay >= (event.ending.retry_after or 0.0)
                assert isinstance(following, Connecting)
                assert next_at - told_at >= event.delay - _LATE


def detail_code(told: GaveUp | Retrying) -> str | None:
    """Return the ``details.code`` with which a connect was refused."""
    assert told.ending.kind is EndKind.CONNECT_REFUSED, told
    assert told.ending.error is not None
    return told.ending.error.detail_code


class Noticed(Generic[_N]):
    """The notices of one kind, as they are told."""

    def __init__(self) -> None:
        self.told: list[_N] = []
        self._news = trio.lowlevel.ParkingLot()

    async def until(self, count: int) -> _N:
        """Wait until so many are told; return the last of them."""
        while len(self.told) < count:
            await self._news.park()
        return self.told[count - 1]

    async def follow(self, notices: AsyncIterator[Notice], kind: type[_N]) -> None:
        async for notice in notices:
            if isinstance(notice, kind):
                self.told.append(notice)
                self._news.unpark_all()


@asynccontextmanager
async def noticed(client: Client, kind: type[_N]) -> AsyncIterator[Noticed[_N]]:
    """Follow the notices of one kind for as long as the ``async with`` lasts."""
    noticed = Noticed[_N]()
    async with client.notices() as notices, trio.open_nursery() as nursery:
        nursery.start_soon(noticed.follow, notices, kind)
        yield noticed
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def timeline(client: Client) -> AsyncIterator[Timeline]:
    """Watch the state events from now on; the present one, which comes first, is left out."""
    async with client.states() as states:
        await anext(states)
        yield Timeline(states)
