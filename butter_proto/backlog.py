"""The requests between two connections: those that wait for one, and those to be sent again.

Rules kept here:

* The queue is first in first out; what a connection did not send comes back to its head. It is
  bounded by count and bytes where a request comes in, never where one comes back.
* A replay goes only to the boot of the gateway that may have executed it, once on each of its
  connections, within `REPLAY_WITHIN` seconds of its first byte. Another gateway stands for the same
  boot only where the caller says that they share their state.
* Deadlines run on here. Each request leaves by ``release``, ``cancel``, or with its one outcome.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from butter_proto.codec import load_json
from butter_proto.errors import Delivery, Ending, PendingFull
from butter_proto.events import RequestFailed
from butter_proto.pending import REPLAY_TOO_LATE, PendingRequest
from butter_proto.settings import Limits
from butter_proto.standing import Standing
from butter_proto.timers import Timers

OTHER_BOOT: Final = "the gateway has been started anew: it is not sent again"


@attrs.frozen
class QueuedRequest:
    """One request that waits for a connection, as a copy."""

    id: str
    method: str
    idempotency_key: str | None = attrs.field(repr=False)
    deadline: float | None
    """On the clock of ``now``; None: it waits for ever."""
    size: int
    """In bytes, as it goes onto the wire."""
    gateway: str | None
    """The one gateway of a pool that may get it; None: any."""
    final: bool
    replay: bool
    retry_unavailable: bool
    _payload: bytes = attrs.field(repr=False)

    @property
    def params(self) -> Any:
        """What it was given, the idempotency key among it; None where there were none."""
        return load_json(self._payload.decode()).get("params")

    def export(self, now: float) -> dict[str, Any]:
        """Return the keyword arguments that make it again, as plain JSON.

        Its ``timeout`` is what is left of it at ``now``, at least 1 ms. It may be executed twice
        where it is made again and left in the queue as well.
        """
        made: dict[str, Any] = {
            "method": self.method,
            "params": self.params,
            "timeout": None if self.deadline is None else max(self.deadline - now, 0.001),
            "final": self.final,
            "replay": self.replay,
            "retry_unavailable": self.retry_unavailable,
        }
        return made if self.gateway is None else {**made, "gateway": self.gateway}


class Backlog:
    """What no connection has. ``tell`` queues an outcome."""

    __slots__ = (
        "_limits",
        "_queue",
        "_queued_bytes",
        "_replays",
        "_shared_state",
        "_tell",
        "_timers",
        "bytes",
    )

    def __init__(
        self,
        limits: Limits,
        tell: Callable[[RequestFailed], None],
        *,
        shared_state: bool = False,
    ) -> None:
        self._limits = limits
        self._tell = tell
        self._shared_state = shared_state
        self._queue: OrderedDict[str, PendingRequest] = OrderedDict()
        self._replays: OrderedDict[str, PendingRequest] = OrderedDict()
        self._timers: Timers[PendingRequest] = Timers()
        self._queued_bytes = 0
        self.bytes = 0
        """The size of everything here."""

    # --- what comes in ----------------------------------------------------------------------

    def check_room(self, size: int) -> None:
        """Raise `PendingFull` where the queue cannot take a request of ``size`` bytes."""
        limits = self._limits
        if len(self._queue) >= limits.max_queued:
            raise PendingFull(f"{limits.max_queued} requests are queued (max_queued)")
        if self._queued_bytes + size > limits.max_queued_bytes:
            raise PendingFull(f"over {limits.max_queued_bytes} bytes are queued (max_queued_bytes)")

    def add(self, request: PendingRequest) -> None:
        """Put a new request behind the others."""
        self._take_in(self._queue, request)

    def carry(self, requests: Iterable[PendingRequest]) -> None:
        """Take over what a connection leaves behind, oldest first."""
        unsent = []
        for request in requests:
            if request.boots:
                self._take_in(self._replays, request)
            else:
                unsent.append(request)
        if unsent:
            waiting = sorted((*unsent, *self._queue.values()), key=lambda request: request.order)
            for request in unsent:
                self._take_in(self._queue, request)
            for request in waiting:
                self._queue.move_to_end(request.id)

    # --- what leaves ------------------------------------------------------------------------

    def meet(self, gateway: str | None, boot_id: str | None) -> None:
        """Give up the replays that wait for this gateway, if it is another process now."""
        for request in [*self._replays.values()]:
            if request.boots.get(gateway, boot_id) != boot_id:
                self._fail(request, text=OTHER_BOOT)

    def release(self, standing: Standing, boot_id: str | None, now: float) -> list[PendingRequest]:
        """Return what a connection may send now: the replays, then the queue."""
        if standing.held or standing.is_leaving:
            return []
        released = [
            request
            for request in (*self._replays.values(), *self._queue.values())
            if self._may_go(request, standing, boot_id) and not request.is_late(now)
        ]
        for request in released:
            self._take_out(request)
        return released

    def cancel(self, request_id: str) -> Delivery | None:
        """Take a request back; None where it is not here."""
        request = self._replays.get(request_id) or self._queue.get(request_id)
        if request is None:
            return None
        self._take_out(request)
        request.forget()
        return request.delivery

    def handle_timeout(self, now: float) -> None:
        """Tell the outcome of everything due at ``now``."""
        while (expired := self._timers.take_expired(now)) is not None:
            request, when = expired
            if when == request.deadline:
                self._fail(request, timed_out=True)
            else:
                self._fail(request, text=REPLAY_TOO_LATE)

    def end(self, ending: Ending | None) -> None:
        """Tell the outcome of everything: no connection will come."""
        for request in [*self._replays.values(), *self._queue.values()]:
            self._fail(request, ending=ending)

    def forsake(self, gateway: str, ending: Ending | None) -> None:
        """Tell the outcome of what only this gateway may get: it will not come back."""
        for request in [*self._replays.values(), *self._queue.values()]:
            only_there = request.boots and set(request.boots) == {gateway}
            if request.gateway == gateway or (only_there and not self._shared_state):
                self._fail(request, ending=ending)

    # --- what is here -----------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """Return when the next deadline is due."""
        return self._timers.next()

    def queued(self) -> tuple[QueuedRequest, ...]:
        """Return copies of the queue's requests, oldest first."""
        return tuple(
            QueuedRequest(
                request.id,
                request.method,
                request.idempotency_key,
                request.deadline,
                request.size,
                request.gateway,
                request.final,
                request.replay,
                request.retry_unavailable,
                request.payload,
            )
            for request in self._queue.values()
        )

    # --- inside -----------------------------------------------------------------------------

    def _may_go(self, request: PendingRequest, standing: Standing, boot_id: str | None) -> bool:
        name = standing.name
        if request.gateway is not None and request.gateway != name:
            return False
        if not request.boots:
            return standing.primary or request.gateway == name
        if boot_id is not None and boot_id in request.boots.values():
            return True
        stands_for_it = self._shared_state and standing.primary and boot_id is not None
        return stands_for_it and name not in request.boots

    def _take_in(self, waiting: OrderedDict[str, PendingRequest], request: PendingRequest) -> None:
        waiting[request.id] = request
        self.bytes += request.size
        if not request.boots:
            self._queued_bytes += request.size
        if request.leaves_by < math.inf:
            self._timers.set(request, request.leaves_by)

    def _take_out(self, request: PendingRequest) -> None:
        self._timers.stop(request)
        self.bytes -= request.size
        if request.boots:
            del self._replays[request.id]
        else:
            del self._queue[request.id]
            self._queued_bytes -= request.size

    def _fail(
        self,
        request: PendingRequest,
        *,
        timed_out: bool = False,
        ending: Ending | None = None,
        text: str = "",
    ) -> None:
        self._take_out(request)
        request.forget()
        self._tell(request.failed(request.delivery, timed_out=timed_out, ending=ending, text=text))
