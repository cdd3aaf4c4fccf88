"""Routing: which gateway of a pool gets a request, and where one is found again.

Rules kept here:

* A request goes to the primary; to the one that it names and to no other; or, spread, to the one
  that is online with the fewest in flight. One that leaves gets none.
* Where nobody can take it, it waits if it may, as long as there is hope that somebody comes.
* A refused call leaves everything as it was (G2).
"""

from __future__ import annotations

from typing import Any, Unpack

from butter_proto.backlog import Backlog
from butter_proto.election import Election
from butter_proto.errors import Delivery, InvalidParams, NotOnline
from butter_proto.event_queue import EventStore
from butter_proto.intake import Intake
from butter_proto.membership import Membership
from butter_proto.pool_gateway import Member
from butter_proto.request_options import Offline, RequestOptions
from butter_proto.timers import Clock


class Routing:
    """Brings the requests of a pool to its gateways."""

    __slots__ = ("_backlog", "_clock", "_election", "_intake", "_membership", "_store")

    def __init__(
        self,
        membership: Membership,
        election: Election,
        backlog: Backlog,
        intake: Intake,
        store: EventStore,
        clock: Clock,
    ) -> None:
        self._membership = membership
        self._election = election
        self._backlog = backlog
        self._intake = intake
        self._store = store
        self._clock = clock

    def request(
        self,
        method: str,
        params: Any,
        now: float,
        *,
        gateway: str | None,
        spread: bool,
        **options: Unpack[RequestOptions],
    ) -> str:
        """Take a request in and return its id; as `Pool.request`."""
        member = self._target(gateway, spread=spread)
        if member is None:
            self._check_hope(method, gateway, options.get("offline", Offline.FAIL))
        members = self._membership.members.values()
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
        """Take a request back; as `Pool.cancel`."""
        now = self._clock.advance(now)
        delivery = self._backlog.cancel(request_id)
        if delivery is not None:
            self._store.pending -= 1
            return delivery
        members = self._membership.members.values()
        cancelled = (one.connector.cancel(request_id, now) for one in members)
        return next((delivery for delivery in cancelled if delivery is not None), None)

    def _target(self, gateway: str | None, *, spread: bool) -> Member | None:
        """Return who gets a request now; None: nobody can."""
        primary = self._election.primary
        if gateway is not None:
            if spread:
                raise InvalidParams("a request names its gateway or is spread, not both")
            members = [self._membership.member(gateway)]
        elif spread:
            members = [*self._membership.members.values()]
        else:
            members = [] if primary is None else [primary]
        return min(
            (one for one in members if one.is_available),
            key=lambda one: one.connector.pending,
            default=None,
        )

    def _check_hope(self, method: str, gateway: str | None, offline: Offline) -> None:
        """Raise `NotOnline` for a request that must not wait, or would wait for nobody."""
        members = self._membership.staying(gateway)
        if offline is Offline.FAIL or not any(one.connector.has_hope for one in members):
            whom = "any gateway" if gateway is None else f"the gateway {gateway!r}"
            raise NotOnline(f"{method} was not sent: not connected to {whom}")
