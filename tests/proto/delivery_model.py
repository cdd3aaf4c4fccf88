"""The delivery rules, as a model: what a machine may send again, and what it may say of it.

Facts come in as they happen: what the application asked for (``accepted``, ``cancelled``,
``resynced``), what left (``sent``), what a gateway got and ran (``arrived``, ``executed``), what the
machine told (``told``). Each is held against the rules at once; ``check_settled`` says what must not
be left in the end. Nothing is computed for the machine: the model knows no timer and no queue.

Rules kept here (design.md: Requests, Pool, G7, G12):

* R1 A request has one outcome, or was taken back; it never leaves after that. What is not carried
  over has it before Offline, all others before GaveUp and Stopped, and none waits for nothing.
* R2 Nothing leaves but on a connection that is online.
* R3 Nothing leaves, and no outcome comes, after the deadline, where the machine is woken in time.
* R4 A request for a gateway by name leaves for no other; one for none by name leaves for a primary.
* R5 With ``hold_queue`` what waited for a connection waits for ``resynced`` too.
* R6 Replays go before the queue, and the queue is first in first out.
* R7 What was refused is asked again only where the caller said so. What may have executed is sent
  again only as a replay: once on each connection, within 240 s, to the same boot, or to another
  gateway where they share their state. So nothing runs twice.
* R8 NOT_SENT: no byte of it left. MAY_HAVE_EXECUTED: one did. REFUSED: it never ran, or it did and
  the gateway told how that ended. Replied: what a gateway said to this very request.
* R9 A gateway has at most ``max_in_flight`` to answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from butter_proto import Delivery, EndKind, events
from tests.proto.delivery_facts import ALONE, Connection, Request, Sending

REPLAY_WITHIN: Final = 240.0
KEPT_IN_FLIGHT: Final = 60.0
PUNCTUAL: Final = 0.002
"""Seconds by which what is due may come late, where the machine is woken in time."""


class DeliveryModel:
    """What was accepted, sent, answered and told, by which boot of which gateway."""

    def __init__(
        self,
        clock: Callable[[], float],
        origins: dict[str, str],
        *,
        hold_queue: bool = False,
        shared_state: bool = False,
        max_in_flight: int = 200,
    ) -> None:
        self.clock = clock
        self.origins = origins
        """The address of each gateway by its name; `ALONE` has it too."""
        self.hold_queue = hold_queue
        self.shared_state = shared_state
        self.max_in_flight = max_in_flight
        self.awake_at = -math.inf
        """Until then nobody woke the machine."""
        self.requests: dict[str, Request] = {}
        self.connections: dict[int, Connection] = {}
        self.primary: Connection | None = None
        self.held: Connection | None = None
        self.leaving: set[str] = set()
        self.given_up: list[Request] = []
        """What could wait, and was told its outcome: GaveUp or Stopped must follow."""
        self.period = 0

    @property
    def unsettled(self) -> Iterator[Request]:
        """The requests that have no outcome, oldest first."""
        return (one for one in self.requests.values() if one.settled_at is None)

    # what the application asked for

    def accepted(self, request: Request) -> None:
        """Take note of a request that got an id: R1, it has one outcome from here on."""
        assert request.id not in self.requests, "an id came twice"
        self.requests[request.id] = request

    def cancelled(self, request_id: str, delivery: Delivery) -> None:
        """Take note of a request that was taken back: that is its outcome."""
        self._settle(self.requests[request_id], delivery)

    def resynced(self, transport_id: int) -> None:
        """Take note that the application has read its state again."""
        if self.held is not None and self.held.id == transport_id:
            self.held.resynced_at = self.clock()
            self.held = None

    # what left, and what became of it there

    def sent(self, request_id: str, transport_id: int) -> None:
        """Take note of the first byte of a request on a connection."""
        now, request = self.clock(), self.requests[request_id]
        connection = self.connections[transport_id]
        assert connection.online, "R2: nothing leaves but while online"
        assert request.settled_at is None, "R1: nothing leaves that has its outcome"
        assert self._in_time(request.deadline), "R3: nothing leaves after its deadline"
        assert request.gateway in (None, connection.gateway), "R4: it leaves for its gateway only"
        if request.sendings:
            self._check_sent_again(request, connection, now)
        else:
            self._check_sent_first(request, connection, now)
        request.sendings.append(Sending(connection, now))
        assert self._in_flight(connection.origin, now) <= self.max_in_flight, "R9: max_in_flight"

    def _check_sent_first(self, request: Request, connection: Connection, now: float) -> None:
        if request.gateway is None and (request.waited or not request.spread):
            assert connection.primary_until >= request.accepted_at, "R4: it leaves for the primary"
        if request.waited:
            self._check_held(request, connection)
            self._check_order(request, connection, now)

    def _check_order(self, request: Request, connection: Connection, now: float) -> None:
        for other in self.unsettled:
            if other is request or other.deadline <= now:
                continue
            older = other.waited and not other.sendings and int(other.id) < int(request.id)
            same = (other.period, other.gateway) == (request.period, request.gateway)
            assert not (older and same), "R6: the queue is first in first out"
            replayed = other.replay and other.gateway in (None, connection.gateway)
            waits = all(one.connection.until < connection.since for one in other.sendings)
            boots = {one.connection.boot for one in other.unanswered}
            young = other.unanswered and now < other.unanswered[0].at + REPLAY_WITHIN
            refused = any(one.refused for one in other.sendings[-1:])  # it has its own time
            here = connection.boot in boots and not refused
            overtaken = replayed and waits and young and here
            elsewhere = overtaken and self._may_be_with_another(other, connection)
            assert not overtaken or elsewhere, "R6: replays go before the queue"

    def _may_be_with_another(self, replay: Request, connection: Connection) -> bool:
        """Tell whether a gateway that shares the state may have taken it, and have it wait."""
        ended = max(one.connection.until for one in replay.sendings)
        before = {one.connection.gateway for one in replay.sendings}
        return self.shared_state and any(
            one.online and one.primary_until >= ended and one.gateway not in before
            for one in self.connections.values()
            if one is not connection
        )

    def _check_sent_again(self, request: Request, connection: Connection, now: float) -> None:
        here = [one for one in request.sendings if one.connection is connection]
        assert all(one.refused for one in here), "R7: once on each connection"
        assert request.retry or not here, "R7: asked again only where the caller said so"
        before = request.unanswered
        if not before:
            assert request.retry or request.replay, "R7: sent again only where the caller said so"
            return
        assert request.replay, "R7: what may have executed is sent again only as a replay"
        assert now < before[0].at + REPLAY_WITHIN, "R7: within 240 s of its first byte"
        there = connection.boot in {one.connection.boot for one in before}
        stood_for = connection.gateway not in {one.connection.gateway for one in before}
        assert there or (self.shared_state and stood_for), "R7: only to the same boot"
        if not here:
            self._check_held(request, connection)

    def _check_held(self, request: Request, connection: Connection) -> None:
        """R5, but for what the connection has taken while it was warm, or resynced before."""
        elective = request.gateway is None and not request.sendings
        taken = connection.resynced_at if elective else connection.warm_until
        open_until = max(taken, connection.resynced_at)
        held = self.held is connection and request.accepted_at > open_until
        assert not held, "R5: what waited waits for the resync"

    def arrived(
        self, request_id: str, transport_id: int, boot: str, *, refused: bool, answer_at: float
    ) -> None:
        """Take note that a gateway has read a request, and whether it let it run."""
        request = self.requests[request_id]
        there = [one for one in request.sendings if one.connection.id == transport_id]
        assert there, "R2: it came from nowhere"
        sending = there[-1]
        assert sending.connection.boot == boot
        sending.refused, sending.answer_at = refused, answer_at

    def executed(self, request_id: str) -> None:
        """Take note that a gateway has run a request, and not looked its key up."""
        request = self.requests[request_id]
        request.executions += 1
        assert request.executions == 1, "R7: executed twice"

    def _in_flight(self, origin: str, now: float) -> int:
        """Count what a gateway has not answered, as far as anybody still waits for it."""
        return sum(
            sending.connection.online
            and sending.connection.origin == origin
            and sending.answer_at > now
            and (request.settled_at is None or now < request.settled_at + KEPT_IN_FLIGHT)
            for request in self.requests.values()
            for sending in request.sendings[-1:]
        )

    # what the machine told

    def told(self, gateway: str, event: events.Event) -> None:
        """Take note of what was told of one gateway; of a connector alone it is everything."""
        self._check_given_up(event)
        match event:
            case events.Online(hello=hello, transport_id=transport_id):
                assert hello.boot_id is not None
                origin = self.origins[gateway]
                self.connections[transport_id] = Connection(
                    transport_id, gateway, origin, hello.boot_id, self.clock()
                )
            case events.Offline():
                self._ended(gateway)
            case events.GaveUp() | events.Stopped():
                self._without_hope(gateway)
            case events.Replied():
                request = self.requests[event.id]
                assert event.payload in request.answers, "R8: an answer that nobody gave"
                self._settle(request, None)
            case events.RequestFailed():
                request = self.requests[event.id]
                self._settle(request, event.delivery, event.payload)
                ended = event.ending is not None and event.ending.kind is not EndKind.STOPPED
                unknown = event.delivery is not Delivery.REFUSED
                if ended and unknown and self._could_wait(request):
                    self.given_up.append(request)
            case events.RequestAccepted():
                request = self.requests[event.id]
                assert request.settled_at is None, "R1: the outcome is the last word"
                assert request.final, "R8: an interim answer for a caller who did not ask for it"
                request.begun = True

    def told_of_all(self, event: events.Event) -> None:
        """Take note of what was told of the machine as a whole."""
        self._check_given_up(event)
        match event:
            case events.Online(transport_id=transport_id):
                self._dethrone()
                self.primary = self.connections[transport_id]
                if self.primary.since < self.clock():
                    self.primary.warm_until = self.clock()
                self.primary.primary_until = math.inf
                self.held = self.primary if self.hold_queue else None
                self.period += 1
            case events.Offline():
                self._dethrone()
            case events.GaveUp() | events.Stopped():
                assert not [*self.unsettled], "R1: outcomes come before GaveUp and Stopped"

    def _could_wait(self, request: Request) -> bool:
        """Tell whether a request outlives its connection, if another one may come."""
        where: set[str | None] = {one.connection.gateway for one in request.sendings}
        if (where or {request.gateway}) <= self.leaving or self._is_late(request, self.clock()):
            return False
        return request.replay if request.sendings else request.queue

    def _check_given_up(self, event: events.Event) -> None:
        if isinstance(event, events.GaveUp | events.Stopped):
            self.given_up.clear()
        elif isinstance(event, events.StateEvent):
            assert not self.given_up, "R1: what may wait is given up only where nobody comes"

    def _dethrone(self) -> None:
        if self.primary is not None:
            self.primary.primary_until = self.clock()
        self.primary = self.held = None

    def _ended(self, gateway: str) -> None:
        """R1: what is not carried over has its outcome before Offline."""
        for connection in self.connections.values():
            if connection.online and connection.gateway == gateway:
                connection.until = self.clock()
        for request in self.unsettled:
            left = request.unanswered and not request.unanswered[-1].connection.online
            assert request.replay or not left, "R1: outcomes come before Offline"
            bound = gateway in (request.gateway, ALONE)
            carried = request.queue or (request.replay and request.sendings)
            dead = bound and not (carried or request.unanswered)
            assert not dead, "R1: outcomes come before Offline"

    def _without_hope(self, gateway: str) -> None:
        """R1: what only this gateway may get has its outcome before GaveUp."""
        for request in self.unsettled:
            where = {one.connection.gateway for one in request.unanswered}
            alone = where == {gateway} and not self.shared_state
            boots = {one.connection.boot for one in request.unanswered}
            elsewhere = any(
                one.boot in boots and one.gateway != gateway for one in self.connections.values()
            )
            assert request.gateway != gateway, "R1: outcomes come before GaveUp"
            assert elsewhere or not alone, "R1: outcomes come before GaveUp"

    def _settle(self, request: Request, delivery: Delivery | None, payload: Any = None) -> None:
        """R1 and R8: one outcome, in time, and no other than the facts allow."""
        assert request.settled_at is None, "R1: one outcome"
        assert self._in_time(request.deadline), "R3: it comes by the deadline"
        request.settled_at = self.clock()
        match delivery:
            case Delivery.NOT_SENT:
                assert not request.sendings, "R8: NOT_SENT, but it has left"
            case Delivery.MAY_HAVE_EXECUTED:
                assert request.sendings, "R8: MAY_HAVE_EXECUTED, but it never left"
            case Delivery.REFUSED:
                assert request.sendings, "R8: REFUSED, but it never left"
                looked_up = payload is not None or request.begun
                assert looked_up or not request.unanswered, "R8: REFUSED, but it may have executed"

    def _is_late(self, request: Request, now: float) -> bool:
        first = [one.at + REPLAY_WITHIN for one in request.sendings[:1]]
        return now >= min([request.deadline, *first]) - PUNCTUAL

    def _in_time(self, when: float) -> bool:
        return self.clock() <= max(when, self.awake_at) + PUNCTUAL

    # what holds in the end

    def check_settled(self, never: Callable[[Request], bool]) -> None:
        """R1: what has no outcome yet is with a gateway that is online and ``never`` answers.

        Or behind one that has as many of these as it may have.
        """
        now = self.clock()
        origins = {one.origin for one in self.connections.values() if one.online}
        full = any(self._in_flight(one, now) >= self.max_in_flight for one in origins)
        for request in self.unsettled:
            assert request.unanswered or full, f"R1: {request} waits for nothing"
            for sending in request.unanswered[-1:]:
                assert sending.connection.online, f"R1: {request} waits for nobody"
                assert never(request), f"R1: {request} was answered"
