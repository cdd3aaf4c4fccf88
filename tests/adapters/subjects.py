"""The adapters as subjects: the same blocking calls, carried into each one's own world."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

import butter_threads
import butter_trio
from butter_proto.device import Device
from butter_proto.device_auth import SignedPayload
from butter_proto.endpoint import Endpoint
from butter_proto.errors import Ending
from butter_proto.events import Hello
from butter_proto.machine import State, Stats
from butter_proto.pool import DRAIN_LIMIT
from butter_proto.pool_gateway import PoolGateway
from butter_proto.settings import Framing, Probe, Settings
from butter_threads.streams import Stream
from examples import asyncio_adapter
from examples.websockets_host import WebSocketGateway
from tests.adapters.subject import PATIENCE, Ended, FullClient, PoolClient
from tests.adapters.worlds import AsyncioWorld, TrioWorld, World, entered, run_sync


class _Stream:
    """An async iterator of a world, one item at a time."""

    def __init__(
        self, world: World, take: Callable[[], Awaitable[Any]], close: Callable[[], Any]
    ) -> None:
        self._world = world
        self._take = take
        self._close = close

    def get(self) -> Any:
        async def take() -> Any:
            try:
                return await self._take()
            except StopAsyncIteration:
                raise Ended from None

        return self._world.submit(take).result(PATIENCE)

    def close(self) -> None:
        run_sync(self._world, self._close)


# --- butter_trio ----------------------------------------------------------------------------


class TrioClient:
    def __init__(self, world: TrioWorld, gateway: butter_trio.Gateway) -> None:
        self._world = world
        self._gateway = gateway
        self.queued = gateway.queued

    def request(self, method: str, params: Any = None, **options: Any) -> Any:
        return self.submit(method, params, **options).result(2 * PATIENCE)

    def submit(self, method: str, params: Any = None, **options: Any) -> Future[Any]:
        return self._world.submit(partial(self._gateway.request, method, params, **options))

    def events(self, *names: str, limit: int = 1000) -> _Stream:
        return self._stream(partial(self._gateway.events, *names, limit=limit))

    def states(self) -> _Stream:
        return self._stream(self._gateway.states)

    def notices(self) -> _Stream:
        return self._stream(self._gateway.notices)

    def wait_online(self, timeout: float | None = PATIENCE) -> object:
        return self._world.submit(partial(self._gateway.wait_online, timeout)).result()

    def probe(self) -> None:
        run_sync(self._world, self._gateway.probe)

    def reconnect_now(self, *, signed: SignedPayload = SignedPayload.V3) -> None:
        run_sync(self._world, partial(self._gateway.reconnect_now, signed=signed))

    def use_credentials(self, **credentials: str | None) -> None:
        run_sync(self._world, partial(self._gateway.use_credentials, **credentials))

    @property
    def hello(self) -> Hello:
        return self._gateway.hello

    @property
    def state(self) -> State:
        return self._gateway.state

    @property
    def stats(self) -> Stats:
        return self._gateway.stats

    @property
    def last_ending(self) -> Ending | None:
        return self._gateway.last_ending

    @property
    def retry_at(self) -> float | None:
        return self._gateway.retry_at

    @property
    def endpoint(self) -> Endpoint:
        return self._gateway.endpoint

    def _stream(self, subscribe: Callable[[], Any]) -> _Stream:
        stream = run_sync(self._world, subscribe)
        return _Stream(self._world, stream.__anext__, stream.close)


class TrioPool(TrioClient):
    def __init__(self, world: TrioWorld, pool: butter_trio.Pool) -> None:
        super().__init__(world, pool)
        self._pool = pool
        self.health = pool.health

    def from_gateways(self) -> _Stream:
        return self._stream(self._pool.from_gateways)

    def add(self, gateway: PoolGateway | str) -> str:
        return self._world.submit(partial(self._pool.add, gateway)).result(PATIENCE)

    def remove(self, name: str, *, drain: float = DRAIN_LIMIT) -> None:
        self._world.submit(partial(self._pool.remove, name, drain=drain)).result(PATIENCE)

    @property
    def primary(self) -> str | None:
        return self._pool.primary


class TrioSubject:
    logger: Final = "butter_trio"

    def __init__(self, world: TrioWorld) -> None:
        self._world = world

    @contextmanager
    def connect(
        self,
        url: str,
        *,
        on_online: Callable[[FullClient], None] | None = None,
        **options: Any,
    ) -> Iterator[TrioClient]:
        if on_online is not None:
            options["on_online"] = partial(self._run_hook, on_online, TrioClient)
        with entered(self._world, butter_trio.connect(url, **options)) as gateway:
            yield TrioClient(self._world, gateway)

    @contextmanager
    def connect_pool(
        self,
        gateways: Iterable[PoolGateway | str],
        *,
        on_online: Callable[[PoolClient], None] | None = None,
        **options: Any,
    ) -> Iterator[TrioPool]:
        if on_online is not None:
            options["on_online"] = partial(self._run_hook, on_online, TrioPool)
        with entered(self._world, butter_trio.connect_pool(gateways, **options)) as pool:
            yield TrioPool(self._world, pool)

    async def _run_hook(
        self, hook: Callable[[Any], None], kind: Callable[..., Any], gateway: butter_trio.Gateway
    ) -> None:
        client = kind(self._world, gateway)
        await trio.to_thread.run_sync(hook, client, abandon_on_cancel=True)


@contextmanager
def trio_subject() -> Iterator[TrioSubject]:
    world = TrioWorld()
    with world.running():
        yield TrioSubject(world)


# --- butter_threads -------------------------------------------------------------------------


class ThreadsStream:
    def __init__(self, stream: Stream[Any]) -> None:
        self._stream = stream

    def get(self) -> Any:
        try:
            return next(self._stream)
        except StopIteration:
            raise Ended from None

    def close(self) -> None:
        self._stream.close()


class ThreadsClient:
    """The gateway as it is: nothing has to be carried anywhere."""

    def __init__(self, gateway: butter_threads.Gateway) -> None:
        self._gateway = gateway
        self.probe = gateway.probe
        self.reconnect_now = gateway.reconnect_now
        self.use_credentials = gateway.use_credentials
        self.queued = gateway.queued

    def request(self, method: str, params: Any = None, **options: Any) -> Any:
        return self._gateway.request(method, params, **options)

    def submit(self, method: str, params: Any = None, **options: Any) -> Future[Any]:
        return self._gateway.submit(method, params, **options)

    def events(self, *names: str, limit: int = 1000) -> ThreadsStream:
        return ThreadsStream(self._gateway.events(*names, limit=limit, timeout=PATIENCE))

    def states(self) -> ThreadsStream:
        return ThreadsStream(self._gateway.states(timeout=PATIENCE))

    def notices(self) -> ThreadsStream:
        return ThreadsStream(self._gateway.notices(timeout=PATIENCE))

    def wait_online(self, timeout: float | None = PATIENCE) -> object:
        return self._gateway.wait_online(timeout)

    @property
    def hello(self) -> Hello:
        return self._gateway.hello

    @property
    def state(self) -> State:
        return self._gateway.state

    @property
    def stats(self) -> Stats:
        return self._gateway.stats

    @property
    def last_ending(self) -> Ending | None:
        return self._gateway.last_ending

    @property
    def retry_at(self) -> float | None:
        return self._gateway.retry_at

    @property
    def endpoint(self) -> Endpoint:
        return self._gateway.endpoint


class ThreadsPool(ThreadsClient):
    def __init__(self, pool: butter_threads.Pool) -> None:
        super().__init__(pool)
        self._pool = pool
        self.add = pool.add
        self.remove = pool.remove
        self.health = pool.health

    def from_gateways(self) -> ThreadsStream:
        return ThreadsStream(self._pool.from_gateways(timeout=PATIENCE))

    @property
    def primary(self) -> str | None:
        return self._pool.primary


class ThreadsSubject:
    logger: Final = "butter_threads"

    @contextmanager
    def connect(
        self,
        url: str,
        *,
        on_online: Callable[[FullClient], None] | None = None,
        **options: Any,
    ) -> Iterator[ThreadsClient]:
        if on_online is not None:
            options["on_online"] = lambda gateway: on_online(ThreadsClient(gateway))
        with butter_threads.connect(url, **options) as gateway:
            yield ThreadsClient(gateway)

    @contextmanager
    def connect_pool(
        self,
        gateways: Iterable[PoolGateway | str],
        *,
        on_online: Callable[[PoolClient], None] | None = None,
        **options: Any,
    ) -> Iterator[ThreadsPool]:
        if on_online is not None:
            options["on_online"] = lambda pool: on_online(ThreadsPool(pool))
        with butter_threads.connect_pool(gateways, **options) as pool:
            yield ThreadsPool(pool)


@contextmanager
def threads_subject() -> Iterator[ThreadsSubject]:
    """Let no thread outlive the test, but those whose dials cannot be broken off."""
    yield ThreadsSubject()
    for thread in threading.enumerate():
        if thread.name.startswith("butter_threads") and "dial" not in thread.name:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread outlived the test"


# --- the asyncio examples -------------------------------------------------------------------


class AsyncioClient:
    def __init__(self, world: AsyncioWorld, gateway: asyncio_adapter.Gateway) -> None:
        self._world = world
        self._gateway = gateway

    def request(self, method: str, params: Any = None, **options: Any) -> Any:
        return self.submit(method, params, **options).result(2 * PATIENCE)

    def submit(self, method: str, params: Any = None, **options: Any) -> Future[Any]:
        return self._world.submit(partial(self._gateway.request, method, params, **options))

    def events(self, *names: str, limit: int = 1000) -> _Stream:
        stream = run_sync(self._world, lambda: self._gateway.events(*names, limit=limit))
        return _Stream(self._world, stream.__anext__, stream.aclose)

    def states(self) -> _Stream:
        client, ready = self._gateway.client, asyncio.Event()
        subscription = run_sync(self._world, lambda: client.watch(ready.set))

        async def take() -> Any:
            while (item := subscription.take()) is None:
                if subscription.closed:
                    raise Ended
                ready.clear()
                await ready.wait()
            return item

        return _Stream(self._world, take, lambda: client.unsubscribe(subscription))

    def wait_online(self, timeout: float | None = PATIENCE) -> object:
        return self._world.submit(self._gateway.wait_online).result(timeout)

    @property
    def state(self) -> State:
        return self._gateway.machine.state

    @property
    def stats(self) -> Stats:
        return self._gateway.machine.stats

    @property
    def last_ending(self) -> Ending | None:
        return self._gateway.machine.last_ending


class AsyncioSubject:
    logger: Final = asyncio_adapter.__name__

    def __init__(
        self, world: AsyncioWorld, kind: type[asyncio_adapter.Gateway], probe: Probe | None
    ) -> None:
        self._world = world
        self._kind = kind
        self._probe = probe

    @contextmanager
    def connect(
        self,
        url: str,
        *,
        token: str | None = None,
        settings: Settings | None = None,
        wait: bool = True,
        ssl_context: ssl.SSLContext | None = None,
        device: Device | None = None,
    ) -> Iterator[AsyncioClient]:
        settings = attrs.evolve(settings or Settings(), token=token)
        if self._probe is not None:
            keepalive = attrs.evolve(settings.keepalive, probe=self._probe)
            settings = attrs.evolve(settings, framing=Framing.MESSAGES, keepalive=keepalive)
        manager = asyncio_adapter.connect(
            url, settings, context=ssl_context, device=device, kind=self._kind
        )
        with entered(self._world, manager) as gateway:
            client = AsyncioClient(self._world, gateway)
            if wait:
                client.wait_online()
            yield client


@contextmanager
def asyncio_subject(
    kind: type[asyncio_adapter.Gateway] = asyncio_adapter.Gateway, probe: Probe | None = None
) -> Iterator[AsyncioSubject]:
    world = AsyncioWorld()
    with world.running():
        yield AsyncioSubject(world, kind, probe)


Adapters = dict[str, Callable[[], AbstractContextManager[Any]]]

FULL: Final[Adapters] = {
    "trio": trio_subject,
    "threads": threads_subject,
}
"""The packages."""
HOSTS: Final[Adapters] = {
    "websockets, pings": partial(asyncio_subject, WebSocketGateway, Probe.PING),
    "websockets, health": partial(asyncio_subject, WebSocketGateway, Probe.AUTO),
}
"""The hosts that speak WebSocket themselves, with either way to probe."""
BYTES: Final[Adapters] = {**FULL, "asyncio": asyncio_subject}
"""Those for which the machine does it."""
ALL: Final[Adapters] = {**BYTES, **HOSTS}
"""The packages and the examples."""
