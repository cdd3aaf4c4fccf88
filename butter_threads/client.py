"""The blocking API, for any number of threads.

    with butter_threads.connect("ws://127.0.0.1:18789", token=...) as gateway:
        gateway.request("health")

Rules kept here:

* One lock guards the machine and what waits for it. No code of the user runs under it on purpose;
  finalizers and signal handlers may, and are told so or wait their turn.
* Done-callbacks of `submit`'s futures run in the I/O thread, so they must not block: calls that
  wait raise `LocalProtocolError` there. The ``on_online`` hook and the callbacks of ``on`` have
  threads of their own, in which everything is allowed.
* Every waiter is woken when the gateway is closed. All threads are daemons, so the interpreter's
  exit waits for none; in the child of a fork what acts or waits raises `ConnectionEnded`.
"""

from __future__ import annotations

import logging
import os
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack
from weakref import WeakSet

from butter_proto import errors
from butter_proto.client import Client, check_in_hook, result_of
from butter_proto.connector import Connector
from butter_proto.connector_factory import ConnectorFactory
from butter_proto.credentials import Credentials
from butter_proto.device import Device, DeviceToken
from butter_proto.device_auth import SignedPayload
from butter_proto.events import Hello, PoolEvent, Stopped
from butter_proto.journal import Journal
from butter_proto.machine import OpenTransport
from butter_proto.pool import Pool
from butter_proto.request_options import RequestOptions
from butter_proto.secret import Secret
from butter_proto.settings import Settings, adapter_settings
from butter_proto.subscriptions import Subscription
from butter_proto.token_keeper import TokenKeeper, keeper_for
from butter_proto.trace import Trace
from butter_proto.view import GatewayView
from butter_threads.callbacks import Callback, Callbacks
from butter_threads.calls import Call, Waiter
from butter_threads.dial import Dial, Opener, Peer
from butter_threads.driver import Driver, is_owned
from butter_threads.hook import HookThread
from butter_threads.keeping import KeepingThread, load_within
from butter_threads.streams import EventStream, NoticeStream, Source, StateStream, Stream, bounded
from butter_threads.tunnel import require

_log = logging.getLogger("butter_threads")
_T = TypeVar("_T")
_LONG_FOR_A_LOCK: Final = 1.0
"""Seconds; a call takes milliseconds."""
_numbers = count(1)
_living: Final[WeakSet[Gateway]] = WeakSet()

OnOnline = Callable[["Gateway"], object]
_Hook = Callable[[Any], object]


