"""The requests of one connection: ids, deadlines, and exactly one outcome each (G7).

Rules kept here:

* At most ``max_in_flight`` are on their way at once to one gateway, over all connections that share
  a `Window`; the rest wait in order, their deadlines running.
* What can be known of delivery is asked of the outbox: no byte handed out is NOT_SENT, and the
  frame is withdrawn; anything else without an answer is MAY_HAVE_EXECUTED.
* A request that was cancelled or expired after it left keeps its place in flight until its
  answer, `AFTERMATH` seconds, or the end of the connection: the gateway is still busy with it.
* What may be carried over to another connection leaves with ``end``, without an outcome (G12: only
  where the caller asked for it).
* Late, double and unknown answers are counted, never told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import attrs

from butter_proto.errors import Delivery, Ending, EndKind
from butter_proto.events import Outcome, Replied, RequestAccepted, RequestFailed
from butter_proto.frames import STATUS_ACCEPTED, Response
from butter_proto.outbox import Outbox
from butter_proto.pending import REPLAY_TOO_LATE, PendingRequest, Refusal
from butter_proto.timers import Timers
from butter_proto.window import Window

AFTERMATH: Final = 60.0
"""Seconds for which an abandoned request keeps its place in flight."""


class Postponed(Enum):
    """What an answer may mean besides an outcome."""

    POSTPONED = "refused for now; asked again later"


@attrs.frozen
class AskAgain:
    """The name of a deadline: a refused request is sent again."""

    request_id: str


@attrs.frozen
class TooLate:
    """The name of a deadline: a replay that has not left by then does not leave any more."""

    request_id: str


RequestTimer = PendingRequest | AskAgain | TooLate


class Requests:
    """The pending requests of one connection.

    ``delay`` says how long to wait before a refused request is sent again: it is given the
    gateway's hint, and how often the request was refused before.
    """

    __slots__ = (
        "_delay",
        "_in_flight",
        "_later",
        "_outbox",
        "_timers",
        "_waiting",
        "_window",
        "bytes",
    )

    def __init__(
        self,
        outbox: Outbox,
        timers: Timers[Any],
        window: Window,
        delay: Callable[[float | None, int], float],
    ) -> None:
        self._outbox = outbox
        self._timers = timers
        self._window = window
        self._delay = delay
        self._waiting: OrderedDict[str, PendingRequest] = OrderedDict()
        self._in_flight: dict[str, PendingRequest] = {}
        self._later: dict[str, PendingRequest] = {}
        self.bytes = 0
        """The size of the requests without an outcome."""

    def __len__(self) -> int:
        """Return how many have no outcome, or still keep their place in flight."""
        return len(self._waiting) + len(self._in_flight) + len(self._later)

    def add(self, request: PendingRequest, now: float) -> None:
        """Take a request in; what the window allows goes to the outbox at once.

        One that was refused on another connection waits here too as long as it was told to.
        """
        self.bytes += request.size
        if request.deadline is not None:
            self._timers.set(request, request.deadline)
        if request.boots:
            self._timers.set(TooLate(request.id), request.replay_until)
        if request.refusal is not None and request.refusal.again_at > now:
            self._ask_later(request, request.refusal)
            return
        if not self._waiting and self._window.take():  # the usual case
            self._send(request)
            return
        self._waiting[request.id] = request
        self.fill()

    def on_response(
        self, response: Response, size: int, now: float
    ) -> Outcome | RequestAccepted | Postponed | None:
        """Return what an answer means, or None where nobody waits for it."""
        request = self._in_flight.get(response.id)
        if request is None:
            return None
        if request.final and _is_interim(response):
            if request.accepted or request.abandoned:
                return None
            request.accepted = True
            return RequestAccepted(request.id, response.payload, size, request.idempotency_key)
        self._leave_flight(request)
        if request.retry_unavailable and self._postpone(request, response, now):
            return Postponed.POSTPONED
        self._stop_timers(request)
        if request.abandoned:
            return None
        self._forget(request)
        return _outcome(request, response, size)

    def cancel(self, request_id: str, now: float) -> Delivery | None:
        """Take a request back; None where it is not pending (any more)."""
        for pending in (self._waiting, self._in_flight, self._later):
            request = pending.get(request_id)
            if request is not None:
                return None if request.abandoned else self._abandon(request, now)
        return None

    def on_timer(self, timer: RequestTimer, now: float) -> RequestFailed | None:
        """Handle a due deadline: a request's own, or another one's of it."""
        match timer:
            case AskAgain():
                self._waiting[timer.request_id] = self._later.pop(timer.request_id)
                self.fill()
                return None
            case TooLate():
                request = self._waiting.get(timer.request_id) or self._in_flight[timer.request_id]
                if request.handed_out:
                    return None
                return request.failed(self._abandon(request, now), text=REPLAY_TOO_LATE)
        if timer.abandoned:
            self._leave_flight(timer)
            return None
        return timer.failed(self._abandon(timer, now), timed_out=True)

    def end(
        self,
        ending: Ending,
        gateway: str | None,
        boot_id: str | None,
        now: float,
        *,
        is_leaving: bool = False,
    ) -> tuple[list[RequestFailed], list[PendingRequest]]:
        """Return the outcomes of what ends here, and what is carried over; oldest first.

        Where it was stopped nothing is carried over, unless its gateway alone ``is_leaving``: then
        the others of its pool serve on.
        """
        carries = is_leaving or ending.kind is not EndKind.STOPPED
        pending = [*self._in_flight.values(), *self._later.values(), *self._waiting.values()]
        places = len(self._in_flight)
        self._in_flight.clear()
        self._later.clear()
        self._waiting.clear()
        self.bytes = 0
        self._window.leave(self, places)
        outcomes, carried = [], []
        for request in pending:
            if request.abandoned:
                continue
            if carries and _is_carried(request, gateway, boot_id, now):
                carried.append(request)
            else:
                outcomes.append(request.failed(request.delivery, ending=ending))
                request.forget()
            request.outgoing = None
        return outcomes, carried

    def fill(self) -> None:
        """Move what waits to the outbox while the window has room."""
        while self._waiting and self._window.take():
            self._send(self._waiting.popitem(last=False)[1])
        if self._waiting:
            self._window.wait(self)

    def _send(self, request: PendingRequest) -> None:
        """Let a request leave, on a place that was taken for it."""
        request.outgoing = self._outbox.text(request.payload)
        self._in_flight[request.id] = request

    def _leave_flight(self, request: PendingRequest) -> None:
        """Give its place back; a frame that has not left must not go out any more."""
        del self._in_flight[request.id]
        if request.outgoing is not None and request.outgoing.handed_out_at is None:
            self._outbox.withdraw(request.outgoing)  # its answer was somebody's guess
        self._window.give_back()

    def _postpone(self, request: PendingRequest, response: Response, now: float) -> bool:
        """Let a refused request wait, where there is time for it."""
        error = response.error
        if request.abandoned or error is None or not error.retryable:
            return False
        if request.accepted or response.payload is not None:  # then the method did run
            return False
        times = 0 if request.refusal is None else request.refusal.times
        again_at = now + self._delay(error.retry_after, times)
        if request.is_late(again_at):
            return False
        request.refusal = Refusal(error, times + 1, again_at)
        request.outgoing = None
        self._ask_later(request, request.refusal)
        return True

    def _ask_later(self, request: PendingRequest, refusal: Refusal) -> None:
        self._later[request.id] = request
        self._timers.set(AskAgain(request.id), refusal.again_at)

    def _abandon(self, request: PendingRequest, now: float) -> Delivery:
        """Stop waiting for an answer: withdraw what has not left, else keep its place."""
        delivery = request.delivery
        self._forget(request)
        self._stop_timers(request)
        if request.handed_out:
            request.abandoned = True
            self._timers.set(request, now + AFTERMATH)
        elif request.outgoing is not None:
            self._leave_flight(request)
        else:
            self._waiting.pop(request.id, None)
            self._later.pop(request.id, None)
        return delivery

    def _stop_timers(self, request: PendingRequest) -> None:
        self._timers.stop(request)
        if request.boots:
            self._timers.stop(TooLate(request.id))
        if request.refusal is not None:
            self._timers.stop(AskAgain(request.id))

    def _forget(self, request: PendingRequest) -> None:
        self.bytes -= request.size
        request.forget()


def _is_carried(
    request: PendingRequest, gateway: str | None, boot_id: str | None, now: float
) -> bool:
    """Tell whether a request outlives its connection, and note where it was handed out."""
    outgoing = request.outgoing
    if outgoing is not None and outgoing.handed_out_at is not None:
        if not request.replay or boot_id is None:
            return False
        if not request.boots:
            request.first_sent_at = outgoing.handed_out_at
        request.boots = {**request.boots, gateway: boot_id}
    elif not request.boots and not request.queue:
        return False
    return not request.is_late(now)


def _outcome(request: PendingRequest, response: Response, size: int) -> Outcome:
    """Return what an answer means for its request."""
    if response.error is None:
        return Replied(request.id, response.payload, size, request.idempotency_key)
    # a replay that is refused without a payload was not looked up: the first may have run
    refused = not request.boots or response.payload is not None
    return RequestFailed(
        request.id,
        Delivery.REFUSED if refused else Delivery.MAY_HAVE_EXECUTED,
        request.method,
        request.idempotency_key,
        response.error,
        response.payload,
    )


def _is_interim(response: Response) -> bool:
    payload = response.payload
    if response.error is not None or not isinstance(payload, dict):
        return False
    return payload.get("status") == STATUS_ACCEPTED
