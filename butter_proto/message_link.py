"""The link of a host that owns a WebSocket: messages come and go whole.

Rules kept here:

* The host does the upgrade, frames, masks and pongs, and answers a Close frame. What it hands over
  is judged here as the other link judges bytes: size, UTF-8, close code and reason.
* Nothing that it hands over raises (G1). After the `Ending` nothing is read.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from butter_proto.counters import Counters
from butter_proto.errors import Ending, EndKind
from butter_proto.link import (
    HostClose,
    HostMessage,
    HostPong,
    Inbound,
    LinkItem,
    Opened,
    PongReceived,
    Received,
)
from butter_proto.machine import Message
from butter_proto.outbox import BAD_DATA, Outbox, clipped_reason
from butter_proto.settings import Limits, Probe

_CLOSE_CODES: Final = range(1000, 5000)
"""The codes that a Close frame may have (RFC 6455, 7.4.2)."""
_ABNORMAL: Final = 1006
"""What hosts report where no Close frame came (RFC 6455, 7.1.5)."""


class MessageLink:
    """The client side of a WebSocket whose frames a host reads and writes."""

    auto_probe = Probe.HEALTH
    reading_refusal = False

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self.outbox = Outbox(bytes, counters)  # no frame is built, so no mask is drawn
        self._limits = limits
        self._counters = counters
        self._items: deque[LinkItem] = deque()

    def start(self) -> None:
        """Begin: the host's WebSocket is open."""
        self._items.append(Opened())

    def receive(self, inbound: Inbound) -> None:
        """Take in what the host read; never raises."""
        match inbound:
            case HostMessage(data):
                self._items.append(self._judged(data))
            case HostPong(payload):
                self._items.append(PongReceived(payload))
            case _:
                assert isinstance(inbound, HostClose)
                self._items.append(_ending_of(inbound))

    def next_item(self) -> LinkItem | None:
        """Return what the inputs so far say next, or None."""
        return self._items.popleft() if self._items else None

    def data_to_send(self, now: float) -> bytes:  # noqa: ARG002 - the link's shape
        """Return ``b""``: the host writes the frames."""
        return b""

    def next_message(self, now: float) -> Message | None:
        """Take the next message for the host."""
        return self.outbox.next_message(now)

    def _judged(self, data: str | bytes) -> LinkItem:
        """Return a message, or the ending that it is."""
        size = len(data)
        largest = self._limits.max_message
        if isinstance(data, str) and size <= largest and not data.isascii():
            try:
                size = len(data.encode())
            except UnicodeEncodeError:  # a lone surrogate
                self.outbox.close(BAD_DATA, "")
                return Ending(EndKind.PROTOCOL_VIOLATION, "invalid UTF-8")
        self._counters.bytes_received += size
        if size > largest:
            return Ending(EndKind.LIMIT_EXCEEDED, f"a message over {largest} bytes")
        return Received(data, size)


def _ending_of(closed: HostClose) -> Ending:
    code = closed.code
    if code == _ABNORMAL or code not in _CLOSE_CODES:
        return Ending(EndKind.END_OF_STREAM)
    reason = clipped_reason(closed.reason or "")  # some hosts say None
    return Ending(EndKind.CLOSED_BY_PEER, close_code=code, close_reason=reason)