class Gateway(GatewayView):
    """A gateway to talk to, from any thread. Made by `connect`; a context manager."""

    def __init__(
        self,
        machine: Connector | Pool,
        open_peer: Callable[[OpenTransport], Peer],
        hook: _Hook | None,
        keepers: dict[str | None, TokenKeeper] | None,
    ) -> None:
        name = f"butter_threads {next(_numbers)}"
        client = Client(machine.max_event_bytes, has_hook=hook is not None)
        self._lock = threading.RLock()
        super().__init__(machine, client, self._lock)
        self._changed = threading.Condition(self._lock)
        self._source = Source(self._lock, self._check, self._may_wait, self._unsubscribe)
        self._driver = Driver(
            machine,
            open_peer,
            self._deliver,
            self._settle,
            partial(machine.stop, abort=True),
            lock=self._lock,
            name=name,
        )
        self._callbacks = Callbacks(
            self._lock,
            self._url,
            client.max_event_bytes,
            client.count_lost,
            f"{name}: callbacks",
        )
        self._journal = Journal(of_pool=isinstance(machine, Pool))
        self._lines: deque[tuple[int, str]] = deque()
        self._settled: deque[Call] = deque()
        self._left: deque[Subscription[Any]] = deque()
        self._hook: HookThread | None = None
        if hook is not None:
            run_hook = partial(hook, self)
            self._hook = HookThread(
                run_hook, client, self._changed, self._resynced, f"{name}: on_online"
            )
        self._keeping: KeepingThread | None = None
        if keepers is not None:
            self._keeping = KeepingThread(
                keepers, self._token_stored, self._token_forgotten, f"{name}: tokens"
            )
        self._forked = False
        _living.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(abort=error is not None)

    # --- what is told -----------------------------------------------------------------------

    def states(self, *, timeout: float | None = None) -> StateStream:
        """Iterate over the state events, the present one first."""
        return Stream(self._source, timeout, self._client.watch)

    def notices(self, *, timeout: float | None = None) -> NoticeStream:
        """Iterate over the notices from now on; those that still stand come first."""
        return Stream(self._source, timeout, self._client.listen)

    def events(self, *names: str, limit: int = 1000, timeout: float | None = None) -> EventStream:
        """Subscribe to gateway events of these names (all, without names), from now on.

        At most ``limit`` wait; above it new ones are dropped until half of them were read, and
        one `EventsMissed` tells how many. Raises `InvalidSettings` for a limit under 1.
        """
        return Stream(self._source, timeout, partial(self._client.subscribe, names, limit))

    def on(self, name: str, callback: Callback) -> None:
        """Call ``callback(payload)`` for what the original connector told under this name.

        `butter_proto.emitter.NAMES` has the names and their payloads. Callbacks run in a thread
        of their own, in order; what they raise is logged. Raises `InvalidSettings` for another
        name.
        """
        self._check()
        self._callbacks.on(name, callback)

    def off(self, name: str, callback: Callback) -> None:
        """Take a callback back; one that is not there is no error."""
        self._check()
        self._callbacks.off(name, callback)

    # --- what can be done -------------------------------------------------------------------

    def request(self, method: str, params: Any = None, **options: Unpack[RequestOptions]) -> Any:
        """Send a request and return its payload.

        `RequestOptions` says what may be asked for: ``timeout``, ``final``, ``offline``,
        ``replay``, ``retry_unavailable``, ``idempotency_key``. Ctrl-C takes the request back, if it
        has not left; one that waits in the queue, or to be sent again, leaves no more.

        Raises `NotOnline`, `PendingFull`, `MessageTooLarge`, `InvalidParams` when it was not
        accepted, else `RequestNotSent`, `RequestMayHaveExecuted`, `RequestRefused` or
        `RequestTimeout`. The ``on_online`` hook may not wait for the queue, which waits for it:
        `LocalProtocolError`; it may `submit` to it.
        """
        return self._outcome(partial(self._machine.request, method, params, **options), options)

    def submit(
        self, method: str, params: Any = None, **options: Unpack[RequestOptions]
    ) -> Future[Any]:
        """Send a request and return its future; ``cancel`` takes the request back.

        Raises what `request` raises when it is not accepted. The future has the payload, or the
        exception. Its done-callbacks run in the I/O thread and must not block.
        """
        return self._submitted(partial(self._machine.request, method, params, **options))

    def wait_online(self, timeout: float | None = None) -> Hello:
        """Wait until the gateway is online and the ``on_online`` hook has run.

        Raises `ConnectTimeout` after ``timeout`` seconds (None: never), `GaveUp` or
        `ConnectionEnded` where waiting is in vain.
        """
        self._may_wait()
        with self._lock:
            decided = self._changed.wait_for(
                lambda: self._client.is_ready or self._client.failure is not None, bounded(timeout)
            )
            if not decided:
                assert timeout is not None
                raise self._client.connect_timeout(timeout)
            if not self._client.is_ready and self._client.failure is not None:
                raise self._client.failure
        return self.hello

    def probe(self) -> None:
        """Ask at once whether the gateway is there: after a wake-up or a change of network."""
        self._call(self._machine.probe)

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
        self._call(partial(self._machine.use_credentials, credentials))

    def reconnect_now(self, *, signed: SignedPayload = SignedPayload.V3) -> None:
        """End a backoff, or try again after `GaveUp`; a rate limit is still obeyed.

        ``signed`` is what a device signs in this one attempt.
        """
        self._call(partial(self._machine.reconnect_now, signed=signed))

    def close(self, *, abort: bool = False) -> None:
        """Stop, and wait until every socket is closed; ``abort`` sends no Close frame.

        Every request has its outcome, every waiter is woken. May be called again. In one of the
        gateway's own threads it does not wait.
        """
        if self._forked:
            return
        self._call(lambda now: self._machine.stop(now, abort=abort))
        if self._driver.is_current or self._callbacks.is_current:
            return
        try:
            self._driver.join()
            if self._keeping is not None:
                self._keeping.join()
        except BaseException:  # Ctrl-C while the Close frame is under way
            self._call(lambda now: self._machine.stop(now, abort=True))
            raise

    # --- inside -----------------------------------------------------------------------------

    def _start(self, begin: Callable[[float], None]) -> None:
        """Begin the first attempt; each gateway once."""
        begin(time.monotonic())
        self._driver.start()
        for thread in (self._keeping, self._hook):
            if thread is not None:
                try:
                    thread.start()
                except BaseException:  # no more threads
                    self.close(abort=True)
                    raise

    def _ready(self, timeout: float | None, *, wait: bool) -> Self:
        """Return it once it is online; where that fails nothing is left open."""
        if wait:
            try:
                self.wait_online(timeout)
            except BaseException:
                self.close(abort=True)
                raise
        return self

    def _outcome(self, make_request: Callable[..., str], options: RequestOptions) -> Any:
        """Make a request, wait for its outcome, and return or raise what it stands for."""
        self._may_wait()
        if self._hook is not None and self._hook.is_current:
            check_in_hook(options)
        waiter = Waiter()
        try:
            self._send(make_request, waiter)
            outcome = waiter.wait()
        except BaseException:  # Ctrl-C may come at any moment
            if waiter.request_id is not None:
                self._take_back(waiter.request_id)
            raise
        return result_of(outcome)

    def _submitted(self, make_request: Callable[..., str]) -> Future[Any]:
        """Make a request and return its future."""
        call = Call(self._take_back, self._may_wait, self._settled)
        self._send(make_request, call)
        return call

    def _send(self, make_request: Callable[..., str], waiter: Waiter | Call) -> None:
        def send(now: float) -> None:
            waiter.request_id = make_request(now=now)
            self._client.expect(waiter.request_id, waiter.on_outcome)

        self._call(send)

    def _take_back(self, request_id: str) -> bool:
        """Take a request back; tell whether its outcome will not come."""

        def take_back(now: float) -> bool:
            if self._machine.cancel(request_id, now) is None:
                return False
            self._client.forget(request_id)
            return True

        return self._call(take_back)

    def _call(self, make_input: Callable[[float], _T]) -> _T:
        self._check()
        return self._driver.call(make_input)

    def _may_wait(self) -> None:
        self._check()
        if self._driver.is_current:
            raise errors.LocalProtocolError("the I/O thread must not wait: use another thread")

    def _check(self) -> None:
        """Raise where nothing can be done: in the child of a fork, or inside another call."""
        if self._forked:
            raise errors.ConnectionEnded("this connection belongs to the process that was forked")
        self._driver.check_not_inside()

    def _unsubscribe(self, subscription: Subscription[Any]) -> None:
        if self._forked:
            return
        # a finalizer may come in the middle of a call, of this gateway or of another one whose
        # lock this thread has: then it must not wait, and nobody waits for the stream either
        if is_owned(self._lock) or not self._lock.acquire(timeout=_LONG_FOR_A_LOCK):
            self._left.append(subscription)
            return
        try:
            self._client.unsubscribe(subscription)
        finally:
            self._lock.release()

    def _deliver(self, event: PoolEvent) -> None:
        """Take one event of the machine, under the lock."""
        while self._left:
            self._client.unsubscribe(self._left.popleft())
        is_usual = self._client.deliver(event)
        self._callbacks.offer(event)
        if is_usual:
            return
        line = self._journal.line(event)
        if line is not None:  # a state has changed
            self._lines.append(line)
            self._changed.notify_all()
        if self._keeping is not None:
            self._keeping.offer(event)
        if isinstance(event, Stopped):
            self._callbacks.close()
            if self._keeping is not None:
                self._keeping.end()

    def _resynced(self, transport_id: int) -> None:
        self._driver.call(partial(self._machine.resynced, transport_id))

    def _token_stored(self, transport_id: int, ok: bool) -> None:  # noqa: FBT001 - it is an answer
        self._driver.call(partial(self._machine.token_stored, transport_id, ok))

    def _token_forgotten(self, transport_id: int, newer: DeviceToken | None) -> None:
        self._driver.call(partial(self._machine.token_forgotten, transport_id, newer))

    def _url(self) -> str:
        """Return what callbacks are told of; empty where a pool has no gateway."""
        try:
            return self.endpoint.url
        except errors.NotOnline:
            return ""

    def _settle(self) -> None:
        """Do what must not be done under the lock: log, and let futures call back."""
        while self._lines:
            _log.log(*self._lines.popleft())
        while self._settled:
            self._settled.popleft().settle()

    def _after_fork(self) -> None:
        """Forget everything, in the child: the connection is the parent's, and so is its thread."""
        self._forked = True
        self._reading = nullcontext()  # a thread that is no more may have the lock
        self._driver.forget()


