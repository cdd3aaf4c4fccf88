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
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, Self, TypeVar

import outcome
import trio

from butter_proto.client import Client, Subscription, result_of
from butter_proto.connector import Connector
from butter_proto.credentials import Credentials
from butter_proto.device import Device, DeviceToken
from butter_proto.device_auth import SignedPayload
from butter_proto.errors import ConnectTimeout
from butter_proto.events import (
    DeviceTokenIssued,
    Event,
    EventsMissed,
    GatewayEvent,
    Hello,
    Notice,
    Offline,
    StateEvent,
)
from butter_proto.journal import Journal, Journaled
from butter_proto.secret import Secret
from butter_proto.settings import DEFAULT, Default, Settings, adapter_settings
from butter_proto.token_keeper import (
    CLOSE_LIMIT,
    GIVEN_UP,
    Keepable,
    TokenKeeper,
    complaint,
    keeper_for,
)
from butter_proto.trace import Trace
from butter_proto.view import GatewayView
from butter_trio.background import background
from butter_trio.dial import Dial, dial_tcp, open_peer
from butter_trio.driver import Driver
from butter_trio.tunnel import require

_log = logging.getLogger("butter_trio")
_T = TypeVar("_T")

OnOnline = Callable[["Gateway"], Awaitable[None]]


class Stream(Generic[_T]):
    """An async iterator over a subscription; leaving its ``async with`` unsubscribes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ready = trio.lowlevel.ParkingLot()
        self._subscription: Subscription[_T]

    def _wake(self) -> None:
        self._ready.unpark_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unsubscribe; what is queued can still be read."""
        self._client.unsubscribe(self._subscription)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        # no full checkpoint per item: a burst must be taken faster than it is read
        await trio.lowlevel.checkpoint_if_cancelled()
        while (item := self._subscription.take()) is None:
            if self._subscription.error is not None:
                raise self._subscription.error
            if self._subscription.closed:
                raise StopAsyncIteration
            await self._ready.park()
        return item


class EventStream(Stream[GatewayEvent | EventsMissed]):
    """Gateway events as they come, losses in their place. Raises `GaveUp` after giving up."""

    def __init__(self, client: Client, names: tuple[str, ...], limit: int) -> None:
        super().__init__(client)
        self._subscription = client.subscribe(names, limit, self._wake)


class StateStream(Stream[StateEvent]):
    """State events, the present one first; ends after Stopped."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._subscription = client.watch(self._wake)


class NoticeStream(Stream[Notice]):
    """Notices: `RoundTrip` of each probe, `ScopesReduced`, `ClockLate`...; ends after Stopped."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._subscription = client.listen(self._wake)


