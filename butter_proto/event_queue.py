"""The events that wait to be pulled, and the bounds on them (G9).

Rules kept here:

* Outcomes are never dropped: a request keeps its place in ``pending`` until its outcome is pulled.
* Gateway events are bounded by count and size. Whether there is room is looked at when an input
  begins; what is then dropped is told in its place as one ``EventsMissed(OVERFLOW, count)``.
  Measurements (`RoundTrip`, `ClockLate`) are counted with them and dropped silently.
* State changes are counted, so that the connector can hold its next attempt back.
* What a connection brings before its Online can be held: it counts like the rest, and comes after
  Online or not at all. In a pool only Online shows whether its gateway events are told.
* One `EventStore` may serve the queues of a whole pool: one order and one bound for all of them.
  There each event says from which gateway it is, and gateway events of a connector that is not
  primary are dropped uncounted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import get_args

from butter_proto import events
from butter_proto.counters import Counters
from butter_proto.settings import Limits
from butter_proto.standing import Standing

_OUTCOMES = frozenset(get_args(events.Outcome))
_STATE_EVENTS = frozenset(get_args(events.StateEvent))
_MEASUREMENTS = frozenset({events.RoundTrip, events.ClockLate})


class _Overflow:
    """The place where events were dropped."""

    __slots__ = ("count", "gateway", "taken")

    def __init__(self, gateway: str | None) -> None:
        self.gateway = gateway
        self.count = 0
        self.taken = False

    def told(self) -> events.PoolEvent:
        """Return it as it is told."""
        missed = events.EventsMissed(events.MissReason.OVERFLOW, self.count)
        return missed if self.gateway is None else events.FromGateway(self.gateway, missed)


_Waiting = events.PoolEvent | _Overflow


class _Line:
    """Events that wait in their order."""

    __slots__ = ("events", "overflow")

    def __init__(self) -> None:
        self.events: deque[_Waiting] = deque()
        self.overflow: _Overflow | None = None
        """Where gateway events were dropped, if none was queued here since."""


class EventStore:
    """All events that wait, first in first out, and what they count."""

    __slots__ = (
        "droppable",
        "event_bytes",
        "limits",
        "line",
        "pending",
        "state_changes",
    )

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.line = _Line()
        self.droppable = 0
        """Gateway events and measurements not yet pulled."""
        self.event_bytes = 0
        """The size of those gateway events."""
        self.pending = 0
        """Requests accepted whose outcome was not pulled; the owner adds, ``next`` subtracts."""
        self.state_changes = 0
        """State events not yet pulled."""

    @property
    def has_room(self) -> bool:
        """Whether there is room for gateway events."""
        limits = self.limits
        return self.droppable < limits.max_events and self.event_bytes < limits.max_event_bytes

    def put(self, event: events.PoolEvent) -> None:
        """Queue what must be told."""
        self.line.events.append(event)

    def next(self) -> events.PoolEvent | None:
        """Take the oldest event, or None."""
        waiting_events = self.line.events
        if not waiting_events:
            return None
        waiting = waiting_events.popleft()
        kind = type(waiting)
        if kind is events.GatewayEvent:  # by far the most
            self.droppable -= 1
            self.event_bytes -= waiting.size  # type: ignore[union-attr]
            return waiting  # type: ignore[return-value]
        if kind is events.Replied:
            self.pending -= 1
            return waiting  # type: ignore[return-value]
        self.took(waiting)
        return waiting.told() if isinstance(waiting, _Overflow) else waiting

    def took(self, waiting: _Waiting) -> None:
        """Count out what leaves."""
        event = waiting.event if isinstance(waiting, events.FromGateway) else waiting
        kind = type(event)
        if isinstance(event, events.GatewayEvent):
            self.droppable -= 1
            self.event_bytes -= event.size
        elif isinstance(event, _Overflow):
            event.taken = True
        elif kind in _OUTCOMES:
            self.pending -= 1
        elif kind in _STATE_EVENTS:
            self.state_changes -= 1
        elif kind in _MEASUREMENTS:
            self.droppable -= 1


class EventQueue:
    """One connector's end of a store: what it tells goes in here, in its order.

    ``on_state`` is called with each state event once it is queued, in the middle of an input, so it
    must not make another one. ``followers`` is the law of their order.
    """

    __slots__ = (
        "_counters",
        "_followers",
        "_into",
        "_on_state",
        "_room",
        "_standing",
        "_told",
        "store",
    )

    def __init__(
        self,
        store: EventStore,
        counters: Counters,
        standing: Standing | None = None,
        on_state: Callable[[events.StateEvent], None] | None = None,
        followers: events.Followers = events.FOLLOWERS,
    ) -> None:
        self.store = store
        self._counters = counters
        self._standing = standing or Standing()
        self._on_state = on_state
        self._followers = followers
        self._into = store.line
        self._room = True
        self._told: type[events.StateEvent] | None = None

    def begin_input(self) -> None:
        """Decide whether the input that begins has room for gateway events."""
        self._room = self.store.has_room

    def put(
        self,
        event: events.StateEvent | events.Outcome | events.RequestAccepted | events.EventsMissed,
    ) -> None:
        """Queue what must be told: a state change, an outcome, an interim answer, a loss."""
        self.store.put(self._signed(event))
        if type(event) in _STATE_EVENTS:
            assert isinstance(event, events.StateEvent)
            assert type(event) in self._followers[self._told]
            self._told = type(event)
            self.store.state_changes += 1
            if self._on_state is not None:
                self._on_state(event)

    def next(self) -> events.Event | None:
        """Take the oldest event of a store that no other queue fills."""
        return self.store.next()  # type: ignore[return-value]  # it is signed only in a pool

    @property
    def last_state_event(self) -> type[events.StateEvent] | None:
        """The type of the last state event queued."""
        return self._told

    def put_notice(self, notice: events.Notice) -> None:
        """Queue a notice; a measurement without room is dropped."""
        if type(notice) in _MEASUREMENTS:
            if not self._room:
                return
            self.store.droppable += 1
        into = self._into if type(notice) is events.RoundTrip else self.store.line
        into.events.append(self._signed(notice))

    def put_gateway_event(self, event: events.GatewayEvent, missed_before: int) -> None:
        """Queue a gateway event, before it the gap that it shows."""
        store, into, standing = self.store, self._into, self._standing
        if not standing.primary and into is store.line:
            return
        if not self._room:
            self._drop(missed_before)
            return
        if missed_before:
            gap = events.EventsMissed(events.MissReason.GAP, missed_before)
            into.events.append(self._signed(gap))
        into.overflow = None
        store.droppable += 1
        store.event_bytes += event.size
        name = standing.name
        into.events.append(event if name is None else events.FromGateway(name, event))

    def lane(self) -> deque[_Waiting] | None:
        """Return where gateway events go just now, or None: each is a case of its own.

        Whoever puts some there says so with ``took_lane``.
        """
        store = self.store
        is_plain = self._room and self._into is store.line and self._standing.name is None
        return store.line.events if is_plain else None

    def took_lane(self, number: int, size: int) -> None:
        """Count in what was put where ``lane`` said."""
        store = self.store
        store.line.overflow = None
        store.droppable += number
        store.event_bytes += size

    def hold(self) -> None:
        """Keep gateway events and round trips back from now on."""
        self._into = _Line()

    def release(self) -> None:
        """Queue what was held, behind everything else; where nothing is held it does nothing.

        Without its gateway events, where those are not told.
        """
        line = self.store.line
        held, self._into = self._into, line
        if held is line:
            return
        for waiting in held.events:
            if self._standing.primary or _is_measurement(waiting):
                line.events.append(waiting)
            else:
                self.store.took(waiting)
        if self._standing.primary:
            line.overflow = held.overflow

    def drop_held(self) -> None:
        """Forget what was held: its connection never came to Online."""
        held, self._into = self._into, self.store.line
        assert held is not self.store.line
        for waiting in held.events:
            self.store.took(waiting)

    def _signed(self, event: events.Event) -> events.PoolEvent:
        """Return an event as it is told: in a pool with the name of its gateway."""
        name = self._standing.name
        return event if name is None else events.FromGateway(name, event)

    def _drop(self, missed_before: int) -> None:
        name, overflow = self._standing.name, self._into.overflow
        if overflow is None or overflow.taken or overflow.gateway != name:
            overflow = self._into.overflow = _Overflow(name)
            self._into.events.append(overflow)
        overflow.count += missed_before + 1
        self._counters.dropped_events += 1


def _is_measurement(waiting: _Waiting) -> bool:
    return isinstance(waiting, events.FromGateway) and type(waiting.event) in _MEASUREMENTS