def _after_fork_in_child() -> None:
    for gateway in list(_living):
        gateway._after_fork()  # noqa: SLF001 - one idea with it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def connect(
    url: str,
    *,
    token: str | Secret | None = None,
    timeout: float | None = 60.0,
    wait: bool = True,
    settings: Settings | None = None,
    device: Device | None = None,
    on_online: OnOnline | None = None,
    ssl_context: ssl.SSLContext | None = None,
    dial: Dial | None = None,
    trust_env: bool = False,
    trace: Trace | None = None,
    recorder: ConnectorFactory | None = None,
) -> Gateway:
    """Keep a gateway connected until it is closed: best in a ``with``.

    Returns when online and the first ``on_online`` has run; with ``wait=False`` at once.
    ``token`` goes before that of ``settings``. ``device`` signs, and keeps the tokens that it is
    given. ``on_online(gateway)`` is called after each (re)connect, and again if a drop came
    meanwhile; what it raises is logged. What waited for the connection waits for it too.
    ``ssl_context`` replaces the platform's trust for wss URLs, ``dial`` replaces `dial_tcp`.
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
    if dial is None:
        require(machine.proxy)
    keeper = keeper_for(device, machine)
    begun = time.monotonic()
    stored = None if keeper is None else load_within(keeper, timeout)
    keepers: dict[str | None, TokenKeeper] | None = None if keeper is None else {None: keeper}
    opener = Opener(dial, ssl_context)
    opener.serve(settings)
    gateway = Gateway(machine, opener, on_online, keepers)
    gateway._start(lambda now: machine.start(now, device_token=stored))  # noqa: SLF001 - one idea
    if keeper is not None:
        timeout = left_of(timeout, begun)
    return gateway._ready(timeout, wait=wait)  # noqa: SLF001 - one idea with it


def left_of(timeout: float | None, begun: float) -> float | None:
    """Return what is left of a time in seconds that began then."""
    return None if timeout is None else max(0.0, begun + timeout - time.monotonic())