class Gateway(GatewayView):
    """A gateway to talk to. Made by `connect`."""

    def __init__(
        self,
        machine: Connector,
        client: Client,
        dial: Dial,
        context: ssl.SSLContext | None,
        hook: OnOnline | None,
        keeper: TokenKeeper | None,
    ) -> None:
        super().__init__(machine, client)
        self._driver = Driver(
            machine, partial(open_peer, dial=dial, context=context), self._deliver
        )
        self._journal = Journal()
        self._hook = hook
        self._hooked = 0
        self._hook_scope: trio.CancelScope | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._keeper = keeper
        self._to_keep, self._kept = trio.open_memory_channel[Keepable](math.inf)
        self._keeping = trio.CancelScope(shield=True)

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
        self,
        method: str,
        params: Any = None,
        *,
        timeout: float | Default | None = DEFAULT,  # noqa: ASYNC109 - the deadline is the machine's
        final: bool = False,
    ) -> Any:
        """Send a request and return its payload.

        ``timeout`` in seconds (left out: 30; None: no deadline). ``final`` waits past an interim
        ``{"status": "accepted"}``. Cancelling takes the request back, if it has not left.

        Raises `NotOnline`, `PendingFull`, `MessageTooLarge`, `InvalidParams` when it was not
        accepted, else `RequestNotSent`, `RequestMayHaveExecuted`, `RequestRefused` or
        `RequestTimeout`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        request_id = self._machine.request(
            method, params, now=trio.current_time(), timeout=timeout, final=final
        )
        self._driver.pump()
        task = trio.lowlevel.current_task()
        self._client.expect(
            request_id, lambda result: trio.lowlevel.reschedule(task, outcome.Value(result))
        )

        def abort(_: object) -> trio.lowlevel.Abort:
            self._client.forget(request_id)
            self._machine.cancel(request_id, trio.current_time())
            self._driver.pump()
            return trio.lowlevel.Abort.SUCCEEDED

        return result_of(await trio.lowlevel.wait_task_rescheduled(abort))

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

    def _is_ready(self) -> bool:
        return self._client.online and (
            self._hook is None or self._hooked == self._client.generation
        )

    async def _until_ready(self) -> None:
        while not self._is_ready():
            failure = self._client.failure
            if failure is not None:
                raise failure
            await self._changed.park()

    async def _run(self) -> None:
        """Drive the machine until Stopped, and keep the last token that it was given."""
        async with trio.open_nursery() as nursery:
            if self._keeper is not None:
                nursery.start_soon(self._keep_tokens, self._keeper)
            try:
                with self._to_keep:
                    await self._drive()
            finally:
                self._keeping.deadline = trio.current_time() + CLOSE_LIMIT

    async def _drive(self) -> None:
        async with trio.open_nursery() as nursery:
            if self._hook is not None:
                nursery.start_soon(self._run_hook, self._hook)
            try:
                await self._driver.run()
            finally:
                self._stop(True)  # where it was cancelled: nobody waits in vain
            nursery.cancel_scope.cancel()

    @trio.lowlevel.enable_ki_protection
    def _stop(self, abort: bool) -> None:  # noqa: FBT001 - `background` calls it
        self._machine.stop(trio.current_time(), abort=abort)
        self._driver.pump()

    @trio.lowlevel.enable_ki_protection
    async def _keep_tokens(self, keeper: TokenKeeper) -> None:
        """Store and forget tokens; a thread waits for the disk, and no cancellation cuts it off."""
        with self._keeping:
            async for event in self._kept:
                stored, newer = True, None
                try:
                    newer = await _run(keeper, keeper.keep, event)
                except Exception as error:  # noqa: BLE001 - a store may raise anything
                    stored = False
                    _log.warning(complaint(event, error))
                now = trio.current_time()
                if isinstance(event, DeviceTokenIssued):
                    self._machine.token_stored(event.transport_id, stored, now)
                else:
                    self._machine.token_forgotten(event.transport_id, newer, now)
                self._driver.pump()
        if self._keeping.cancelled_caught:
            _log.warning(GIVEN_UP)

    def _deliver(self, event: Event) -> None:
        self._client.deliver(event)
        if isinstance(event, Keepable) and self._keeper is not None:
            self._to_keep.send_nowait(event)
        if isinstance(event, Journaled):
            _log.log(*self._journal.line(event))
        if isinstance(event, StateEvent):
            if self._hook_scope is not None and isinstance(event, Offline):
                self._hook_scope.cancel()
            self._changed.unpark_all()

    async def _run_hook(self, hook: OnOnline) -> None:
        """Run the hook once per Online; a drop cancels it, and the next Online runs it again."""
        while True:
            while not self._client.online or self._hooked == self._client.generation:
                await self._changed.park()
            generation = self._client.generation
            failure: Exception | None = None
            try:
                with trio.CancelScope() as self._hook_scope:
                    await hook(self)
            except Exception as error:  # noqa: BLE001 - a hook may raise anything
                failure = error
            self._hook_scope = None
            if self._client.online and self._client.generation == generation:
                if failure is not None:
                    _log.error("the on_online hook raised; it counts as done", exc_info=failure)
                self._hooked = generation
                self._changed.unpark_all()


async def _run(keeper: TokenKeeper, job: Callable[..., _T], *args: Any) -> _T:
    """Ask the store: in a thread where it may block, and not in one of the program's own few."""
    if not keeper.may_block:
        return job(*args)
    own = trio.CapacityLimiter(1)
    return await trio.to_thread.run_sync(job, *args, abandon_on_cancel=True, limiter=own)


async def _load(keeper: TokenKeeper, timeout: float | None) -> DeviceToken | None:  # noqa: ASYNC109
    """Load the token to start with, in real seconds: a disk knows nothing of a test's clock."""
    if timeout is None or not keeper.may_block:
        return await _run(keeper, keeper.load)
    with trio.CancelScope() as scope:
        wake_up = trio.lowlevel.current_trio_token().run_sync_soon
        timer = threading.Timer(timeout, wake_up, [scope.cancel])
        timer.daemon = True
        timer.start()
        try:
            return await _run(keeper, keeper.load)
        finally:
            timer.cancel()
    raise ConnectTimeout(f"the device's store did not answer in {timeout:g} s")


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
) -> AsyncIterator[Gateway]:
    """Keep a gateway connected for as long as the ``async with`` lasts.

    Returns when online and the first ``on_online`` has run; with ``wait=False`` at once.
    ``token`` goes before that of ``settings``. ``device`` signs, and keeps the tokens that it is
    given. ``on_online(gateway)`` is awaited after each (re)connect, and again if a drop interrupts
    it; what it raises is logged.
    ``ssl_context`` replaces the platform's trust for wss URLs.
    ``trust_env`` lets ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name a proxy where
    ``settings`` name none (docs/proxies.md). ``trace`` is told of each message on the wire,
    without secrets; it must not block, and one that raises is told no more.

    Raises `InvalidSettings` for what cannot work, `StoreError` where the device's tokens cannot be
    read, `ConnectTimeout` with the last ending after ``timeout`` seconds (None: never), `GaveUp`
    where trying again is no use.
    """
    environ = os.environ if trust_env else None
    settings = adapter_settings(settings, token, url=url, environ=environ)
    signer = None if device is None else device.signer
    machine = Connector(
        url, settings, random=random.random, entropy=os.urandom, signer=signer, trace=trace
    )
    if dial is dial_tcp:
        require(machine.proxy)
    client = Client(settings.limits.max_event_bytes)
    keeper = keeper_for(device, machine)
    begun = trio.current_time()
    stored = None if keeper is None else await _load(keeper, timeout)
    gateway = Gateway(machine, client, dial, ssl_context, on_online, keeper)
    machine.start(trio.current_time(), device_token=stored)
    async with background(gateway._run, gateway._stop):  # noqa: SLF001 - the pair is one idea
        if wait:
            if keeper is not None and timeout is not None:
                timeout = max(0.0, begun + timeout - trio.current_time())
            await gateway.wait_online(timeout)
        yield gateway
