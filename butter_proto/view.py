"""What is known of a gateway at any time: the part of the API that neither waits nor does I/O.

Rules kept here:

* A pool is seen as one gateway is, so that what works with one works with a pool.
* What takes more than one look is read under ``_reading``: where other threads call the machine
  meanwhile, that is its lock.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import attrs

from butter_proto.backlog import QueuedRequest
from butter_proto.client import Client
from butter_proto.connector import Connector
from butter_proto.endpoint import Endpoint
from butter_proto.errors import Ending, NotOnline
from butter_proto.events import Hello
from butter_proto.machine import State, Stats
from butter_proto.pool import Pool
from butter_proto.pool_gateway import GatewayHealth


class GatewayView:
    """The readable half of an adapter's gateway.

    Times are on the adapter's clock: ``trio.current_time``, or ``time.monotonic``.
    """

    def __init__(
        self,
        machine: Connector | Pool,
        client: Client,
        reading: AbstractContextManager[object] | None = None,
    ) -> None:
        self._machine = machine
        self._client = client
        self._reading = reading or nullcontext()

    @property
    def hello(self) -> Hello:
        """The last hello of the gateway. Raises `NotOnline` before the first."""
        if self._client.hello is None:
            raise NotOnline("there was no hello yet")
        return self._client.hello

    @property
    def endpoint(self) -> Endpoint:
        """Where the gateway is; of a pool, where its primary is, or its first one.

        Raises `NotOnline` where a pool has none.
        """
        with self._reading:
            return self._machine.endpoint

    @property
    def state(self) -> State:
        """Where the connector is."""
        return self._machine.state

    @property
    def retry_at(self) -> float | None:
        """When the next attempt begins; None where none is planned."""
        with self._reading:
            return self._machine.retry_at

    @property
    def last_ending(self) -> Ending | None:
        """How the last connection ended, if one did."""
        return self._machine.last_ending

    def queued(self) -> tuple[QueuedRequest, ...]:
        """Return what waits for a connection with ``offline=QUEUE``, oldest first."""
        with self._reading:
            return self._machine.queued()

    @property
    def stats(self) -> Stats:
        """The counters, with the events that readers here lost among the dropped ones."""
        with self._reading:
            stats = self._machine.stats
        dropped = stats.dropped_events + self._client.dropped_events
        return attrs.evolve(stats, dropped_events=dropped)


class PoolView(GatewayView):
    """What can be read of a pool besides."""

    _pool: Pool

    @property
    def primary(self) -> str | None:
        """The name of the gateway that delivers the events; None while nothing is online."""
        return self._pool.primary

    def health(self) -> tuple[GatewayHealth, ...]:
        """Tell how each gateway is, in the order in which they came in."""
        with self._reading:
            return self._pool.health()

    def _is_leaving(self, name: str) -> bool:
        """Tell whether a gateway that is removed is still there.

        Another one may have its name by now: that one stays. At the end none is waited for.
        """
        if self._client.stopped:
            return False
        return any(gateway.name == name and gateway.leaving for gateway in self.health())
