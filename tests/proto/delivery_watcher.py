"""Watches a connector or a pool from outside, for the models.

Rules kept here:

* Seen is what it tells (``next_event``) and which requests it begins to hand out
  (``data_to_send``), in the order in which that happens. The masks are zero on this stage, and the
  first frame of a message is never cut, so that a request can be read in the bytes.
"""

from __future__ import annotations

import re
from typing import Final

from butter_proto import Connector, Pool, events
from butter_proto.frames import METHOD_CONNECT
from tests.proto.delivery_facts import ALONE
from tests.proto.delivery_model import DeliveryModel
from tests.proto.election_model import ElectionModel

_SENT: Final = re.compile(rb'"type":"req","id":"(\d+)","method":"(?!%s")' % METHOD_CONNECT.encode())


class Watcher:
    """Tells both models what one machine does."""

    def __init__(self, delivery: DeliveryModel, election: ElectionModel) -> None:
        self._delivery = delivery
        self._election = election

    def pulled(self, event: events.PoolEvent) -> None:
        """Take note of an event. What a connector alone tells is told of the whole, too."""
        delivery, election = self._delivery, self._election
        if isinstance(event, events.FromGateway):
            election.told(event.gateway, event.event)
            delivery.told(event.gateway, event.event)
        elif ALONE in delivery.origins:
            election.told(ALONE, event)
            delivery.told(ALONE, event)
            delivery.told_of_all(event)
        else:
            election.told_of_all(event)
            delivery.told_of_all(event)
            if isinstance(event, events.Outcome):
                delivery.told(ALONE, event)

    def handed_out(self, transport_id: int, data: bytes) -> None:
        """Take note of bytes for the wire."""
        for found in _SENT.finditer(data):
            self._delivery.sent(found[1].decode(), transport_id)


class WatchedConnector(Connector):
    """A connector whose outputs are seen by a `Watcher`."""

    watcher: Watcher

    def next_event(self) -> events.Event | None:
        event = super().next_event()
        if event is not None:
            self.watcher.pulled(event)
        return event

    def data_to_send(self, transport_id: int) -> bytes:
        data = super().data_to_send(transport_id)
        self.watcher.handed_out(transport_id, data)
        return data


class WatchedPool(Pool):
    """The same of a pool."""

    watcher: Watcher

    def next_event(self) -> events.PoolEvent | None:
        event = super().next_event()
        if event is not None:
            self.watcher.pulled(event)
        return event

    def data_to_send(self, transport_id: int) -> bytes:
        data = super().data_to_send(transport_id)
        self.watcher.handed_out(transport_id, data)
        return data
