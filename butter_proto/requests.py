"""The requests of one connection: ids, deadlines, and exactly one outcome each (G7).

Rules kept here:

* At most ``max_in_flight`` are on their way at once; the rest wait in order, their deadlines
  running.
* What can be known of delivery is asked of the outbox: no byte handed out is NOT_SENT, and the
  frame is withdrawn; anything else without an answer is MAY_HAVE_EXECUTED.
* A request that was cancelled or expired after it left keeps its place in flight until its
  answer, `AFTERMATH` seconds, or the end of the connection: the gateway is still busy with it.
* Late, double and unknown answers are counted, never told.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from butter_proto.errors import Delivery, Ending
from butter_proto.events import Outcome, Replied, RequestAccepted, RequestFailed
from butter_proto.frames import STATUS_ACCEPTED, Response
from butter_proto.outbox import Outbox, Outgoing
from butter_proto.timers import Timers

AFTERMATH: Final = 60.0
"""Seconds for which an abandoned request keeps its place in flight."""


class PendingRequest:
    """One accepted request; its own name in the table of deadlines."""

    __slots__ = (
        "abandoned",
        "accepted",
        "final",
        "id",
        "idempotency_key",
        "method",
        "outgoing",
        "payload",
        "size",
    )

    def __init__(
        self,
        request_id: str,
        method: str,
        payload: bytes,
        idempotency_key: str | None,
        *,
        final: bool,
    ) -> None:
        self.id = request_id
        self.method = method
        self.payload = payload
        self.size = len(payload)
        self.idempotency_key = idempotency_key
        self.final = final
        self.accepted = False
        self.abandoned = False
        self.outgoing: Outgoing | None = None

    @property
    def delivery(self) -> Delivery:
        """What is known while there is no answer."""
        if self.outgoing is None or self.outgoing.handed_out_at is None:
            return Delivery.NOT_SENT
        return Delivery.MAY_HAVE_EXECUTED

    def failed(
        self, delivery: Delivery, *, timed_out: bool = False, ending: Ending | None = None
    ) -> RequestFailed:
        """Make the outcome of a request that got no answer."""
        return RequestFailed(
            self.id,
            delivery,
            self.method,
            self.idempotency_key,
            timed_out=timed_out,
            ending=ending,
        )


class Requests:
    """The pending requests of one connection."""

    __slots__ = ("_in_flight", "_outbox", "_timers", "_waiting", "_window", "bytes")

    def __init__(self, outbox: Outbox, timers: Timers[Any], max_in_flight: int) -> None:
        self._outbox = outbox
        self._timers = timers
        self._window = max_in_flight
        self._waiting: OrderedDict[str, PendingRequest] = OrderedDict()
        self._in_flight: dict[str, PendingRequest] = {}
        self.bytes = 0
        """The size of the requests without an outcome."""

    def add(self, request: PendingRequest, deadline: float | None) -> None:
        """Take a request in; what the window allows goes to the outbox at once."""
        self.bytes += request.size
        if deadline is not None:
            self._timers.set(request, deadline)
        self._waiting[request.id] = request
        self._fill()

    def on_response(self, response: Response, size: int) -> Outcome | RequestAccepted | None:
        """Return what an answer means, or None where nobody waits for it."""
        request = self._in_flight.get(response.id)
        if request is None:
            return None
        interim = request.final and response.error is None and _is_interim(response.payload)
        if interim and not request.abandoned:
            if request.accepted:
                return None
            request.accepted = True
            return RequestAccepted(request.id, response.payload, size)
        del self._in_flight[request.id]
        if request.outgoing is not None and request.outgoing.handed_out_at is None:
            self._outbox.withdraw(request.outgoing)  # somebody's guess: it must not go out as well
        self._fill()
        self._timers.stop(request)
        if request.abandoned:
            return None
        self._forget(request)
        if response.error is None:
            return Replied(request.id, response.payload, size)
        return RequestFailed(
            request.id,
            Delivery.REFUSED,
            request.method,
            request.idempotency_key,
            response.error,
            response.payload,
        )

    def cancel(self, request_id: str, now: float) -> Delivery | None:
        """Take a request back; None where it is not pending (any more)."""
        request = self._waiting.get(request_id) or self._in_flight.get(request_id)
        if request is None or request.abandoned:
            return None
        return self._abandon(request, now)

    def on_timer(self, request: PendingRequest, now: float) -> RequestFailed | None:
        """Handle a due deadline: a request's own, or the end of an abandoned one's aftermath."""
        if request.abandoned:
            del self._in_flight[request.id]
            self._fill()
            return None
        return request.failed(self._abandon(request, now), timed_out=True)

    def end(self, ending: Ending) -> list[RequestFailed]:
        """Return the outcome of every pending request, oldest first."""
        pending = [*self._in_flight.values(), *self._waiting.values()]
        self._in_flight.clear()
        self._waiting.clear()
        self.bytes = 0
        return [
            request.failed(request.delivery, ending=ending)
            for request in pending
            if not request.abandoned
        ]

    def _abandon(self, request: PendingRequest, now: float) -> Delivery:
        """Stop waiting for an answer: withdraw what has not left, else keep its place."""
        delivery = request.delivery
        self._forget(request)
        if delivery is Delivery.MAY_HAVE_EXECUTED:
            request.abandoned = True
            self._timers.set(request, now + AFTERMATH)
            return delivery
        self._timers.stop(request)
        if request.outgoing is None:
            del self._waiting[request.id]
        else:
            self._outbox.withdraw(request.outgoing)
            del self._in_flight[request.id]
            self._fill()
        return delivery

    def _forget(self, request: PendingRequest) -> None:
        self.bytes -= request.size
        request.payload = b""

    def _fill(self) -> None:
        """Move what waits to the outbox while the window has room."""
        while self._waiting and len(self._in_flight) < self._window:
            request_id, request = self._waiting.popitem(last=False)
            request.outgoing = self._outbox.text(request.payload)
            self._in_flight[request_id] = request


def _is_interim(payload: object) -> bool:
    return isinstance(payload, dict) and payload.get("status") == STATUS_ACCEPTED
