"""Who is primary, as a model of what a machine tells, and in which order.

Rules kept here (design.md: States and events, Pool):

* E1 The state events of each gateway, and those of the pool, keep their order.
* E2 There is at most one primary, the one that was told last; only its gateway events are told.
* E3 Where another one takes over, `EventsMissed` follows at once, before any event of it.
* E4 A primary that falls or leaves is replaced at once, where another one is online.
* E5 A better one takes over only after ``stable_after`` seconds online.
"""

from __future__ import annotations

from collections.abc import Callable

from butter_proto import events
from butter_proto.election import POOL_FOLLOWERS
from tests.proto.delivery_facts import Connection
from tests.proto.delivery_model import DeliveryModel


class ElectionModel:
    """Holds each event of a pool against those that were told before."""

    def __init__(
        self, clock: Callable[[], float], delivery: DeliveryModel, stable_after: float
    ) -> None:
        self._clock = clock
        self._delivery = delivery
        self._stable_after = stable_after
        self._told: dict[str | None, type[events.StateEvent] | None] = {}
        self._owes_missed = False
        self.stopping = False

    def told(self, gateway: str, event: events.Event) -> None:
        """Take note of what one gateway told; the delivery model does not know it yet."""
        if isinstance(event, events.StateEvent):
            self._check_order(gateway, event, events.FOLLOWERS)
        if isinstance(event, events.GatewayEvent):
            primary = self._delivery.primary
            assert primary is not None, "E2: only the primary's events are told"
            assert primary.gateway == gateway, "E2: only the primary's events are told"
            assert not self._owes_missed, "E3: EventsMissed stands before the first event"

    def told_of_all(self, event: events.Event) -> None:
        """Take note of what the pool told of itself; the delivery model does not know it yet."""
        if isinstance(event, events.StateEvent):
            assert not self._owes_missed, "E3: EventsMissed follows at once"
            self._check_order(None, event, POOL_FOLLOWERS)
        match event:
            case events.Online(transport_id=transport_id):
                before = self._delivery.primary
                if before is not None:
                    self._owes_missed = True
                    self._check_takes_over(self._delivery.connections[transport_id], before)
                assert self._delivery.connections[transport_id].online
            case events.Offline():
                assert self.stopping or not self._warm(), "E4: a fallen primary is replaced at once"
            case events.EventsMissed(reason=events.MissReason.PRIMARY_CHANGED):
                assert self._owes_missed, "E3: told where nothing changed"
                self._owes_missed = False

    def check(self, primaries: list[str]) -> None:
        """Hold what the pool says of itself against what it told."""
        primary = self._delivery.primary
        assert primaries == ([] if primary is None else [primary.gateway]), "E2: one primary"
        if primary is None or primary.gateway in self._delivery.leaving:
            assert self.stopping or not self._warm(), "E4: one that leaves is replaced at once"

    def _check_order(
        self, gateway: str | None, event: events.StateEvent, followers: events.Followers
    ) -> None:
        assert type(event) in followers[self._told.get(gateway)], "E1: the order of state events"
        self._told[gateway] = None if isinstance(event, events.Stopped) else type(event)

    def _check_takes_over(self, after: Connection, before: Connection) -> None:
        assert after is not before, "E5: a primary takes over from itself"
        if before.online and before.gateway not in self._delivery.leaving:
            stable = after.since + self._stable_after <= self._clock()
            assert stable, "E5: a better one takes over only once it is stable"

    def _warm(self) -> list[Connection]:
        leaving = self._delivery.leaving
        connections = self._delivery.connections.values()
        return [one for one in connections if one.online and one.gateway not in leaving]
