"""Connector: one gateway over many sockets. A Machine (machine.py).

Rules kept here:

* One supervisor owns every connect, the first included; it has one current connection, and
  others only while their Close frames are under way.
* ``reconnect.decide`` says what an ending means; this file only carries it out.
* Each OpenTransport is followed by exactly one CloseTransport with its id (G8).
* Everything the application is told goes through one bounded queue (event_queue.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final, Unpack

import attrs

from butter_proto import events
from butter_proto.backlog import Backlog, QueuedRequest
from butter_proto.connection import (
    STORING_LIMIT,
    Attempt,
    Connection,
    Phase,
    Surroundings,
    check_size,
)
from butter_proto.counters import Counters
from butter_proto.credentials import (
    DEVICE_TOKEN_MISMATCH,
    Auth,
    Credentials,
    Keyring,
    Source,
)
from butter_proto.device import DeviceToken, TokenKey
from butter_proto.device_auth import SignedPayload, Signer, device_id, public_key_of
from butter_proto.endpoint import Endpoint, Reach, parse_url, without_zone
from butter_proto.errors import (
    Delivery,
    Ending,
    EndKind,
    InvalidSettings,
    LocalProtocolError,
    NotOnline,
    TransportFault,
)
from butter_proto.event_queue import EventQueue, EventStore
from butter_proto.handshake import check_connect_size
from butter_proto.intake import Draws, Intake
from butter_proto.link import HostClose, HostMessage, HostPong, Inbound
from butter_proto.machine import (
    STATE_AFTER,
    CloseTransport,
    Command,
    Message,
    OpenTransport,
    State,
    Stats,
)
from butter_proto.policy import check_transport
from butter_proto.proxy_address import ProxyAddress
from butter_proto.reconnect import Action
from butter_proto.request_options import Offline, RequestOptions
from butter_proto.requests import PendingRequest, Window
from butter_proto.secret import Secret
from butter_proto.settings import Dialect, Framing, Settings
from butter_proto.standing import Standing
from butter_proto.supervisor import Supervisor, pairing_of
from butter_proto.timers import TICK, Clock
from butter_proto.trace import Trace

_UNANSWERED: Final = 8
"""Transports whose device tokens may still be told to be stored."""
_HELD_BACK: Final = 1.0
"""Seconds until an attempt that was held back is looked at again."""
_WORTH_TELLING: Final = 1.0
"""Seconds of lateness above which `ClockLate` is told."""


@attrs.frozen
class Shared:
    """What a connector shares with the other ones of its pool."""

    standing: Standing
    store: EventStore
    on_state: Callable[[events.StateEvent], None]
    ids: Draws
    backlog: Backlog
    window: Window
    """For all connections to one gateway."""


@attrs.frozen
class _Undecided:
    """An ending whose consequences wait: another device token may be found for it."""

    transport_id: int
    ending: Ending
    cause: Ending
    online_since: float | None
    decide_by: float


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
        settings = settings or Settings()
        if isinstance(url, str):
            self._endpoint, token = parse_url(url)
            if token is not None and settings.token is None:
                settings = attrs.evolve(settings, token=token)
        else:
            self._endpoint = url
        if signer is not None and settings.dialect is Dialect.OPENBUTTER_V1:
            raise InvalidSettings("the original dialect knows no devices")
        check_transport(self._endpoint, settings)
        self._settings = settings
        self._identity = settings.identity_for(device=signer is not None)
        self._keyring = Keyring(
            settings.credentials,
            role=None if signer is None else self._identity.role,
            trusted=self._endpoint.reach is Reach.LOOPBACK or bool(settings.pins),
        )
        self._token_key = None if signer is None else self._token_key_of(signer)
        self._check_connect_size(settings.credentials)
        self._signed = SignedPayload.V3
        self._supervisor = Supervisor(settings.reconnect, random)
        self._next_transport_id = next_transport_id or count(1).__next__
        self._counters = Counters()
        if shared is None:
            store = EventStore(settings.limits)
            ids = Draws(next_request_id or map(str, count(1)).__next__)
            standing = Standing(hold_queue=hold_queue)
            self._queue = EventQueue(store, self._counters)
            self._backlog = Backlog(settings.limits, self._queue.put)
            window = Window(settings.limits.max_in_flight)
        else:
            store, ids, standing = shared.store, shared.ids, shared.standing
            self._queue = EventQueue(store, self._counters, standing, shared.on_state)
            self._backlog, window = shared.backlog, shared.window
        self._intake = Intake(settings, ids, entropy, store)
        self._standing = standing
        self._around = Surroundings(
            settings,
            self._endpoint,
            random,
            entropy,
            ids.take,
            self._queue,
            self._counters,
            self._identity,
            signer,
            trace,
            standing,
            self._backlog,
            window,
        )
        self._clock = Clock()
        self._handled = -math.inf
        self._commands: deque[Command] = deque()
        self._connections: dict[int, Connection] = {}
        self._current: Connection | None = None
        self._finished = False
        self._stopping = False
        self._retry_at: float | None = None
        self._hello: events.Hello | None = None
        self._last_ending: Ending | None = None
        self._to_be_stored: dict[int, Mapping[str, DeviceToken]] = {}
        self._undecided: _Undecided | None = None

    # --- state ------------------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """Where the gateway is; its text form shows no secret."""
        return self._endpoint

    @property
    def token_key(self) -> TokenKey | None:
        """Under which its device token is kept; None without a device."""
        return self._token_key

    @property
    def proxy(self) -> ProxyAddress | None:
        """What is dialled instead of the gateway; None for loopback (lesson 28)."""
        return None if self._endpoint.reach is Reach.LOOPBACK else self._settings.proxy

    @property
    def state(self) -> State:
        """Where the connector is."""
        return STATE_AFTER[self._queue.last_state_event]

    @property
    def retry_at(self) -> float | None:
        """When the next attempt begins; None where none is planned."""
        return self._retry_at

    @property
    def finished(self) -> bool:
        """True once Stopped was queued."""
        return self._finished

    @property
    def last_ending(self) -> Ending | None:
        """How the last connection ended, if one did."""
        return self._last_ending

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
            kept = {self._identity.role: device_token}
            self._keyring.issued(kept)
            self._keyring.stored(kept)
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
        self._give_up_waiting(Ending(EndKind.STOPPED))
        self._retry_at = None
        self._undecided = None
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
        offline = options.get("offline", Offline.FAIL)
        if self.state is not State.ONLINE and (offline is Offline.FAIL or not self.has_hope):
            raise NotOnline(f"{method} was not sent: not connected to {self._endpoint}")
        bytes_pending = self.pending_bytes + self._backlog.bytes
        request = self._intake.make(method, params, self._clock.look(now), bytes_pending, **options)
        self.check(request)
        self._intake.accept(request)
        self.take(request, now)
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
        tokens = self._to_be_stored.pop(transport_id, {})
        if ok:
            self._keyring.stored(tokens)
        connection = self._connections.get(transport_id)
        if connection is not None:
            connection.token_stored(now, ok=ok)
            self._settle(transport_id, connection)

    def use_credentials(self, credentials: Credentials, now: float) -> None:
        """Connect with these from the next attempt on, and leave BLOCKED for it.

        A connection that is open stays. Raises `InvalidSettings` where they do not fit into a
        connect request; then nothing was changed. Pull everything.
        """
        self._check_connect_size(credentials)
        now = self._clock.advance(now)
        self._keyring.replace(credentials)
        if self._undecided is not None and self._keyring.has_untried:
            self._decide_on(self._undecided, can_repair=True)
        elif self.state is State.BLOCKED:
            self.reconnect_now(now)

    def token_forgotten(self, transport_id: int, newer: DeviceToken | None, now: float) -> None:
        """Answer `DeviceTokenRejected`: the token is forgotten, and ``newer`` is kept by now.

        Another program of the device may have been given one: it is worth one attempt. Without an
        answer it is decided after 5 s that there is none. Pull everything.
        """
        now = self._clock.advance(now)
        found = newer is not None and self._keyring.found(newer)
        if self._undecided is not None and self._undecided.transport_id == transport_id:
            self._decide_on(self._undecided, can_repair=found)

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
        if state is State.BLOCKED:
            self._supervisor.start_over()
            self._keyring.forgive()
        self._retry_at = self._supervisor.earliest(now)
        if self._retry_at <= now:
            self._attempt(now)
        elif state is State.BLOCKED and self._last_ending is not None:
            attempt = self._supervisor.next_attempt
            self._queue.put(events.Retrying(self._last_ending, attempt, self._retry_at - now))

    def resynced(self, transport_id: int, now: float) -> None:
        """Take note that the application has read its state again after this Online.

        With ``hold_queue=True`` the replays and the queue go out now, and not before. Pull bytes.
        """
        now = self._clock.advance(now)
        connection = self._current
        if connection is not None and connection.attempt.transport_id == transport_id:
            self._standing.held = False
            self.look_at_backlog(now)

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

    def check(self, request: PendingRequest) -> None:
        """Raise `MessageTooLarge` or `PendingFull` where ``take`` would have no place for it."""
        if self._hello is not None:
            check_size(self._hello, request.size)
        if self._connection_for(request) is None:
            self._backlog.check_room(request.size)

    def take(self, request: PendingRequest, now: float) -> None:
        """Take in a request that was made and accepted."""
        now = self._clock.advance(now)
        connection = self._connection_for(request)
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
                self._supervisor.on_certificate_accepted()
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
            if self._retry_at is not None and self._retry_at <= now:
                self._attempt(now)
            for transport_id, connection in list(self._connections.items()):
                connection.handle_timeout(now)
                self._settle(transport_id, connection)
            if self._undecided is not None and self._undecided.decide_by <= now:
                self._decide_on(self._undecided)
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
        return self._queue.next()

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
        due = self._retry_at if self._undecided is None else self._undecided.decide_by
        dues = [due, self._backlog.next_timeout()]
        dues += [connection.next_timeout() for connection in self._connections.values()]
        return min((due for due in dues if due is not None), default=None)

    def _attempt(self, now: float) -> None:
        """Begin an attempt, unless nobody reads what the last ones told."""
        if self._queue.store.state_changes >= self._settings.limits.max_state_changes:
            self._retry_at = now + _HELD_BACK
            return
        self._retry_at = None
        self._counters.attempts += 1
        transport_id = self._next_transport_id()
        attempt = Attempt(
            transport_id,
            self._keyring.choose(self._identity.scopes),
            self._signed,
            self._keyring.durable,
            (*self._settings.secrets, *self._keyring.secrets),
            self._hello,
        )
        self._signed = SignedPayload.V3
        self._current = self._connections[transport_id] = Connection(self._around, attempt, now)
        endpoint, proxy = self._endpoint, self.proxy
        self._commands.append(
            OpenTransport(
                transport_id,
                endpoint.dial_host if proxy is None else without_zone(endpoint.host),
                endpoint.port,
                endpoint.tls,
                endpoint.server_name,
                proxy,
                self._settings.framing,
                endpoint.url,
                pinned=bool(self._settings.pins),
            )
        )
        self._queue.put(events.Connecting(self._supervisor.next_attempt, transport_id))

    def _settle(self, transport_id: int, connection: Connection) -> None:
        """Draw the consequences of what an input did to a connection."""
        if connection is self._current:
            if connection.issued:
                self._take_over(transport_id, connection)
            online = connection.online_since is not None
            if online and connection.hello is not self._hello:
                self._supervisor.on_online()
                self._keyring.accepted(connection.attempt.auth)
                self._hello = connection.hello
            if connection.ending is not None and connection.cause is not None:
                self._on_ending(connection, connection.ending, connection.cause)
        if connection.closed and self._connections.pop(transport_id, None) is not None:
            self._commands.append(CloseTransport(transport_id))
            self._finish()

    def _on_ending(self, connection: Connection, ending: Ending, cause: Ending) -> None:
        self._current = None
        self._last_ending = ending
        undecided = _Undecided(
            connection.attempt.transport_id,
            ending,
            cause,
            connection.online_since,
            self._clock.now + STORING_LIMIT,
        )
        if cause.error is None:
            self._decide_on(undecided)
            return
        auth, code = connection.attempt.auth, cause.error.detail_code
        can_repair = self._keyring.refused(auth, code)
        if code == DEVICE_TOKEN_MISMATCH and auth.source is Source.DEVICE:
            self._tell_rejected(undecided, auth.fields["deviceToken"])
            if not can_repair and not self._stopping:
                self._undecided = undecided
                return
        self._decide_on(undecided, can_repair=can_repair)

    def _tell_rejected(self, refused: _Undecided, token: Secret) -> None:
        role = self._identity.role
        notice = events.DeviceTokenRejected(refused.transport_id, role, token, refused.ending)
        self._queue.put_notice(notice)

    def _decide_on(self, ended: _Undecided, *, can_repair: bool = False) -> None:
        """Decide what follows an ending, and tell it."""
        now = self._clock.now
        self._undecided = None
        decision = self._supervisor.on_ending(
            ended.cause, now, ended.online_since, told=ended.ending, can_repair=can_repair
        )
        if self._stopping:
            return
        if self._supervisor.is_new_pairing(ended.cause):
            self._queue.put_notice(pairing_of(ended.ending))
        if decision.action is Action.STOP:
            self._give_up_waiting(ended.ending)
            self._queue.put(events.GaveUp(ended.ending, decision.advice))
        else:
            self._retry_at = now + decision.delay
            attempt = self._supervisor.next_attempt
            self._queue.put(events.Retrying(ended.ending, attempt, decision.delay))

    def _take_over(self, transport_id: int, connection: Connection) -> None:
        """Use the device tokens that came with a hello, and remember what is to be stored."""
        tokens = connection.take_issued()
        self._keyring.issued(tokens)
        self._to_be_stored[transport_id] = tokens
        while len(self._to_be_stored) > _UNANSWERED:
            del self._to_be_stored[next(iter(self._to_be_stored))]

    def _give_up_waiting(self, ending: Ending) -> None:
        """Tell the outcome of what waits for a connection: none will come."""
        if self._standing.name is None:
            self._backlog.end(ending)
        else:
            self._backlog.forsake(self._standing.name, ending)

    def _token_key_of(self, signer: Signer) -> TokenKey:
        device = device_id(public_key_of(signer))
        return TokenKey(self._endpoint.origin, device, self._identity.id, self._identity.role)

    def _check_connect_size(self, credentials: Credentials) -> None:
        """Raise `InvalidSettings` where all of them together would not fit."""
        named = {"token": credentials.token, "password": credentials.password}
        named["bootstrapToken"] = credentials.bootstrap_token
        fields = {name: secret for name, secret in named.items() if secret is not None}
        auth = Auth(Source.SHARED, fields, self._identity.scopes)
        is_device = self._token_key is not None
        check_connect_size(self._settings.dialect, self._identity, auth, device=is_device)

    def _finish(self) -> None:
        if self._stopping and not self._connections and not self._finished:
            self._finished = True
            self._queue.put(events.Stopped())
