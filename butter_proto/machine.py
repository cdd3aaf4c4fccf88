"""The contract between a machine and the driver that does its I/O.

A machine is pure: it decides, the driver moves bytes. A driver

1. feeds inputs (``transport_opened``, ``receive_data``, ``transport_failed``, ``handle_timeout``;
   with ``framing=MESSAGES`` ``receive_message``, ``receive_pong`` and ``transport_closed`` instead
   of ``receive_data``), each with the present monotonic time in seconds;
2. after every input pulls all queues: ``next_command`` and ``next_event`` until None,
   ``data_to_send`` of each open transport (until ``b""``, and again only when the socket took the
   last chunk; with ``framing=MESSAGES`` ``next_message`` likewise), and asks ``next_timeout`` for
   its next wake-up;
3. ends when ``finished`` is True.

A driver whose write had to wait calls ``handle_timeout`` before it pulls the next chunk, so that
what it hands out is dated by the present and not by the last input.

Three queues, not one: a blocked write must not hold back events, and CloseTransport must overtake
bytes that can never be sent. ``docs/contract.md`` has the guarantees G1 to G12.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, Protocol

import attrs

from butter_proto import events
from butter_proto.errors import Ending, TransportFault
from butter_proto.proxy_address import ProxyAddress
from butter_proto.settings import Framing

CHUNK: Final = 64 * 1024
"""The most bytes that one ``data_to_send`` returns."""


class State(Enum):
    """Where a connector is."""

    IDLE = "idle"
    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting"
    """For its next attempt at ``retry_at``."""
    BLOCKED = "blocked"
    """Gave up until told otherwise."""
    STOPPED = "stopped"


STATE_AFTER: Final[Mapping[type[events.StateEvent] | None, State]] = {
    None: State.IDLE,
    events.Connecting: State.CONNECTING,
    events.Online: State.ONLINE,
    events.Offline: State.WAITING,
    events.Retrying: State.WAITING,
    events.GaveUp: State.BLOCKED,
    events.Stopped: State.STOPPED,
}
"""The state is what the last state event says."""


@attrs.frozen
class OpenTransport:
    """Dial this, then report ``transport_opened`` or ``transport_failed`` with ``id``.

    ``host`` is what to resolve and dial: ``localhost`` for every name under it (RFC 6761, 6.3).
    Where ``proxy`` is not None, dial that one and let it connect to ``host`` and ``port``
    (proxy.py), then do TLS, if any, with the host. It is None for loopback.
    ``server_name`` is the name to verify and to send as SNI where ``tls`` is True. Where ``pinned``
    is True the machine compares the peer's certificate itself, before it sends anything: a driver
    whose user gave no trust of his own then verifies nothing, so that a self-signed gateway is
    reached by its pin, and must pass the certificate to ``transport_opened``. With
    ``framing=MESSAGES`` the host opens a WebSocket to ``url`` instead and reports
    ``transport_opened`` when that is open, the upgrade done; it must know names under
    ``.localhost`` for loopback too, as browsers do.
    """

    id: int
    host: str
    port: int
    tls: bool
    server_name: str
    proxy: ProxyAddress | None
    framing: Framing
    url: str = attrs.field(repr=False)
    pinned: bool = False


@attrs.frozen
class CloseTransport:
    """Drop this transport now: unsent bytes are lost, a dial is cancelled.

    A host whose WebSocket cannot be dropped (a browser's) closes it and forgets it.
    """

    id: int


Command = OpenTransport | CloseTransport


@attrs.frozen
class Text:
    """A text message for a host that speaks WebSocket itself."""

    text: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")


@attrs.frozen
class Ping:
    """A WebSocket ping for such a host; its pong is due as ``receive_pong``.

    Only `Probe.PING` makes any.
    """

    payload: bytes


@attrs.frozen
class Close:
    """A WebSocket close for such a host, the last message of its transport.

    The host closes its WebSocket and reports ``transport_closed`` when that is done; until then
    ``timeouts.close`` runs. A browser's ``close()`` takes only 1000 and 3000..4999: for any other
    code a host there closes with 1000.
    """

    code: int
    reason: str


Message = Text | Ping | Close


@attrs.frozen
class Stats:
    """What a machine has counted so far, over all its connections."""

    attempts: int = 0
    """Connections begun."""
    online: int = 0
    """Hellos accepted."""
    reconnects: int = 0
    """Hellos accepted after the first one."""
    disconnects: int = 0
    """Endings after Online that the application did not ask for."""
    messages_received: int = 0
    """WebSocket messages taken in whole; pings, pongs and Close frames are none."""
    messages_sent: int = 0
    """WebSocket messages of which a byte was handed out."""
    bytes_received: int = 0
    """Bytes of the transports, or the UTF-8 size of messages with ``framing=MESSAGES``. What comes
    after a Close frame of ours is not taken in."""
    bytes_sent: int = 0
    """The same of what was handed out."""
    events: int = 0
    """Gateway events received, ticks included."""
    gaps: int = 0
    """Gaps seen in ``seq``."""
    missed_events: int = 0
    """Events that the gateway did not send, by those gaps."""
    dropped_events: int = 0
    """Events received that found no room because nobody pulled; with an adapter also those that a
    reader of its events lost, once for each reader."""
    ignored_frames: int = 0
    """Messages that were JSON objects but no frame or answer that is known here."""
    probes: int = 0
    """Probes asked."""
    misses: int = 0
    """Probes not answered in time."""
    round_trip: float | None = None
    """The last round trip of a probe, in seconds."""
    smoothed_round_trip: float | None = None
    """All of them, each new one with a weight of 1/8 (RFC 6298), in seconds."""
    last_received_at: float | None = None
    """When the last inbound byte came, on the clock of ``now``; of the present connection or of
    the last one that heard anything."""

    def age(self, now: float) -> float | None:
        """Return the seconds since the last inbound byte: the measure of health (lesson 37).

        None before the first byte.
        """
        last = self.last_received_at
        return None if last is None else max(0.0, now - last)


class Machine(Protocol):
    """What a driver may call. Transport inputs never raise (G1) and may be repeated or late."""

    # inputs; after each of them all queues may hold something new

    def transport_opened(
        self, transport_id: int, now: float, certificate: bytes | None = None
    ) -> None:
        """Tell that a transport is open; ``certificate`` is the peer's leaf (DER) after TLS.

        Pull everything: where pins are set, one that matches none ends the connection.
        """

    def receive_data(self, transport_id: int, data: bytes, now: float) -> None:
        """Hand over what was read; ``b""`` is the end of the stream."""

    def transport_failed(self, transport_id: int, fault: TransportFault, now: float) -> None:
        """Tell that a transport could not be opened, or broke."""

    def receive_message(self, transport_id: int, message: str | bytes, now: float) -> None:
        """Hand over a message that the host's WebSocket read; only with ``framing=MESSAGES``."""

    def receive_pong(self, transport_id: int, payload: bytes, now: float) -> None:
        """Hand over a pong that it read; only with ``framing=MESSAGES``."""

    def transport_closed(
        self, transport_id: int, code: int | None, reason: str, now: float
    ) -> None:
        """Tell that it is closed; ``code`` None or 1006: without a Close frame."""

    def handle_timeout(self, now: float) -> None:
        """Let everything happen that is due. Early, late and repeated calls are safe (G5)."""

    # outputs

    def next_command(self) -> Command | None:
        """Take the next command, first in first out."""

    def data_to_send(self, transport_id: int) -> bytes:
        """Take at most 64 KiB for the wire; ``b""``: nothing now. Taken is handed out."""

    def next_message(self, transport_id: int) -> Message | None:
        """Take the next message for the host; None: nothing now. Only with ``framing=MESSAGES``."""

    def next_event(self) -> events.PoolEvent | None:
        """Take the next event; those of a pool's gateways have their names."""

    def next_timeout(self) -> float | None:
        """Return when ``handle_timeout`` is next due, on the clock of ``now``; None: never."""

    # state

    @property
    def state(self) -> State:
        """Where the machine is."""

    @property
    def retry_at(self) -> float | None:
        """When the next attempt begins; None where none is planned."""

    @property
    def finished(self) -> bool:
        """True once Stopped was queued: no input does anything any more."""

    @property
    def last_ending(self) -> Ending | None:
        """How the last connection ended, if one did."""

    @property
    def stats(self) -> Stats:
        """The counters."""
