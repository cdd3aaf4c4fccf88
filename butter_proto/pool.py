"""Pool: several gateways, or several connections to one, that serve as one. A Machine (machine.py).

Rules kept here:

* One gateway is primary: it delivers the events, and gets the requests that name no other. The
  others are warm; election.py chooses. Each has a connector of its own, with its own backoff,
  credentials and advice.
* Everything is told by one queue: what a gateway told as ``FromGateway(name, event)``, what the
  pool as a whole is by bare state events, and so are the outcomes of what no connection had.
* What waits for a connection waits in one backlog. In flight requests fail over by the replay rule
  (backlog.py); what has not left goes to the next primary, where its caller said QUEUE.
* Transport and request ids are unique over the pool. Several connections to one gateway share its
  places in flight: it counts them together (wire.md 8).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from typing import Any, Final, Unpack

from butter_proto import events
from butter_proto.attempt import Shared
from butter_proto.backlog import Backlog, QueuedRequest
from butter_proto.connector import Connector
from butter_proto.counters import Counters, added_up
from butter_proto.credentials import Credentials
from butter_proto.device import DeviceToken, TokenKey
from butter_proto.device_auth import SignedPayload
from butter_proto.election import EMPTY, POOL_FOLLOWERS, Election
from butter_proto.endpoint import Endpoint
from butter_proto.errors import (
    Delivery,
    Ending,
    EndKind,
    InvalidParams,
    InvalidSettings,
    LocalProtocolError,
    NotOnline,
    TransportFault,
)
from butter_proto.event_queue import EventQueue, EventStore
from butter_proto.intake import Draws, Intake
from butter_proto.machine import STATE_AFTER, Command, Message, State, Stats
from butter_proto.pool_gateway import GatewayHealth, Member, PoolGateway, named
from butter_proto.request_options import Offline, RequestOptions
from butter_proto.settings import Settings
from butter_proto.standing import Standing
from butter_proto.timers import TICK, Clock
from butter_proto.trace import Trace
from butter_proto.window import Window

DRAIN_LIMIT: Final = 30.0
"""Seconds that a gateway which is removed keeps its connection for the answers still due."""


class Pool:
    """Keeps several gateways connected, and serves as one.

    ``gateways`` are URLs or `PoolGateway`; ``settings`` hold for those that bring none of their
    own, and its limits for the pool as a whole. ``shared_state`` says that the gateways share what
    they know of idempotency keys, so that one may get what another one may have executed. The other
    arguments are those of `Connector`.

    Raises `InvalidSettings` for what cannot work. Call ``start`` first.
    """

    def __init__(
        self,
        gateways: Iterable[PoolGateway | str],
        settings: Settings | None = None,
        *,
        random: Callable[[], float],
        entropy: Callable[[int], bytes],
        next_transport_id: Callable[[], int] | None = None,
        next_request_id: Callable[[], str] | None = None,
        shared_state: bool = False,
        hold_queue: bool = False,
        trace: Trace | None = None,
    ) -> None:
        self._settings = settings or Settings()
        self._random = random
        self._entropy = entropy
        self._next_transport_id = next_transport_id or count(1).__next__
        self._ids = Draws(next_request_id or map(str, count(1)).__next__)
        self._hold_queue = hold_queue
        self._trace = trace
        self._clock = Clock()
        self._handled = -math.inf
        self._store = EventStore(self._settings.limits)
        self._queue = EventQueue(self._store, Counters(), followers=POOL_FOLLOWERS)
        self._backlog = Backlog(self._settings.limits, self._store.put, shared_state=shared_state)
        self._intake = Intake(self._settings, self._ids, entropy, self._store)
        self._members: dict[str, Member] = {}
        self._owners: dict[int, Member] = {}
        self._windows: dict[str, Window] = {}
        self._priorities: dict[str, int] = {}
        self._commands: deque[Command] = deque()
        stable_after = self._settings.reconnect.stable_after
        self._election = Election(self._members, self._queue, self._clock, stable_after)
        self._started = False
        self._finished = False
        self._changed = False
        self._left = Stats()
        for gateway in gateways:
            self._admit(gateway)

    # --- state ------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the pool is: ONLINE while there is a primary."""
        return STATE_AFTER[self._queue.last_state_event]

    @property
    def endpoint(self) -> Endpoint:
        """Where the primary is, or the first gateway while there is none."""
        member = self._election.primary or next(iter(self._members.values()), None)
        if member is None:
            raise NotOnline(EMPTY)
        return member.connector.endpoint

    @property
    def max_event_bytes(self) -> int:
        """The bound of gateway events not yet pulled, and of what an adapter keeps of them."""
        return self._settings.limits.max_event_bytes

    @property
    def primary(self) -> str | None:
        """The name of the gateway that delivers the events; None while nothing is online."""
        member = self._election.primary
        return None if member is None else member.name

    @property
    def retry_at(self) -> float | None:
        """When the next attempt of any gateway begins, while nothing is online."""
        if self.state is not State.WAITING:
            return None
        times = [member.connector.retry_at for member in self._members.values()]
        return min((time for time in times if time is not None), default=None)

    @property
    def finished(self) -> bool:
        """True once Stopped was queued."""
        return self._finished

    @property
    def last_ending(self) -> Ending | None:
        """How the last connection of any gateway ended, if one did."""
        return self._election.last_ending

    @property
    def stats(self) -> Stats:
        """The counters of all gateways added up; the round trips are the primary's."""
        primary = self._election.primary
        every = [self._left, *(member.connector.stats for member in self._members.values())]
        return added_up(every, Stats() if primary is None else primary.connector.stats)

    @property
    def token_keys(self) -> dict[str, TokenKey]:
        """Under which the device tokens of those gateways are kept where a device signs."""
        return {
            name: member.connector.token_key
            for name, member in self._members.items()
            if member.connector.token_key is not None
        }

    def health(self) -> tuple[GatewayHealth, ...]:
        """Tell how each gateway is, in the order in which they came in."""
        return tuple(member.health() for member in self._members.values())

    def queued(self) -> tuple[QueuedRequest, ...]:
        """Return what waits for a connection with ``offline=QUEUE``, oldest first."""
        return self._backlog.queued()

    # --- the application's inputs -----------------------------------------------------------

    def start(
        self, now: float, *, device_tokens: Mapping[str, DeviceToken | None] | None = None
    ) -> None:
        """Begin the first attempts, in a random order.

        Raises `LocalProtocolError` when called twice. ``device_tokens`` are those that are kept
        for ``token_keys``, by the gateways' names.
        """
        if self._started or self._election.stopping:
            raise LocalProtocolError("start or stop was called before")
        now = self._clock.advance(now)
        self._started = True
        kept = device_tokens or {}
        waiting = [*self._members.values()]
        while waiting:  # shuffled, so that the first one does not take the herd (lesson 35)
            member = waiting.pop(int(self._random() * len(waiting)) % len(waiting))
            member.connector.start(now, device_token=kept.get(member.name))
        self._election.on_left()
        self._end_input()

    def stop(self, now: float, *, abort: bool = False) -> None:
        """Give every request its outcome, close all connections, and reach Stopped.

        As `Connector.stop`. Pull everything.
        """
        now = self._clock.advance(now)
        if self._finished:
            return
        self._election.stopping = True
        self._backlog.end(Ending(EndKind.STOPPED))
        for member in [*self._members.values()]:
            member.connector.stop(now, abort=abort)
        self._end_input()

    def add(
        self, gateway: PoolGateway | str, now: float, *, device_token: DeviceToken | None = None
    ) -> str:
        """Take one more gateway in, and return its name. Pull everything.

        Raises `InvalidSettings`, and `LocalProtocolError` once the pool was stopped.
        """
        if self._election.stopping:
            raise LocalProtocolError("the pool was stopped")
        member = self._admit(gateway)
        if self._started:
            member.connector.start(self._clock.advance(now), device_token=device_token)
            self._end_input()
        return member.name

    def remove(self, name: str, now: float, *, drain: float = DRAIN_LIMIT) -> None:
        """Let a gateway go, drained: it gets no more requests.

        Its connection ends when all that it has are answered, at the latest after ``drain`` seconds
        (0 or more). Where it is primary another one takes over at once, if one is online. Its
        ``Stopped`` is the last that is told of it. Pull everything.

        Raises `InvalidParams` for an unknown name.
        """
        member = self._member(name)
        if not drain >= 0:
            raise InvalidParams(f"drain must be seconds, 0 or more: {drain!r}")
        now = self._clock.advance(now)
        if member.is_leaving:
            return
        member.is_leaving, member.leaves_at = True, now + drain
        if member is self._election.primary:
            self._election.hand_over()
        if not self._started:
            self._forget(member)
        self._end_input()

    def request(
        self,
        method: str,
        params: Any = None,
        *,
        now: float,
        gateway: str | None = None,
        spread: bool = False,
        **options: Unpack[RequestOptions],
    ) -> str:
        """Send a request and return its id; its one outcome comes as an event.

        It goes to the primary; to the one that ``gateway`` names and to no other; or with
        ``spread=True`` to the one that is online with the fewest in flight.

        `RequestOptions` says what else may be asked for. Raises `NotOnline`, `PendingFull`,
        `MessageTooLarge` or `InvalidParams`; then nothing was accepted. Pull bytes and events.
        """
        member = self._target(gateway, spread=spread)
        if member is None:
            offline = options.get("offline", Offline.FAIL)
            if offline is Offline.FAIL or not self._has_hope(gateway):
                whom = "any gateway" if gateway is None else f"the gateway {gateway!r}"
                raise NotOnline(f"{method} was not sent: not connected to {whom}")
        members = self._members.values()
        pending = sum(one.connector.pending_bytes for one in members) + self._backlog.bytes
        request = self._intake.make(
            method, params, self._clock.look(now), pending, gateway=gateway, **options
        )
        if member is None:
            self._backlog.check_room(request.size)
        else:
            member.connector.check(request)
        self._intake.accept(request)
        now = self._clock.advance(now)
        if member is None:
            self._backlog.add(request)
        else:
            member.connector.take(request, now)
        return request.id

    def cancel(self, request_id: str, now: float) -> Delivery | None:
        """Take a request back; as `Connector.cancel`."""
        now = self._clock.advance(now)
        delivery = self._backlog.cancel(request_id)
        if delivery is not None:
            self._store.pending -= 1
            return delivery
        cancelled = (one.connector.cancel(request_id, now) for one in self._members.values())
        return next((delivery for delivery in cancelled if delivery is not None), None)

    def resynced(self, transport_id: int, now: float) -> None:
        """Take note that the application has read its state again after this Online.

        As `Connector.resynced`, for the pool's own ``Online``. Pull bytes.
        """
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.resynced(transport_id, now)
            self._end_input()

    def probe(self, now: float, *, gateway: str | None = None) -> None:
        """Ask all gateways at once, or one, whether they are there."""
        now = self._clock.advance(now)
        for member in self._these(gateway):
            member.connector.probe(now)

    def reconnect_now(
        self,
        now: float,
        signed: SignedPayload = SignedPayload.V3,
        *,
        gateway: str | None = None,
    ) -> None:
        """End the backoff of all gateways, or of one; as `Connector.reconnect_now`."""
        now = self._clock.advance(now)
        for member in self._these(gateway):
            member.connector.reconnect_now(now, signed)
        self._end_input()

    def use_credentials(
        self, credentials: Credentials, now: float, *, gateway: str | None = None
    ) -> None:
        """Connect all gateways, or one, with these from the next attempt on.

        As `Connector.use_credentials`; where one of them refuses them, none has changed.
        """
        members = self._these(gateway)
        for member in members:
            member.connector.check_credentials(credentials)
        now = self._clock.advance(now)
        for member in members:
            member.connector.use_credentials(credentials, now)
        self._end_input()

    def token_stored(self, transport_id: int, ok: bool, now: float) -> None:  # noqa: FBT001
        """Answer `DeviceTokenIssued`; as `Connector.token_stored`."""
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.token_stored(transport_id, ok, now)
            self._end_input()

    def token_forgotten(self, transport_id: int, newer: DeviceToken | None, now: float) -> None:
        """Answer `DeviceTokenRejected`; as `Connector.token_forgotten`."""
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.token_forgotten(transport_id, newer, now)
            self._end_input()

    # --- transport inputs -------------------------------------------------------------------

    def transport_opened(
        self, transport_id: int, now: float, certificate: bytes | None = None
    ) -> None:
        """Tell that a transport is open; pull everything."""
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.transport_opened(transport_id, now, certificate)
            self._end_input()

    def receive_data(self, transport_id: int, data: bytes, now: float) -> None:
        """Hand over what was read; ``b""`` is the end of the stream. Pull everything."""
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.receive_data(transport_id, data, now)
            self._end_input()

    def receive_message(self, transport_id: int, message: str | bytes, now: float) -> None:
        """Hand over a message that the host's WebSocket read. Pull everything."""
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.receive_message(transport_id, message, now)
            self._end_input()

    def receive_pong(self, transport_id: int, payload: bytes, now: float) -> None:
        """Hand over a pong that it read. Pull everything."""
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.receive_pong(transport_id, payload, now)
            self._end_input()

    def transport_closed(
        self, transport_id: int, code: int | None, reason: str, now: float
    ) -> None:
        """Tell that the host's WebSocket is closed. Pull everything."""
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.transport_closed(transport_id, code, reason, now)
            self._end_input()

    def transport_failed(self, transport_id: int, fault: TransportFault, now: float) -> None:
        """Tell that a transport could not be opened, or broke. Pull everything."""
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.transport_failed(transport_id, fault, now)
            self._end_input()

    def handle_timeout(self, now: float) -> None:
        """Let everything happen that is due. Pull everything."""
        now = self._clock.advance(now)
        due = self._next_due()
        self._handled = now
        while due is not None and due <= now:
            for member in [*self._members.values()]:
                timeout = member.connector.next_timeout()
                if timeout is not None and timeout <= now:
                    member.connector.handle_timeout(now)
            self._backlog.handle_timeout(now)
            self._election.handle_timeout(now)
            for member in self._leaving:
                if member.leaves_at <= now:
                    self._let_go(member)
            self._end_input()
            due = self._next_due()

    # --- outputs ----------------------------------------------------------------------------

    def next_command(self) -> Command | None:
        """Take the next command."""
        return self._commands.popleft() if self._commands else None

    def data_to_send(self, transport_id: int) -> bytes:
        """Take at most 64 KiB for the wire."""
        member = self._owners.get(transport_id)
        return b"" if member is None else member.connector.data_to_send(transport_id)

    def next_message(self, transport_id: int) -> Message | None:
        """Take the next message for a host that speaks WebSocket itself."""
        member = self._owners.get(transport_id)
        return None if member is None else member.connector.next_message(transport_id)

    def next_event(self) -> events.PoolEvent | None:
        """Take the next event."""
        return self._store.next()

    def next_timeout(self) -> float | None:
        """Return when ``handle_timeout`` is next due."""
        due = self._next_due()
        return None if due is None else max(due, self._handled + TICK)

    # --- who it is about --------------------------------------------------------------------

    def _begin(self, transport_id: int, now: float) -> tuple[Connector | None, float]:
        member = self._owners.get(transport_id)
        return None if member is None else member.connector, self._clock.advance(now)

    def _member(self, name: str) -> Member:
        member = self._members.get(name)
        if member is None:
            known = ", ".join(self._members)
            raise InvalidParams(f"the pool has no gateway {name!r}; it has {known}")
        return member

    def _these(self, gateway: str | None) -> list[Member]:
        return [*self._members.values()] if gateway is None else [self._member(gateway)]

    def _target(self, gateway: str | None, *, spread: bool) -> Member | None:
        """Return who gets a request now; None: nobody is there."""
        if gateway is not None and spread:
            raise InvalidParams("a request goes to one gateway by name or is spread, not both")
        if gateway is not None:
            members = [self._member(gateway)]
        elif spread or self._election.primary is None:
            members = [*self._members.values()]
        else:
            members = [self._election.primary]
        return min(
            (one for one in members if one.online_since is not None and not one.is_leaving),
            key=lambda one: one.connector.pending,
            default=None,
        )

    def _has_hope(self, gateway: str | None) -> bool:
        """Tell whether somebody may come who takes a request."""
        return any(one.connector.has_hope and not one.is_leaving for one in self._these(gateway))

    # --- coming and going -------------------------------------------------------------------

    def _admit(self, gateway: PoolGateway | str) -> Member:
        if isinstance(gateway, str):
            gateway = PoolGateway(gateway)
        settings = gateway.settings_in(self._settings)
        if settings.json_rpc is not self._settings.json_rpc:
            raise InvalidSettings("all gateways of a pool speak JSON-RPC, or none")
        name = named(gateway, self._members)
        origin = gateway.endpoint.origin
        priority = gateway.priority
        if priority is None:
            priority = self._priorities.get(origin, len(self._priorities))
        standing = Standing(name, self._hold_queue, primary=False)
        member = Member(name, priority, standing)
        window = self._windows.get(origin) or Window(self._settings.limits.max_in_flight)
        member.connector = Connector(
            gateway.url,
            settings,
            random=self._random,
            entropy=self._entropy,
            next_transport_id=partial(self._new_transport, member),
            signer=None if gateway.device is None else gateway.device.signer,
            trace=self._trace,
            shared=Shared(
                standing,
                self._store,
                partial(self._on_state, member),
                self._ids,
                self._backlog,
                window,
                self._commands,
            ),
        )
        self._windows[origin] = window
        self._priorities.setdefault(origin, priority)
        self._members[name] = member
        return member

    def _new_transport(self, member: Member) -> int:
        transport_id = self._next_transport_id()
        if len(member.transports) == member.transports.maxlen:
            del self._owners[member.transports[0]]
        member.transports.append(transport_id)
        self._owners[transport_id] = member
        return transport_id

    def _let_go(self, member: Member) -> None:
        """End the connection of one that leaves, for good."""
        member.leaves_at = math.inf
        member.connector.stop(self._clock.now)

    def _forget(self, member: Member) -> None:
        del self._members[member.name]
        for transport_id in member.transports:
            del self._owners[transport_id]
        self._left = added_up([self._left, member.connector.stats], self._left)
        self._election.on_left()

    @property
    def _leaving(self) -> list[Member]:
        return [member for member in self._members.values() if member.is_leaving]

    # --- inside -----------------------------------------------------------------------------

    def _on_state(self, member: Member, event: events.StateEvent) -> None:
        """Take note of a state event of one gateway, in the middle of its input."""
        self._changed = True
        self._election.on_state(member, event)

    def _next_due(self) -> float | None:
        dues = [member.connector.next_timeout() for member in self._members.values()]
        dues += [member.leaves_at for member in self._leaving]
        dues += [self._election.next_timeout(), self._backlog.next_timeout()]
        return min((due for due in dues if due is not None and due < math.inf), default=None)

    def _end_input(self) -> None:
        """Draw the consequences that an input at one gateway has for the others."""
        for member in self._leaving:
            if member.leaves_at < math.inf and member.connector.pending_bytes == 0:
                self._let_go(member)
        if not self._changed:
            return
        self._changed = False
        for member in [*self._members.values()]:
            if member.connector.finished:
                self._forget(member)
        primary = self._election.primary
        if primary is not None:
            primary.connector.look_at_backlog(self._clock.now)
        for member in self._members.values():
            member.connector.look_at_backlog(self._clock.now)
        if self._election.stopping and not self._members and not self._finished:
            self._finished = True
            self._queue.put(events.Stopped())
