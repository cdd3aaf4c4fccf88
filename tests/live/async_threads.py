"""`butter_threads` for async scenarios: the API of `butter_trio.Gateway` over threads.

Rules kept here:

* Nothing is decided here: each call is one call of the blocking API, made where it may block.
* trio's thread is never blocked: what comes from other threads comes by ``run_sync_soon``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Generic, Self, TypeVar, Unpack

import trio

import butter_threads
from butter_proto.device_auth import SignedPayload
from butter_proto.endpoint import Endpoint
from butter_proto.errors import ConnectionEnded, Ending
from butter_proto.events import EventsMissed, FromGateway, GatewayEvent, Hello, Notice, StateEvent
from butter_proto.machine import State, Stats
from butter_proto.pool_gateway import GatewayHealth, PoolGateway
from butter_proto.request_options import RequestOptions
from butter_proto.secret import Secret
from butter_threads.streams import Stream

_T = TypeVar("_T")


class AsyncStream(Generic[_T]):
    """An async iterator over a blocking one, which a thread of its own reads to its end."""

    def __init__(self, stream: Stream[_T]) -> None:
        self._stream = stream
        self._items: deque[_T] = deque()
        self._news = trio.lowlevel.ParkingLot()
        self._ended = False
        self._error: ConnectionEnded | None = None
        reader = partial(self._read, _soon_on_trio())
        threading.Thread(target=reader, name="async stream", daemon=True).start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stream.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            await self._news.park()
        return self._items.popleft()

    def _read(self, soon: Callable[..., None]) -> None:
        error: ConnectionEnded | None = None
        try:
            for item in self._stream:
                soon(self._put, item)
        except ConnectionEnded as raised:
            error = raised
        soon(self._end, error)

    def _put(self, item: _T) -> None:
        self._items.append(item)
        self._news.unpark_all()

    def _end(self, error: ConnectionEnded | None) -> None:
        self._ended, self._error = True, error
        self._news.unpark_all()


class AsyncGateway:
    """A `butter_threads.Gateway`, to be used as one of `butter_trio` is."""

    def __init__(self, gateway: butter_threads.Gateway) -> None:
        self._gateway = gateway

    @property
    def hello(self) -> Hello:
        return self._gateway.hello

    @property
    def endpoint(self) -> Endpoint:
        return self._gateway.endpoint

    @property
    def state(self) -> State:
        return self._gateway.state

    @property
    def last_ending(self) -> Ending | None:
        return self._gateway.last_ending

    @property
    def stats(self) -> Stats:
        return self._gateway.stats

    def events(self, *names: str, limit: int = 1000) -> AsyncStream[GatewayEvent | EventsMissed]:
        return AsyncStream(self._gateway.events(*names, limit=limit))

    def states(self) -> AsyncStream[StateEvent]:
        return AsyncStream(self._gateway.states())

    def notices(self) -> AsyncStream[Notice]:
        return AsyncStream(self._gateway.notices())

    async def request(
        self, method: str, params: Any = None, **options: Unpack[RequestOptions]
    ) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        return await _result(self._gateway.submit(method, params, **options))

    async def wait_online(self, timeout: float | None = None) -> Hello:  # noqa: ASYNC109
        wait = partial(self._gateway.wait_online, timeout)
        return await trio.to_thread.run_sync(wait, abandon_on_cancel=True)

    def probe(self) -> None:
        self._gateway.probe()

    def use_credentials(self, **credentials: str | Secret) -> None:
        self._gateway.use_credentials(**credentials)

    def reconnect_now(self, *, signed: SignedPayload = SignedPayload.V3) -> None:
        self._gateway.reconnect_now(signed=signed)


class AsyncPool(AsyncGateway):
    """A `butter_threads.Pool`, to be used as one of `butter_trio` is."""

    def __init__(self, pool: butter_threads.Pool) -> None:
        super().__init__(pool)
        self._pool = pool

    @property
    def primary(self) -> str | None:
        return self._pool.primary

    def health(self) -> tuple[GatewayHealth, ...]:
        return self._pool.health()

    def from_gateways(self) -> AsyncStream[FromGateway]:
        return AsyncStream(self._pool.from_gateways())

    async def request(
        self,
        method: str,
        params: Any = None,
        *,
        gateway: str | None = None,
        spread: bool = False,
        **options: Unpack[RequestOptions],
    ) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        submitted = self._pool.submit(method, params, gateway=gateway, spread=spread, **options)
        return await _result(submitted)


@asynccontextmanager
async def connect(
    url: str,
    *,
    timeout: float | None = 60.0,  # noqa: ASYNC109 - as in butter_trio
    wait: bool = True,
    **options: Any,
) -> AsyncIterator[AsyncGateway]:
    """Do what `butter_trio.connect` does; the options are those of `butter_threads.connect`."""
    gateway = butter_threads.connect(url, wait=False, **options)
    client = AsyncGateway(gateway)
    async with _closing(gateway):
        if wait:
            await client.wait_online(timeout)
        yield client


@asynccontextmanager
async def connect_pool(
    gateways: Iterable[PoolGateway | str],
    *,
    timeout: float | None = 60.0,  # noqa: ASYNC109 - as in butter_trio
    wait: bool = True,
    **options: Any,
) -> AsyncIterator[AsyncPool]:
    """Do what `butter_trio.connect_pool` does; the options are those of `butter_threads`."""
    pool = butter_threads.connect_pool(gateways, wait=False, **options)
    client = AsyncPool(pool)
    async with _closing(pool):
        if wait:
            await client.wait_online(timeout)
        yield client


@asynccontextmanager
async def _closing(gateway: butter_threads.Gateway) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await _close(gateway, abort=True)
        raise
    await _close(gateway, abort=False)


async def _close(gateway: butter_threads.Gateway, *, abort: bool) -> None:
    """Close it whatever is cancelled: it takes ``close_timeout`` at most."""
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(partial(gateway.close, abort=abort))


async def _result(future: Future[Any]) -> Any:
    """Wait for what a request comes to; cancelled, take it back."""
    settled = trio.Event()
    soon = _soon_on_trio()

    def wake(_: Future[Any]) -> None:
        soon(settled.set)

    future.add_done_callback(wake)
    try:
        await settled.wait()
    except trio.Cancelled:
        future.cancel()
        raise
    return future.result()


def _soon_on_trio() -> Callable[..., None]:
    """Return what calls a function in trio's thread, from any thread; after trio's end nothing."""
    token = trio.lowlevel.current_trio_token()

    def soon(function: Callable[..., object], *arguments: Any) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(function, *arguments)

    return soon
