"""Operations on one connection that is driven directly: a `World` whose machine is one.

Rules kept here:

* `Alone` has the inputs and outputs of a machine, so that the connector's operations and checks do,
  and none of a connector's decisions: it dials once, and takes requests while it is online. Nothing
  waits for a connection. An ending is GaveUp at once, the end of the transport is Stopped.
* What it does keep of a connector's books is what a connection leaves to its owner: the time, the
  size and the count of a request before it is taken, the backlog into which a connection puts what
  is to be asked again, and two commands.
* Whatever a connection shares with others is real, and is to be looked at as ``shared``.
* The clock is its owner's, and so is the least time between two wake-ups: G6 and the millisecond of
  G5 are no guarantees of a connection.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Any, cast

from butter_proto import CLI, Connector, Settings, Trace, events
from butter_proto.attempt import Surroundings, alone, dial
from butter_proto.authenticator import Authenticator
from butter_proto.backlog import QueuedRequest
from butter_proto.connection import Connection, Phase, check_size
from butter_proto.counters import Counters
from butter_proto.device_auth import SignedPayload
from butter_proto.endpoint import parse_url
from butter_proto.errors import (
    Delivery,
    Ending,
    EndKind,
    LocalProtocolError,
    NotOnline,
    TransportFault,
)
from butter_proto.event_queue import EventQueue
from butter_proto.intake import Intake
from butter_proto.link import HostClose, HostMessage, HostPong, Inbound
from butter_proto.machine import STATE_AFTER, CloseTransport, Command, Message, State, Stats
from butter_proto.settings import Framing
from tests.proto.operations import URL, Hashing, Ids, World

TRANSPORT = 1


class Alone:
    """One connection, from its dial to its last byte."""

    def __init__(
        self, settings: Settings, ids: Ids | None = None, url: str = URL, trace: Trace | None = None
    ) -> None:
        self.settings = settings
        self.endpoint, _ = parse_url(url)
        self.shared = alone(settings, ids or Ids(), hold_queue=False)
        self.counters = Counters()
        self.queue = EventQueue(self.shared.store, self.counters)
        is_device = settings.identity is not None and settings.identity.id == CLI.id
        signer = Hashing() if is_device else None
        self._authenticator = Authenticator(settings, self.endpoint, signer)
        self._around = Surroundings(
            settings,
            self.endpoint,
            Random(7).random,
            lambda size: bytes(range(1, size + 1)),
            self.shared.ids.take,
            self.queue,
            self.counters,
            self._authenticator.identity,
            signer,
            trace,
            self.shared.standing,
            self.shared.backlog,
            self.shared.window,
        )
        self._intake = Intake(settings, self.shared.ids, self._around.entropy, self.shared.store)
        self.connection: Connection | None = None

    # --- what is to be seen ---------------------------------------------------------------------

    retry_at = None

    @property
    def state(self) -> State:
        return STATE_AFTER[self.queue.last_state_event]

    @property
    def finished(self) -> bool:
        return self.state is State.STOPPED

    @property
    def last_ending(self) -> Ending | None:
        return None if self.connection is None else self.connection.ending

    @property
    def stats(self) -> Stats:
        return self.counters.snapshot()

    @property
    def pending_bytes(self) -> int:
        return 0 if self.connection is None else self.connection.pending_bytes

    def queued(self) -> tuple[QueuedRequest, ...]:
        return self.shared.backlog.queued()

    # --- the application's inputs ---------------------------------------------------------------

    def start(self, now: float) -> None:
        if self.state is not State.IDLE:
            raise LocalProtocolError
        attempt = self._authenticator.attempt(TRANSPORT, SignedPayload.V3, None)
        self.connection = Connection(self._around, attempt, self._time(now))
        self.shared.commands.append(dial(self.endpoint, self.settings, TRANSPORT))
        self.queue.put(events.Connecting(1, TRANSPORT))

    def stop(self, now: float, *, abort: bool = False) -> None:
        now = self._time(now)
        if self.connection is not None and not self.finished:
            self.connection.stop(now, abort=abort)
            self._settle()

    def request(self, method: str, params: Any = None, *, now: float, **options: Any) -> str:
        connection = self.connection
        if connection is None or connection.hello is None or self.state is not State.ONLINE:
            raise NotOnline
        pending_bytes = self.pending_bytes + self.shared.backlog.bytes
        time = self.shared.clock.look(now)
        request = self._intake.make(method, params, time, pending_bytes, **options)
        check_size(connection.hello, request.size)
        self._intake.accept(request)
        connection.request(request, self._time(now))
        return request.id

    def cancel(self, request_id: str, now: float) -> Delivery | None:
        now = self._time(now)
        delivery = self.shared.backlog.cancel(request_id)
        if delivery is None and self._lasting is not None:
            delivery = self._lasting.cancel(request_id, now)
        self.shared.store.pending -= delivery is not None
        return delivery

    def probe(self, now: float) -> None:
        now = self._time(now)
        if self._lasting is not None:
            self._lasting.probe(now)

    def token_stored(self, transport_id: int, ok: bool, now: float) -> None:
        now = self._time(now)
        if transport_id == TRANSPORT and self.connection is not None:
            self.connection.token_stored(now, ok=ok)

    def _nothing(self, *_: Any, now: float, **__: Any) -> None:
        """Do what a connection is never told of."""
        self._time(now)

    reconnect_now = use_credentials = token_forgotten = resynced = _nothing

    # --- transport inputs -----------------------------------------------------------------------

    def transport_opened(self, transport_id: int, now: float) -> None:
        connection, now = self._begin(transport_id, now)
        if connection is not None:
            connection.opened(now, None)
            self._settle()

    def receive_data(self, transport_id: int, data: bytes, now: float) -> None:
        self._receive(Framing.BYTES, transport_id, data, now)

    def receive_message(self, transport_id: int, message: str | bytes, now: float) -> None:
        self._receive(Framing.MESSAGES, transport_id, HostMessage(message), now)

    def receive_pong(self, transport_id: int, payload: bytes, now: float) -> None:
        self._receive(Framing.MESSAGES, transport_id, HostPong(payload), now)

    def transport_closed(
        self, transport_id: int, code: int | None, reason: str, now: float
    ) -> None:
        self._receive(Framing.MESSAGES, transport_id, HostClose(code, reason), now)

    def transport_failed(self, transport_id: int, fault: TransportFault, now: float) -> None:
        connection, now = self._begin(transport_id, now)
        if connection is not None:
            connection.failed(fault, now)
            self._settle()

    def handle_timeout(self, now: float) -> None:
        connection, now = self._begin(TRANSPORT, now)
        if connection is not None:
            connection.handle_timeout(now)
            self._settle()
            self.shared.backlog.handle_timeout(now)

    # --- outputs --------------------------------------------------------------------------------

    def next_command(self) -> Command | None:
        return self.shared.commands.popleft() if self.shared.commands else None

    def next_event(self) -> events.Event | None:
        return self.queue.next()

    def data_to_send(self, transport_id: int) -> bytes:
        connection = self._open(transport_id)
        return b"" if connection is None else connection.data_to_send(self.shared.clock.now)

    def next_message(self, transport_id: int) -> Message | None:
        connection = self._open(transport_id)
        return None if connection is None else connection.next_message(self.shared.clock.now)

    def next_timeout(self) -> float | None:
        connection = self._open(TRANSPORT)
        dues = (
            self.shared.backlog.next_timeout(),
            None if connection is None else connection.next_timeout(),
        )
        due = min(inf if one is None else one for one in dues)
        return None if due == inf else due

    # --- inside ---------------------------------------------------------------------------------

    def _time(self, now: float) -> float:
        return self.shared.clock.advance(now)

    @property
    def _lasting(self) -> Connection | None:
        """The connection, unless it has its ending: then its owner asks nothing of it."""
        connection = self.connection
        return None if connection is None or connection.ending is not None else connection

    def _open(self, transport_id: int) -> Connection | None:
        return None if transport_id != TRANSPORT or self.finished else self.connection

    def _begin(self, transport_id: int, now: float) -> tuple[Connection | None, float]:
        self.queue.begin_input()
        return self._open(transport_id), self._time(now)

    def _receive(self, framing: Framing, transport_id: int, inbound: Inbound, now: float) -> None:
        connection, now = self._begin(transport_id, now)
        if connection is not None and framing is self.settings.framing:
            connection.receive(inbound, now)
            self._settle()

    def _settle(self) -> None:
        """Tell an ending, and the end of the transport."""
        connection = self.connection
        assert connection is not None
        ending = connection.ending
        if ending is not None and self.state in (State.CONNECTING, State.WAITING):
            self.shared.backlog.end(ending)
            if ending.kind is not EndKind.STOPPED:
                self.queue.put(events.GaveUp(ending, ""))
        if connection.phase is Phase.CLOSED and not self.finished:
            self.shared.commands.append(CloseTransport(TRANSPORT))
            self.queue.put(events.Stopped())


class ConnectionWorld(World):
    """One connection, everything it was given and everything it told."""

    def __init__(self, settings: Settings, url: str = URL, trace: Trace | None = None) -> None:
        super().__init__(settings)
        self.ids = Ids()
        self.machine = new_connection(settings, self.ids, url, trace)

    @property
    def alone(self) -> Alone:
        return cast("Alone", self.machine)


def new_connection(
    settings: Settings, ids: Ids | None = None, url: str = URL, trace: Trace | None = None
) -> Connector:
    """Make a connection whose chance is the same each time; typed as the machine of a `World`."""
    return cast("Connector", Alone(settings, ids, url, trace))
