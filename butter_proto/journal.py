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
    """Writes the lines of one connector, or of a pool: there each gateway's begin with its name."""

    __slots__ = ("_transport_ids",)

    def __init__(self) -> None:
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
        name = "" if gateway is None else f"{printable(gateway)}: "
        transport_id = self._transport_ids.get(gateway, 0)
        return level, f"{name}transport {transport_id}: {printable(text)}"


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
