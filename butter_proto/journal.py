"""What an adapter logs: one line per state change, with the id of the transport it is about.

And one where a store keeps Online waiting for too long; why a store failed its keeper says.

Rules kept here:

* An `Ending` is redacted before it is told, so no line has a secret; payloads are in none (G11).
* A line is one line: what a peer wrote cannot add another.
* Only giving up, and a token that may be lost, are warnings: a program that set up no logging sees
  warnings on stderr, and it is told of everything by events anyway.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, assert_never

from butter_proto import events
from butter_proto.connection import STORING_LIMIT
from butter_proto.printable import printable

_Journaled = events.StateEvent | events.DeviceTokenNotStored


class Level(IntEnum):
    """The levels of the standard library's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30


_NOT_STORED: Final = {
    True: (Level.WARNING, f"a new device token is not stored after {STORING_LIMIT:g} s"),
    False: (Level.DEBUG, "a new device token is not stored"),
}


class Journal:
    """Writes the lines of one connector, or of a pool.

    There each gateway's begin with its name, and those of the pool as a whole with "pool": they
    are about no transport.
    """

    __slots__ = ("_of_pool", "_transport_ids")

    def __init__(self, *, of_pool: bool = False) -> None:
        self._of_pool = of_pool
        self._transport_ids: dict[str | None, int] = {}

    def line(self, event: events.PoolEvent) -> tuple[Level, str] | None:
        """Return what to log about an event; None: nothing."""
        gateway: str | None = None
        if isinstance(event, events.FromGateway):
            gateway, event = event.gateway, event.event
        if not isinstance(event, _Journaled):
            return None
        if isinstance(event, events.Connecting | events.Online):
            self._transport_ids[gateway] = event.transport_id
        if isinstance(event, events.DeviceTokenNotStored):
            level, text = _NOT_STORED[event.timed_out]
        else:
            level, text = _said(event)
        line = f"{self._about(gateway)}: {printable(text)}"
        if isinstance(event, events.Stopped):  # where it leaves a pool nothing more comes
            self._transport_ids.pop(gateway, None)
        return level, line

    def _about(self, gateway: str | None) -> str:
        if self._of_pool and gateway is None:
            return "pool"
        name = "" if gateway is None else f"{printable(gateway)}: "
        return f"{name}transport {self._transport_ids.get(gateway, 0)}"


def _said(event: events.StateEvent) -> tuple[Level, str]:
    match event:
        case events.Connecting(attempt=attempt):
            return Level.DEBUG, f"connecting, attempt {attempt}"
        case events.Online(hello=hello):
            return Level.INFO, f"online, gateway {hello.server_version or 'of unknown version'}"
        case events.Offline(ending=ending):
            return Level.INFO, f"offline: {ending}"
        case events.Retrying(ending=ending, attempt=attempt, delay=delay):
            return Level.INFO, f"{ending}; attempt {attempt} in {delay:.2f} s"
        case events.GaveUp(ending=ending, advice=advice):
            return Level.WARNING, f"gave up: {ending}. {advice}"
        case events.Stopped():
            return Level.DEBUG, "stopped"
        case _:
            assert_never(event)
