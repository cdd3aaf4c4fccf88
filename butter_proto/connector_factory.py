"""What an adapter asks of a recorder: that it makes the connector in its place.

Rules kept here:

* The adapters know this shape alone; who records brings the rest (`butter_proto.testing.recording`
  has one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from butter_proto.connector import Connector
from butter_proto.device_auth import Signer
from butter_proto.endpoint import Endpoint
from butter_proto.settings import Settings
from butter_proto.trace import Trace


class ConnectorFactory(Protocol):
    """Makes connectors: recorded ones, say."""

    def connector(
        self,
        url: str | Endpoint,
        settings: Settings | None = None,
        *,
        random: Callable[[], float],
        entropy: Callable[[int], bytes],
        signer: Signer | None = None,
        trace: Trace | None = None,
        hold_queue: bool = False,
    ) -> Connector:
        """Make one; the arguments, and what is raised, are those of `Connector`."""
