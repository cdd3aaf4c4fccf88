"""What is known of a gateway at any time: the part of the API that neither waits nor does I/O."""

from __future__ import annotations

import attrs

from butter_proto.client import Client
from butter_proto.connector import Connector
from butter_proto.endpoint import Endpoint
from butter_proto.errors import Ending, NotOnline
from butter_proto.events import Hello
from butter_proto.machine import State, Stats


class GatewayView:
    """The readable half of an adapter's gateway.

    Times are on the adapter's clock: ``trio.current_time``, or ``time.monotonic``.
    """

    def __init__(self, machine: Connector, client: Client) -> None:
        self._machine = machine
        self._client = client

    @property
    def hello(self) -> Hello:
        """The last hello of the gateway. Raises `NotOnline` before the first."""
        if self._client.hello is None:
            raise NotOnline("there was no hello yet")
        return self._client.hello

    @property
    def endpoint(self) -> Endpoint:
        """Where the gateway is."""
        return self._machine.endpoint

    @property
    def state(self) -> State:
        """Where the connector is."""
        return self._machine.state

    @property
    def retry_at(self) -> float | None:
        """When the next attempt begins; None where none is planned."""
        return self._machine.retry_at

    @property
    def last_ending(self) -> Ending | None:
        """How the last connection ended, if one did."""
        return self._machine.last_ending

    @property
    def stats(self) -> Stats:
        """The counters, with the events that readers here lost among the dropped ones."""
        stats = self._machine.stats
        dropped = stats.dropped_events + self._client.dropped_events
        return attrs.evolve(stats, dropped_events=dropped)
