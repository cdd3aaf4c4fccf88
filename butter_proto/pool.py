"""Pool: several gateways, or several connections to one, that serve as one. A Machine (machine.py).

Rules kept here:

* Each gateway has a connector of its own, with its own backoff, credentials and advice. One is
  primary: it delivers the events (election.py), and gets the requests that name no other
  (routing.py). The others are warm.
* Everything is told by one queue: what a gateway told as ``FromGateway(name, event)``, what the
  pool as a whole is by bare state events, and so are the outcomes of what no connection had.
* What waits for a connection waits in one backlog. In flight requests fail over by the replay rule
  (backlog.py); what has not left goes to the next primary, where its caller said QUEUE.
* Transport and request ids are unique over the pool, and all of it has one clock.
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
from butter_proto.counters import Counters
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
    LocalProtocolError,
    NotOnline,
    TransportFault,
)
from butter_proto.event_queue import EventQueue, EventStore
from butter_proto.intake import Draws, Intake
from butter_proto.machine import STATE_AFTER, Command, Message, State, Stats
from butter_proto.membership import Membership
from butter_proto.pool_gateway import GatewayHealth, Member, PoolGateway
from butter_proto.request_options import RequestOptions
from butter_proto.routing import Routing
from butter_proto.settings import MONTH, Settings
from butter_proto.timers import TICK, Clock
from butter_proto.trace import Trace

DRAIN_LIMIT: Final = 30.0
"""Seconds that a gateway which is removed keeps its connection for the answers still due."""


class Pool:
    """Keeps several gateways connected, and serves as one.

    ``gateways`` are URLs or `PoolGateway`. ``settings`` hold for those that bring none of their
    own, and for what belongs to the pool as a whole: the limits of requests and of what waits to be
    pulled, the deadline of a request, ``reconnect.stable_after`` before a better gateway takes
    over. ``shared_state`` says that the gateways share what they know of idempotency keys, so that
    one may get what another one may have executed. The other arguments are those of `Connector`.

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
        settings = settings or Settings()
        self._random = random
        self._entropy = entropy
        self._trace = trace
        self._clock = Clock()
        self._handled = -math.inf
        self._ids = Draws(next_request_id or map(str, count(1)).__next__)
        self._commands: deque[Command] = deque()
        self._store = EventStore(settings.limits)
        self._queue = EventQueue(self._store, Counters(), followers=POOL_FOLLOWERS)
        self._backlog = Backlog(settings.limits, self._store.put, shared_state=shared_state)
        self._membership = Membership(
            settings,
            self._connector_of,
            next_transport_id or count(1).__next__,
            hold_queue=hold_queue,
        )
        self._members: Mapping[str, Member] = self._membership.members
        self._election = Election(
            self._members,
            self._queue,
            self._clock,
            settings.reconnect.stable_after,
            self._backlog.end,
        )
        intake = Intake(settings, self._ids, entropy, self._store)
        self._routing = Routing(
            self._membership, self._election, self._backlog, intake, self._store, self._clock
        )
        self._started = False
        self._stopping = False
        self._finished = False
        for gateway in gateways:
            self._membership.admit(gateway)

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
        return self._store.limits.max_event_bytes

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
        times = [member.connector.retry_at for member in self._membership.staying()]
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
        return self._membership.stats(self._election.primary)

    @property
    def token_keys(self) -> dict[str, TokenKey]:
        """Under which the device tokens of those gateways are kept where a device signs."""
        keys = {name: member.connector.token_key for name, member in self._members.items()}
        return {name: key for name, key in keys.items() if key is not None}

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
        if self._started or self._stopping:
            raise LocalProtocolError("start or stop was called before")
        now = self._clock.advance(now)
        self._started = True
        self._election.open()
        kept = device_tokens or {}
        waiting = [*self._members.values()]
        while waiting:  # shuffled, so that the first one does not take the herd (lessons 35)
            member = waiting.pop(int(self._random() * len(waiting)) % len(waiting))
            token = kept.get(member.name) or member.device_token
            member.connector.start(now, device_token=token)
        self._end_input()

    def stop(self, now: float, *, abort: bool = False) -> None:
        """Give every request its outcome, close all connections, and reach Stopped.

        As `Connector.stop`. Pull everything.
        """
        now = self._clock.advance(now)
        if self._finished:
            return
        self._stopping = True
        self._election.close()
        self._membership.take_due(math.inf)
        for member in self._members.values():
            member.connector.stop(now, abort=abort)
        self._backlog.end(Ending(EndKind.STOPPED))
        self._draw_consequences()  # there may be no gateway that has news

    def add(
        self, gateway: PoolGateway | str, now: float, *, device_token: DeviceToken | None = None
    ) -> str:
        """Take one more gateway in, and return its name. Pull everything.

        ``device_token`` is the one that is kept for it. Raises `InvalidSettings`, and
        `LocalProtocolError` once the pool was stopped.
        """
        if self._stopping:
            raise LocalProtocolError("the pool was stopped")
        member = self._membership.admit(gateway, device_token)
        now = self._clock.advance(now)
        if self._started:
            member.connector.start(now, device_token=device_token)
            self._end_input()
        return member.name

    def remove(self, name: str, now: float, *, drain: float = DRAIN_LIMIT) -> None:
        """Let a gateway go, drained: it gets no more requests.

        Its connection ends when all that it has are answered, at the latest after ``drain`` seconds
        (0 to 30 days); called again it may end sooner. What it has not sent by then, or may be
        replayed, goes to another one as if it had fallen. Where it is primary another one takes
        over at once, if one is online, else as soon as one comes. Its ``Stopped`` is the last that
        is told of it. Pull everything.

        Raises `InvalidParams` for an unknown name.
        """
        member = self._membership.member(name)
        if not 0 <= drain <= MONTH:
            raise InvalidParams(f"drain must be 0 to {MONTH:.0f} seconds: {drain!r}")
        now = self._clock.advance(now)
        if self._stopping:
            return
        is_news = not member.is_leaving
        if is_news:
            self._backlog.forsake(name, Ending(EndKind.STOPPED))
        if not self._started:
            self._membership.forget(member)
            return
        self._membership.begin_leaving(member, now, now + drain)
        if is_news:
            self._election.on_leaving(member)
        self._let_go()
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
        return self._routing.request(method, params, now, gateway=gateway, spread=spread, **options)

    def cancel(self, request_id: str, now: float) -> Delivery | None:
        """Take a request back; as `Connector.cancel`."""
        delivery = self._routing.cancel(request_id, now)
        self._end_input()
        return delivery

    def resynced(self, transport_id: int, now: float) -> None:
        """Take note that the application has read its state again after this Online.

        As `Connector.resynced`, for the pool's own ``Online``. Pull bytes.
        """
        connector, now = self._begin(transport_id, now)
        if connector is not None:
            connector.resynced(transport_id, now)

    def probe(self, now: float, *, gateway: str | None = None) -> None:
        """Ask all gateways at once, or one, whether they are there."""
        members = self._membership.staying(gateway)
        now = self._clock.advance(now)
        for member in members:
            member.connector.probe(now)

    def reconnect_now(
        self,
        now: float,
        signed: SignedPayload = SignedPayload.V3,
        *,
        gateway: str | None = None,
    ) -> None:
        """End the backoff of all gateways, or of one; as `Connector.reconnect_now`."""
        members = self._membership.staying(gateway)
        now = self._clock.advance(now)
        for member in members:
            member.connector.reconnect_now(now, signed)
        self._end_input()

    def use_credentials(
        self, credentials: Credentials, now: float, *, gateway: str | None = None
    ) -> None:
        """Connect all gateways, or one, with these from the next attempt on.

        As `Connector.use_credentials`; where one of them refuses them, none has changed.
        """
        members = self._membership.staying(gateway)
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
        now = self._handled = self._clock.advance(now)
        while (due := self._next_due()) is not None and due <= now:
            self._let_go()
            for member in self._members.values():
                due = member.connector.next_due()
                if due is not None and due <= now:
                    member.connector.handle_timeout(now)
            self._backlog.handle_timeout(now)
            self._election.handle_timeout(now)
            self._end_input()

    # --- outputs ----------------------------------------------------------------------------

    def next_command(self) -> Command | None:
        """Take the next command."""
        return self._commands.popleft() if self._commands else None

    def data_to_send(self, transport_id: int) -> bytes:
        """Take at most 64 KiB for the wire."""
        member = self._membership.owner(transport_id)
        return b"" if member is None else member.connector.data_to_send(transport_id)

    def next_message(self, transport_id: int) -> Message | None:
        """Take the next message for a host that speaks WebSocket itself."""
        member = self._membership.owner(transport_id)
        return None if member is None else member.connector.next_message(transport_id)

    def next_event(self) -> events.PoolEvent | None:
        """Take the next event."""
        return self._store.next()

    def next_timeout(self) -> float | None:
        """Return when ``handle_timeout`` is next due."""
        due = self._next_due()
        return None if due is None else max(due, self._handled + TICK)

    # --- inside -----------------------------------------------------------------------------

    def _connector_of(self, member: Member, gateway: PoolGateway, settings: Settings) -> Connector:
        """Make the connector of a new member."""
        return Connector(
            gateway.url,
            settings,
            random=self._random,
            entropy=self._entropy,
            next_transport_id=partial(self._membership.new_transport, member),
            signer=None if gateway.device is None else gateway.device.signer,
            trace=self._trace,
            shared=Shared(
                member.standing,
                self._store,
                partial(self._election.on_state, member),
                self._ids,
                self._backlog,
                member.window,
                self._commands,
                self._clock,
            ),
        )

    def _begin(self, transport_id: int, now: float) -> tuple[Connector | None, float]:
        member = self._membership.owner(transport_id)
        return None if member is None else member.connector, self._clock.advance(now)

    def _next_due(self) -> float | None:
        dues = [member.connector.next_due() for member in self._members.values()]
        dues.append(self._backlog.next_timeout())
        dues.append(self._election.next_timeout())
        dues.append(self._membership.next_due())
        return min([due for due in dues if due is not None], default=None)

    def _let_go(self) -> None:
        """End the connections of those that have left."""
        for member in self._membership.take_due(self._clock.now):
            member.connector.stop(self._clock.now)
            self._hand_out_backlog()
            self._backlog.forsake(member.name, Ending(EndKind.STOPPED))

    def _end_input(self) -> None:
        """Draw the consequences that an input at one gateway has for the others."""
        if self._election.has_news:
            self._draw_consequences()
        self._membership.look_at_drained(self._clock.now)

    def _draw_consequences(self) -> None:
        self._election.has_news = False
        for member in [*self._members.values()]:
            if member.connector.finished:
                self._membership.forget(member)
                self._election.on_gone()
        self._hand_out_backlog()
        if self._stopping and not self._members:
            self._finished = True
            self._queue.put(events.Stopped())

    def _hand_out_backlog(self) -> None:
        """Send what waits, over whoever may send it by now."""
        primary = self._election.primary
        if primary is not None:  # the replays that several could take are the primary's
            primary.connector.look_at_backlog(self._clock.now)
        for member in self._members.values():
            member.connector.look_at_backlog(self._clock.now)
