"""Connector: one gateway over many sockets. A Machine (machine.py).

Rules kept here:

* Every connect begins here, the first included; there is one current connection, and others only
  while their Close frames are under way.
* What an attempt proves itself with, and what follows its ending, is decided elsewhere
  (authenticator.py, recovery.py); this file only carries it out.
* Each OpenTransport is followed by exactly one CloseTransport with its id (G8).
* Everything the application is told goes through one bounded queue (event_queue.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import Any, Final, Unpack

from butter_proto import events
from butter_proto.attempt import Shared, Surroundings, alone, dial, proxy_to
from butter_proto.authenticator import Authenticator
from butter_proto.backlog import QueuedRequest
from butter_proto.connection import Connection, Phase, check_size
from butter_proto.counters import Counters
from butter_proto.credentials import Credentials
from butter_proto.device import DeviceToken, TokenKey
from butter_proto.device_auth import SignedPayload, Signer
from butter_proto.endpoint import Endpoint
from butter_proto.errors import (
    Delivery,
    Ending,
    EndKind,
    InvalidSettings,
    LocalProtocolError,
    NotOnline,
    TransportFault,
)
from butter_proto.event_queue import EventQueue
from butter_proto.intake import Intake
from butter_proto.link import HostClose, HostMessage, HostPong, Inbound
from butter_proto.machine import (
    STATE_AFTER,
    CloseTransport,
    Command,
    Message,
    State,
    Stats,
)
from butter_proto.pending import PendingRequest
from butter_proto.policy import check_transport
from butter_proto.proxy_address import ProxyAddress
from butter_proto.recovery import Ended, Recovery
from butter_proto.request_options import Offline, RequestOptions
from butter_proto.settings import Dialect, Framing, Settings, with_token_of
from butter_proto.timers import TICK
from butter_proto.trace import Trace

_WORTH_TELLING: Final = 1.0
"""Seconds of lateness above which `ClockLate` is told."""


class Connector:
    """Keeps one gateway connected.

    ``url`` is a ws:// or wss:// URL (a ``?token=`` moves into the connect request) or an
    `Endpoint`. ``random`` returns floats in 0..1 for the jitter, ``entropy`` that many random
    bytes for nonces and masks (os.urandom). The id factories must never repeat a value.
    ``signer`` makes it a device: what is kept for ``token_key`` goes into ``start``, and each new
    token is told as `DeviceTokenIssued`, to be answered by ``token_stored``. ``trace`` is told of
    each message on the wire, without secrets (trace.py); it must not block. With ``hold_queue``
    what waited for a connection waits for ``resynced`` too. ``shared`` is a pool's.

    Raises `InvalidSettings` for a URL that cannot work, or not safely (policy.py). Call ``start``
    first.
    """

    def __init__(
        self,
        url: str | Endpoint,
        settings: Settings | None = None,
        *,
        random: Callable[[], float],
        entropy: Callable[[int], bytes],
        next_transport_id: Callable[[], int] | None = None,
        next_request_id: Callable[[], str] | None = None,
        signer: Signer | None = None,
        trace: Trace | None = None,
        hold_queue: bool = False,
        shared: Shared | None = None,
    ) -> None:
        self._endpoint, settings = with_token_of(url, settings)
        if signer is not None and settings.dialect is Dialect.OPENBUTTER_V1:
            raise InvalidSettings("the original dialect knows no devices")
        check_transport(self._endpoint, settings)
        self._settings = settings
        self._authenticator = Authenticator(settings, self._endpoint, signer)
        self._signed = SignedPayload.V3
        self._next_transport_id = next_transport_id or count(1).__next__
        self._counters = Counters()
        if shared is None:
            shared = alone(settings, next_request_id, hold_queue=hold_queue)
        self._standing, self._backlog = shared.standing, shared.backlog
        self._queue = EventQueue(shared.store, self._counters, shared.standing, shared.on_state)
        self._intake = Intake(settings, shared.ids, entropy, shared.store)
        self._recovery = Recovery(
            settings.reconnect,
            random,
            self._authenticator.identity,
            self._authenticator.keyring,
            self._queue,
            self._give_up_waiting,
        )
        self._around = Surroundings(
            settings,
            self._endpoint,
            random,
            entropy,
            shared.ids.take,
            self._queue,
            self._counters,
            self._authenticator.identity,
            signer,
            trace,
            shared.standing,
            shared.backlog,
            shared.window,
        )
        self._clock = shared.clock
        self._handled = -math.inf
        self._commands = shared.commands
        self._connections: dict[int, Connection] = {}
        self._current: Connection | None = None
        self._finished = False
        self._stopping = False
        self._hello: events.Hello | None = None

    # --- state ------------------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """Where the gateway is; its text form shows no secret."""
        return self._endpoint

    @property
    def max_event_bytes(self) -> int:
        """The bound of gateway events not yet pulled, and of what an adapter keeps of them."""
        return self._settings.limits.max_event_bytes

    @property
    def token_key(self) -> TokenKey | None:
        """Under which its device token is kept; None without a device."""
        return self._authenticator.token_key

    @property
    def proxy(self) -> ProxyAddress | None:
        """What is dialled instead of the gateway; None for loopback (lesson 28)."""
        return proxy_to(self._endpoint, self._settings)

    @property
    def state(self) -> State:
        """Where the connector is."""
        return STATE_AFTER[self._queue.last_state_event]

    @property
    def retry_at(self) -> float | None:
        """When the next attempt begins; None where none is planned."""
        return self._recovery.retry_at

    @property
    def finished(self) -> bool:
        """True once Stopped was queued."""
        return self._finished

    @property
    def last_ending(self) -> Ending | None:
        """How the last connection ended, if one did."""
        return self._recovery.last_ending

    @property
    def stats(self) -> Stats:
        """The counters as they are now."""
        return self._counters.snapshot()

    # --- the application's inputs -----------------------------------------------------------

    def start(
        self,
        now: float,
        *,
        device_token: DeviceToken | None = None,
        signed: SignedPayload = SignedPayload.V3,
    ) -> None:
        """Begin the first attempt. Raises `LocalProtocolError` when called twice.

        ``device_token`` is the one that is kept for ``token_key``. ``signed`` is what a device
        signs in this attempt, and in no other.
        """
        if self.state is not State.IDLE or self._stopping:
            raise LocalProtocolError("start or stop was called before")
        if device_token is not None:
            self._authenticator.begin_with(device_token)
        self._signed = signed
        self._attempt(self._clock.advance(now))

    def stop(self, now: float, *, abort: bool = False) -> None:
        """Give every request its outcome, close, and reach Stopped.

        With a Close frame that takes ``timeouts.close`` at most; ``abort=True`` ends at once.
        May be called again, to abort.
        """
        now = self._clock.advance(now)
        if self._finished:
            return
        self._stopping = True
        self._recovery.stop()
        self._give_up_waiting(Ending(EndKind.STOPPED))
        for transport_id, connection in list(self._connections.items()):
            connection.stop(now, abort=abort)
            self._settle(transport_id, connection)
        self._finish()

    def request(
        self, method: str, params: Any = None, *, now: float, **options: Unpack[RequestOptions]
    ) -> str:
        """Send a request and return its id; its one outcome comes as an event.

        `RequestOptions` says what may be asked for. Raises `NotOnline`, `PendingFull`,
        `MessageTooLarge` or `InvalidParams`; then nothing was accepted. Pull bytes and events.
        """
        connection = self._current
        if connection is None or connection.phase is not Phase.ONLINE:
            offline = options.get("offline", Offline.FAIL)
            if offline is Offline.FAIL or not self.has_hope:
                raise NotOnline(f"{method} was not sent: not connected to {self._endpoint}")
        request = self._intake.make(
            method,
            params,
            self._clock.look(now),
            self.pending_bytes + self._backlog.bytes,
            gateway=None,  # so that nobody else can name one
            **options,
        )
        connection = self._checked(request)
        self._intake.accept(request)
        self._take(request, connection, now)
        return request.id

    def cancel(self, request_id: str, now: float) -> Delivery | None:
        """Take a request back.

        Returns NOT_SENT or MAY_HAVE_EXECUTED (REFUSED where the gateway refused it, and it waited
        to be asked again), and no outcome will come; None where the outcome is already queued or
        the id is unknown.
        """
        now = self._clock.advance(now)
        delivery = self._backlog.cancel(request_id)
        if delivery is None and self._current is not None:
            delivery = self._current.cancel(request_id, now)
        if delivery is not None:
            self._queue.store.pending -= 1
        return delivery

    def probe(self, now: float) -> None:
        """Ask at once whether the gateway is there: after a wake-up or a change of network."""
        now = self._clock.advance(now)
        if self._current is not None:
            self._current.probe(now)

    def token_stored(self, transport_id: int, ok: bool, now: float) -> None:  # noqa: FBT001
        """Answer `DeviceTokenIssued`: the tokens are durable, or (``ok`` False) cannot be.

        Online follows at once; without this it follows after 5 s. Pull events.
        """
        now = self._clock.advance(now)
        self._authenticator.stored(transport_id, ok=ok)
        connection = self._connections.get(transport_id)
        if connection is not None:
            connection.token_stored(now, ok=ok)
            self._settle(transport_id, connection)

    def use_credentials(self, credentials: Credentials, now: float) -> None:
        """Connect with these from the next attempt on, and leave BLOCKED for it.

        A connection that is open stays. Raises `InvalidSettings` where they do not fit into a
        connect request; then nothing was changed. Pull everything.
        """
        self._authenticator.replace(credentials)
        now = self._clock.advance(now)
        if self.state is State.BLOCKED:
            self.reconnect_now(now)
        else:
            self._recovery.credentials_replaced(now)

    def token_forgotten(self, transport_id: int, newer: DeviceToken | None, now: float) -> None:
        """Answer `DeviceTokenRejected`: the token is forgotten, and ``newer`` is kept by now.

        Another program of the device may have been given one: it is worth one attempt. Without an
        answer it is decided after 5 s that there is none. Pull everything.
        """
        self._recovery.token_forgotten(transport_id, newer, self._clock.advance(now))

    def reconnect_now(self, now: float, signed: SignedPayload = SignedPayload.V3) -> None:
        """End a backoff, or leave BLOCKED; never sooner than a rate limit allows.

        While an attempt is under way, or online, it does nothing. ``signed`` is what a device signs
        in the attempt that this begins, and in no other. Pull everything.
        """
        now = self._clock.advance(now)
        state = self.state
        if self._stopping or state not in (State.WAITING, State.BLOCKED):
            return
        self._signed = signed
        self._recovery.bring_forward(now, gave_up=state is State.BLOCKED)
        if self._recovery.is_due(now):
            self._attempt(now)

    def resynced(self, transport_id: int, now: float) -> None:
        """Take note that the application has read its state again after this Online.

        With ``hold_queue=True`` the replays and the queue go out now, and not before. Pull bytes.
        """
        now = self._clock.advance(now)
        connection = self._current
        if connection is None or connection.phase is not Phase.ONLINE:
            return
        if connection.attempt.transport_id == transport_id:
            self._standing.held = False
            connection.take_from_backlog(now)

    def queued(self) -> tuple[QueuedRequest, ...]:
        """Return what waits for a connection with ``offline=QUEUE``, oldest first."""
        return self._backlog.queued()

    # --- for the pool -----------------------------------------------------------------------

    @property
    def has_hope(self) -> bool:
        """True where it is online, or will try to be without another word."""
        return not self._stopping and self.state is not State.BLOCKED

    @property
    def pending(self) -> int:
        """The requests on its connection: without an outcome, or with a place in flight."""
        return 0 if self._current is None else self._current.pending

    @property
    def pending_bytes(self) -> int:
        """The size of those that have no outcome."""
        return 0 if self._current is None else self._current.pending_bytes

    def next_due(self) -> float | None:
        """Return when something of its own is due, be that in the past; not the backlog's."""
        due = self._recovery.next_timeout()
        for connection in self._connections.values():
            one = connection.next_timeout()
            if one is not None and (due is None or one < due):
                due = one
        return due

    def holds(self, transport_id: int) -> bool:
        """Tell whether a transport is not closed yet."""
        return transport_id in self._connections

    def check_credentials(self, credentials: Credentials) -> None:
        """Raise `InvalidSettings` where ``use_credentials`` would."""
        self._authenticator.check(credentials)

    def check(self, request: PendingRequest) -> None:
        """Raise `MessageTooLarge` or `PendingFull` where ``take`` would have no place for it."""
        self._checked(request)

    def take(self, request: PendingRequest, now: float) -> None:
        """Take in a request that was made and accepted."""
        self._take(request, self._connection_for(request), now)

    def _checked(self, request: PendingRequest) -> Connection | None:
        """Return the connection that has a place for a request, None where it waits for one."""
        if self._hello is not None:
            check_size(self._hello, request.size)
        connection = self._connection_for(request)
        if connection is None:
            self._backlog.check_room(request.size)
        return connection

    def _take(self, request: PendingRequest, connection: Connection | None, now: float) -> None:
        now = self._clock.advance(now)
        if connection is None:
            self._backlog.add(request)
        else:
            connection.request(request, now)

    def look_at_backlog(self, now: float) -> None:
        """Send what waits and may go by now."""
        connection = self._current
        if connection is not None and connection.phase is Phase.ONLINE:
            connection.take_from_backlog(now)

    def _connection_for(self, request: PendingRequest) -> Connection | None:
        """Return the connection that takes a request at once; None: it waits."""
        connection = self._current
        if connection is None or connection.phase is not Phase.ONLINE:
            return None
        return None if request.queue and self._standing.held else connection

    # --- transport inputs -------------------------------------------------------------------

    def transport_opened(
        self, transport_id: int, now: float, certificate: bytes | None = None
    ) -> None:
        """Tell that a transport is open; pull everything.

        ``certificate`` is the peer's leaf (DER) after TLS. Without one that matches a pin, where
        there are pins, nothing is sent.
        """
        connection, now = self._begin(transport_id, now)
        if connection is not None:
            connection.opened(now, certificate)
            if self._endpoint.tls and connection.ending is None:
                self._recovery.on_certificate_accepted()
            self._settle(transport_id, connection)

    def receive_data(self, transport_id: int, data: bytes, now: float) -> None:
        """Hand over what was read; ``b""`` is the end of the stream. Pull everything."""
        self._receive(Framing.BYTES, transport_id, data, now)

    def receive_message(self, transport_id: int, message: str | bytes, now: float) -> None:
        """Hand over a message that the host's WebSocket read. Pull everything."""
        self._receive(Framing.MESSAGES, transport_id, HostMessage(message), now)

    def receive_pong(self, transport_id: int, payload: bytes, now: float) -> None:
        """Hand over a pong that it read. Pull everything."""
        self._receive(Framing.MESSAGES, transport_id, HostPong(payload), now)

    def transport_closed(
        self, transport_id: int, code: int | None, reason: str, now: float
    ) -> None:
        """Tell that the host's WebSocket is closed. Pull commands and events.

        ``code`` None or 1006 means: without a Close frame. Where it was never open this counts as
        ``transport_failed``, which can say more.
        """
        self._receive(Framing.MESSAGES, transport_id, HostClose(code, reason), now)

    def transport_failed(self, transport_id: int, fault: TransportFault, now: float) -> None:
        """Tell that a transport could not be opened, or broke. Pull commands and events."""
        connection, now = self._begin(transport_id, now)
        if connection is not None:
            connection.failed(fault, now)
            self._settle(transport_id, connection)

    def handle_timeout(self, now: float) -> None:
        """Let everything happen that is due. Pull everything."""
        now = self._clock.advance(now)
        self._queue.begin_input()
        due = self._next_due()
        if due is not None and now - due > _WORTH_TELLING:
            self._queue.put_notice(events.ClockLate(now - due))
        self._handled = now
        while due is not None and due <= now:
            if self._recovery.is_due(now):
                self._attempt(now)
            for transport_id, connection in list(self._connections.items()):
                connection.handle_timeout(now)
                self._settle(transport_id, connection)
            self._recovery.handle_timeout(now)
            self._backlog.handle_timeout(now)
            due = self._next_due()

    # --- outputs ----------------------------------------------------------------------------

    def next_command(self) -> Command | None:
        """Take the next command."""
        return self._commands.popleft() if self._commands else None

    def data_to_send(self, transport_id: int) -> bytes:
        """Take at most 64 KiB for the wire."""
        connection = self._connections.get(transport_id)
        return connection.data_to_send(self._clock.now) if connection is not None else b""

    def next_message(self, transport_id: int) -> Message | None:
        """Take the next message for a host that speaks WebSocket itself."""
        connection = self._connections.get(transport_id)
        return connection.next_message(self._clock.now) if connection is not None else None

    def next_event(self) -> events.Event | None:
        """Take the next event."""
        return self._queue.store.next()  # type: ignore[return-value]  # signed only in a pool

    def next_timeout(self) -> float | None:
        """Return when ``handle_timeout`` is next due."""
        due = self._next_due()
        return None if due is None else max(due, self._handled + TICK)

    # --- inside -----------------------------------------------------------------------------

    def _begin(self, transport_id: int, now: float) -> tuple[Connection | None, float]:
        self._queue.begin_input()
        return self._connections.get(transport_id), self._clock.advance(now)

    def _receive(self, framing: Framing, transport_id: int, inbound: Inbound, now: float) -> None:
        connection, now = self._begin(transport_id, now)
        if connection is not None and framing is self._settings.framing:
            connection.receive(inbound, now)
            self._settle(transport_id, connection)

    def _next_due(self) -> float | None:
        own, waiting = self.next_due(), self._backlog.next_timeout()
        if own is None or waiting is None:
            return waiting if own is None else own
        return min(own, waiting)

    def _attempt(self, now: float) -> None:
        """Begin an attempt, unless nobody reads what the last ones told."""
        store = self._queue.store
        if store.state_changes >= store.limits.max_state_changes:
            self._recovery.postpone(now)
            return
        number = self._recovery.begin_attempt()
        self._counters.attempts += 1
        transport_id = self._next_transport_id()
        attempt = self._authenticator.attempt(transport_id, self._signed, self._hello)
        self._signed = SignedPayload.V3
        self._current = self._connections[transport_id] = Connection(self._around, attempt, now)
        self._commands.append(dial(self._endpoint, self._settings, transport_id))
        self._queue.put(events.Connecting(number, transport_id))

    def _settle(self, transport_id: int, connection: Connection) -> None:
        """Draw the consequences of what an input did to a connection."""
        if connection is self._current:
            if connection.issued:
                self._authenticator.issued(transport_id, connection.take_issued())
            online = connection.online_since is not None
            if online and connection.hello is not self._hello:
                self._recovery.on_online(connection.attempt.auth)
                self._hello = connection.hello
            if connection.ending is not None and connection.cause is not None:
                self._on_ending(connection, connection.ending, connection.cause)
        if connection.closed and self._connections.pop(transport_id, None) is not None:
            self._commands.append(CloseTransport(transport_id))
            self._finish()

    def _on_ending(self, connection: Connection, ending: Ending, cause: Ending) -> None:
        self._current = None
        attempt = connection.attempt
        ended = Ended(attempt.transport_id, attempt.auth, ending, cause, connection.online_since)
        self._recovery.on_ending(ended, self._clock.now)

    def _give_up_waiting(self, ending: Ending) -> None:
        """Tell the outcome of what waits for a connection: none will come."""
        if self._standing.name is None:
            self._backlog.end(ending)
        else:
            self._backlog.forsake(self._standing.name, ending)

    def _finish(self) -> None:
        if self._stopping and not self._connections and not self._finished:
            self._finished = True
            self._queue.put(events.Stopped())
