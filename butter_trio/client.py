"""The async API on trio.

    async with butter_trio.connect("ws://127.0.0.1:18789", token=...) as gateway:
        await gateway.request("health")

Every background task lives in the ``async with``; none outlives it. Leaving it normally stops the
connection, leaving it by an exception or a cancellation aborts it.
"""

from __future__ import annotations

import logging
import math
import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Unpack

import outcome
import trio

from butter_proto.client import Client, check_in_hook, result_of
from butter_proto.connector import Connector
from butter_proto.connector_factory import ConnectorFactory
from butter_proto.credentials import Credentials
from butter_proto.device import Device
from butter_proto.device_auth import SignedPayload
from butter_proto.events import Hello, Offline, Online, PoolEvent
from butter_proto.journal import Journal
from butter_proto.pool import Pool
from butter_proto.request_options import RequestOptions
from butter_proto.secret import Secret
from butter_proto.settings import Settings, adapter_settings
from butter_proto.token_keeper import TokenKeeper, keeper_for
from butter_proto.trace import Trace
from butter_proto.view import GatewayView
from butter_trio.background import background
from butter_trio.dial import Dial, dial_tcp, open_peer
from butter_trio.driver import Driver
from butter_trio.keeping import Keeping, load_within
from butter_trio.streams import EventStream, NoticeStream, StateStream
from butter_trio.tunnel import require

_log = logging.getLogger("butter_trio")

OnOnline = Callable[["Gateway"], Awaitable[None]]
_Hook = Callable[[Any], Awaitable[None]]


