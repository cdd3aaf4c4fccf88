"""The events that wait to be pulled, and the bounds on them (G9).

Rules kept here:

* Outcomes are never dropped: a request keeps its place in ``pending`` until its outcome is pulled.
* Gateway events are bounded by count and size. Whether there is room is looked at when an input
  begins; what is then dropped is told in its place as one ``EventsMissed(OVERFLOW, count)``.
  Measurements (`RoundTrip`, `ClockLate`) are counted with them and dropped silently.
* State changes are counted, so that the connector can hold its next attempt back.
* What a connection brings before its Online can be held: it counts like the rest, and comes after
  Online or not at all.
"""

from __future__ import annotations

from collections import deque
from typing import get_args

from butter_proto import events
from butter_proto.counters import Counters
from butter_proto.settings import Limits

_OUTCOMES = frozenset(get_args(events.Outcome))
_STATE_EVENTS = frozenset(get_args(events.StateEvent))
_MEASUREMENTS = frozenset({events.RoundTrip, events.ClockLate})


class _Overflow:
    """The place where events were dropped."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class EventQueue:
    """A queue of events, first in first out."""

    __slots__ = (
        "_bytes",
        "_counters",
        "_droppable",
        "_into",
        "_limits",
        "_overflow",
        "_queue",
        "_room",
        "_told",
        "pending",
        "state_changes",
    )

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._queue: deque[events.Event | _Overflow] = deque()
        self._into = self._queue
        self._droppable = 0
        self._bytes = 0
        self._room = True
        self._overflow: _Overflow | None = None
        self._told: type[events.StateEvent] | None = None
        self.pending = 0
        """Requests accepted whose outcome was not pulled; the owner adds, ``next`` subtracts."""
        self.state_changes = 0
        """State events not yet pulled."""

    def begin_input(self) -> None:
        """Decide whether the input that begins has room for gateway events."""
        self._room = (
            self._droppable < self._limits.max_events and self._bytes < self._limits.max_event_bytes
        )

    def put(self, event: events.StateEvent | events.Outcome | events.RequestAccepted) -> None:
        """Queue what must be told: a state change, an outcome, an interim answer."""
        if isinstance(event, events.StateEvent):
            assert type(event) in events.FOLLOWERS[self._told]
            self._told = type(event)
            self.state_changes += 1
        self._queue.append(event)

    @property
    def last_state_event(self) -> type[events.StateEvent] | None:
        """The type of the last state event queued."""
        return self._told

    def put_notice(self, notice: events.Notice) -> None:
        """Queue a notice; a measurement without room is dropped."""
        if type(notice) in _MEASUREMENTS:
            if not self._room:
                return
            self._droppable += 1
        into = self._into if type(notice) is events.RoundTrip else self._queue
        into.append(notice)

    def put_gateway_event(self, event: events.GatewayEvent, missed_before: int) -> None:
        """Queue a gateway event, before it the gap that it shows."""
        if not self._room:
            self._drop(missed_before)
            return
        if missed_before:
            self._into.append(events.EventsMissed(events.MissReason.GAP, missed_before))
        self._overflow = None
        self._droppable += 1
        self._bytes += event.size
        self._into.append(event)

    def hold(self) -> None:
        """Keep gateway events and round trips back from now on."""
        self._into = deque()
        self._overflow = None

    def release(self) -> None:
        """Queue what was held, behind everything else; where nothing is held it does nothing."""
        held, self._into = self._into, self._queue
        if held is not self._queue:
            self._queue += held

    def drop_held(self) -> None:
        """Forget what was held: its connection never came to Online."""
        held, self._into = self._into, self._queue
        assert held is not self._queue
        for event in held:
            self._took(event)

    def next(self) -> events.Event | None:
        """Take the oldest event, or None."""
        if not self._queue:
            return None
        event = self._queue.popleft()
        self._took(event)
        if isinstance(event, _Overflow):
            return events.EventsMissed(events.MissReason.OVERFLOW, event.count)
        return event

    def _took(self, event: events.Event | _Overflow) -> None:
        """Count out what leaves the queue."""
        kind = type(event)
        if isinstance(event, events.GatewayEvent):
            self._droppable -= 1
            self._bytes -= event.size
        elif isinstance(event, _Overflow):
            if event is self._overflow:
                self._overflow = None
        elif kind in _OUTCOMES:
            self.pending -= 1
        elif kind in _STATE_EVENTS:
            self.state_changes -= 1
        elif kind in _MEASUREMENTS:
            self._droppable -= 1

    def _drop(self, missed_before: int) -> None:
        if self._overflow is None:
            self._overflow = _Overflow()
            self._into.append(self._overflow)
        self._overflow.count += missed_before + 1
        self._counters.dropped_events += 1