class Gateway(GatewayView):
    """A gateway to talk to. Made by `connect`."""

    def __init__(
        self,
        machine: Connector | Pool,
        dial: Dial,
        context: ssl.SSLContext | None,
        hook: _Hook | None,
        keepers: dict[str | None, TokenKeeper] | None,
    ) -> None:
        client = Client(machine.max_event_bytes, has_hook=hook is not None)
        super().__init__(machine, client)
        self._driver = Driver(
            machine, partial(open_peer, dial=dial, context=context), self._deliver
        )
        self._journal = Journal(of_pool=isinstance(machine, Pool))
        self._hook = hook
        self._hook_scope: trio.CancelScope | None = None
        self._hook_task: trio.lowlevel.Task | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._keeping: Keeping | None = None
        if keepers is not None:
            self._keeping = Keeping(keepers, machine, self._driver.pump)

    # --- what is told -----------------------------------------------------------------------

    def states(self) -> StateStream:
        """Iterate over the state events, the present one first."""
        return StateStream(self._client)

    def notices(self) -> NoticeStream:
        """Iterate over the notices from now on; those that still stand come first."""
        return NoticeStream(self._client)

    def events(self, *names: str, limit: int = 1000) -> EventStream:
        """Subscribe to gateway events of these names (all, without names), from now on.

        At most ``limit`` wait; above it new ones are dropped until half of them were read, and
        one `EventsMissed` tells how many. Raises `InvalidSettings` for a limit under 1.
        """
        return EventStream(self._client, names, limit)

    # --- what can be done -------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def request(
        self, method: str, params: Any = None, **options: Unpack[RequestOptions]
    ) -> Any:
        """Send a request and return its payload.

        `RequestOptions` says what may be asked for: ``timeout``, ``final``, ``offline``,
        ``replay``, ``retry_unavailable``, ``idempotency_key``. Cancelling takes the request back,
        if it has not left; one that waits in the queue, or to be sent again, leaves no more.

        Raises `NotOnline`, `PendingFull`, `MessageTooLarge`, `InvalidParams` when it was not
        accepted, else `RequestNotSent`, `RequestMayHaveExecuted`, `RequestRefused` or
        `RequestTimeout`. The ``on_online`` hook may not wait for the queue, which waits for it:
        `LocalProtocolError`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_in_hook(options)
        request_id = self._machine.request(method, params, now=trio.current_time(), **options)
        return result_of(await trio.lowlevel.wait_task_rescheduled(self._expect(request_id)))

    async def wait_online(self, timeout: float | None = None) -> Hello:  # noqa: ASYNC109
        """Wait until the gateway is online and the ``on_online`` hook has run.

        Raises `ConnectTimeout` after ``timeout`` seconds (None: never), `GaveUp` or
        `ConnectionEnded` where waiting is in vain.
        """
        seconds = math.inf if timeout is None else timeout
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(seconds) as scope:
            await self._until_ready()
        if scope.cancelled_caught:
            raise self._client.connect_timeout(seconds)
        return self.hello

    @trio.lowlevel.enable_ki_protection
    def probe(self) -> None:
        """Ask at once whether the gateway is there: after a wake-up or a change of network."""
        self._machine.probe(trio.current_time())
        self._driver.pump()

    @trio.lowlevel.enable_ki_protection
    def use_credentials(
        self,
        *,
        token: str | Secret | None = None,
        password: str | Secret | None = None,
        bootstrap_token: str | Secret | None = None,
    ) -> None:
        """Connect with these, and no others, from the next attempt on; after `GaveUp` at once.

        A stored device token is used where all are left out. Raises `InvalidSettings`.
        """
        credentials = Credentials(token, password, bootstrap_token)
        self._machine.use_credentials(credentials, trio.current_time())
        self._driver.pump()

    @trio.lowlevel.enable_ki_protection
    def reconnect_now(self, *, signed: SignedPayload = SignedPayload.V3) -> None:
        """End a backoff, or try again after `GaveUp`; a rate limit is still obeyed.

        ``signed`` is what a device signs in this one attempt.
        """
        self._machine.reconnect_now(trio.current_time(), signed)
        self._driver.pump()

    # --- inside -----------------------------------------------------------------------------

    def _check_in_hook(self, options: RequestOptions) -> None:
        if self._hook_task is not None and trio.lowlevel.current_task() is self._hook_task:
            check_in_hook(options)

    def _expect(self, request_id: str) -> Callable[[object], trio.lowlevel.Abort]:
        """Let a request that was just made leave, and its outcome reschedule this task.

        Returns what takes the request back where the task is cancelled.
        """
        task = trio.lowlevel.current_task()
        self._driver.pump_soon()
        self._client.expect(
            request_id, lambda result: trio.lowlevel.reschedule(task, outcome.Value(result))
        )

        def abort(_: object) -> trio.lowlevel.Abort:
            self._client.forget(request_id)
            self._machine.cancel(request_id, trio.current_time())
            self._driver.pump()
            return trio.lowlevel.Abort.SUCCEEDED

        return abort

    async def _until_ready(self) -> None:
        while not self._client.is_ready:
            failure = self._client.failure
            if failure is not None:
                raise failure
            await self._changed.park()

    async def _run(self) -> None:
        """Drive the machine until Stopped, and keep the last token that it was given."""
        if self._keeping is None:
            await self._drive_with_hook()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keeping.run)
            try:
                await self._drive_with_hook()
            finally:
                self._keeping.end()

    async def _drive_with_hook(self) -> None:
        if self._hook is None:
            await self._drive()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_hook, self._hook)
            await self._drive()
            nursery.cancel_scope.cancel()

    async def _drive(self) -> None:
        try:
            await self._driver.run()
        finally:
            self._stop(True)  # where it was cancelled: nobody waits in vain

    @trio.lowlevel.enable_ki_protection
    def _stop(self, abort: bool) -> None:  # noqa: FBT001 - `background` calls it
        self._machine.stop(trio.current_time(), abort=abort)
        self._driver.pump()

    def _deliver(self, event: PoolEvent) -> None:
        if self._client.deliver(event):
            return
        if self._keeping is not None:
            self._keeping.offer(event)
        line = self._journal.line(event)
        if line is not None:
            _log.log(*line)
            self._changed.unpark_all()
        if self._hook_scope is not None and isinstance(event, Offline | Online):
            self._hook_scope.cancel()

    async def _run_hook(self, hook: _Hook) -> None:
        """Run the hook once per Online.

        A drop cancels it, and so does another gateway of a pool that takes over; the next Online
        runs it again.
        """
        self._hook_task = trio.lowlevel.current_task()
        while True:
            while not self._client.hook_is_due:
                await self._changed.park()
            generation = self._client.generation
            failure: Exception | None = None
            try:
                with trio.CancelScope() as self._hook_scope:
                    await hook(self)
            except Exception as error:  # noqa: BLE001 - a hook may raise anything
                failure = error
            self._hook_scope = None
            if self._hook_has_run(generation) and failure is not None:
                _log.error("the on_online hook raised; it counts as done", exc_info=failure)

    @trio.lowlevel.enable_ki_protection
    def _hook_has_run(self, generation: int) -> bool:
        """Let go on what waited for the hook; False where its Online was over before it was."""
        transport_id = self._client.hook_has_run(generation)
        if transport_id is None:
            return False
        self._machine.resynced(transport_id, trio.current_time())
        self._driver.pump()
        self._changed.unpark_all()
        return True


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | Secret | None = None,
    timeout: float | None = 60.0,  # noqa: ASYNC109 - it tells the last ending
    wait: bool = True,
    settings: Settings | None = None,
    device: Device | None = None,
    on_online: OnOnline | None = None,
    ssl_context: ssl.SSLContext | None = None,
    dial: Dial = dial_tcp,
    trust_env: bool = False,
    trace: Trace | None = None,
    recorder: ConnectorFactory | None = None,
) -> AsyncIterator[Gateway]:
    """Keep a gateway connected for as long as the ``async with`` lasts.

    Returns when online and the first ``on_online`` has run; with ``wait=False`` at once.
    ``token`` goes before that of ``settings``. ``device`` signs, and keeps the tokens that it is
    given. ``on_online(gateway)`` is awaited after each (re)connect, and again if a drop interrupts
    it; what it raises is logged. What waited for the connection waits for it too.
    ``ssl_context`` replaces the platform's trust for wss URLs.
    ``trust_env`` lets ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name a proxy where
    ``settings`` name none (docs/proxies.md). ``trace`` is told of each message on the wire,
    without secrets; it must not block, and one that raises is told no more.
    ``recorder`` makes the connector, and keeps what happens to it (docs/testing.md).

    Raises `InvalidSettings` for what cannot work, `StoreError` where the device's tokens cannot be
    read, `ConnectTimeout` with the last ending after ``timeout`` seconds (None: never), `GaveUp`
    where trying again is no use.
    """
    environ = os.environ if trust_env else None
    settings = adapter_settings(settings, token, url=url, environ=environ)
    signer = None if device is None else device.signer
    make = Connector if recorder is None else recorder.connector
    machine = make(
        url,
        settings,
        random=random.random,
        entropy=os.urandom,
        signer=signer,
        trace=trace,
        hold_queue=on_online is not None,
    )
    if dial is dial_tcp:
        require(machine.proxy)
    keeper = keeper_for(device, machine)
    begun = trio.current_time()
    stored = None if keeper is None else await load_within(keeper, timeout)
    keepers: dict[str | None, TokenKeeper] | None = None if keeper is None else {None: keeper}
    gateway = Gateway(machine, dial, ssl_context, on_online, keepers)
    machine.start(trio.current_time(), device_token=stored)
    if keeper is not None:
        timeout = left_of(timeout, begun)
    async with running(gateway, timeout, wait=wait):
        yield gateway


@asynccontextmanager
async def running(gateway: Gateway, timeout: float | None, *, wait: bool) -> AsyncIterator[None]:  # noqa: ASYNC109
    """Run a gateway that was started, inside first until it is online."""
    async with background(gateway._run, gateway._stop):  # noqa: SLF001 - the pair is one idea
        if wait:
            await gateway.wait_online(timeout)
        yield


def left_of(timeout: float | None, begun: float) -> float | None:
    """Return what is left of a time in seconds that began then."""
    return None if timeout is None else max(0.0, begun + timeout - trio.current_time())
