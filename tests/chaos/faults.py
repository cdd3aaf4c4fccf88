"""What a network can do to a TCP stream, as data; `proxy.Proxy` does it.

Rules kept here:

* A fault is a value and does nothing by itself: what is done to the bytes either way, and how the
  line ends.
* `TABLE` has the faults by name, for tests that go through them and for the soak's script. A new
  fault is a new row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

import attrs

from butter_proto.machine import CHUNK

GARBAGE: Final = b"\xff\x00\xfe\x01 neither HTTP nor a WebSocket frame \x8f\xff" * 4
"""A first byte with every reserved bit (RFC 6455, 5.2): no peer may take it for a frame."""


CLOSE_FRAME: Final = b"\x88\x02\x03\xf4"
"""From a gateway, with the code 1012."""


class Way(Enum):
    """A direction."""

    UP = "from the client to the gateway"
    DOWN = "from the gateway to the client"


class End(Enum):
    """How a line ends, for both sides at once."""

    CUT = "the stream ends, without a Close frame"
    RESET = "a TCP reset"


@attrs.frozen
class Treatment:
    """What is done to the bytes of one direction."""

    held: bool = False
    """They are kept back, and pass when the line is healed; the sender's window fills."""
    lost: bool = False
    """They are read and thrown away."""
    over: bool = False
    """They end (FIN), and what comes later is thrown away; the other direction goes on."""
    delay: float = 0.0
    """Seconds before each chunk."""
    size: int = CHUNK
    """The most bytes that are written at once."""
    pause: float = 0.0
    """Seconds after each write."""
    change: Callable[[bytes], bytes] | None = None
    """What becomes of the next chunk; the ones after it pass as they are."""


CLEAN: Final = Treatment()
HELD: Final = Treatment(held=True)
LOST: Final = Treatment(lost=True)
OVER: Final = Treatment(over=True)


@attrs.frozen
class Fault:
    """What is done to a line; with ``at`` not before these bytes want to pass that way."""

    up: Treatment = CLEAN
    down: Treatment = CLEAN
    end: End | None = None
    at: tuple[Way, bytes] | None = None

    def treatment(self, way: Way) -> Treatment:
        """Return what is done in a direction."""
        return self.up if way is Way.UP else self.down


def with_garbage(chunk: bytes) -> bytes:
    """Put garbage into the middle of a chunk."""
    middle = len(chunk) // 2
    return chunk[:middle] + GARBAGE + chunk[middle:]


def after_garbage(chunk: bytes) -> bytes:
    """Put garbage before a chunk: where a frame would begin."""
    return GARBAGE + chunk


def with_close(chunk: bytes) -> bytes:
    """Put a Close frame in a chunk's place, but for the HTTP head that it may begin with."""
    head, blank, _ = chunk.partition(b"\r\n\r\n")
    return head + blank + CLOSE_FRAME if head.startswith(b"HTTP/") else CLOSE_FRAME


def twice(chunk: bytes) -> bytes:
    """Repeat a chunk, as a broken middlebox does."""
    return chunk + chunk


NONE: Final = Fault()

TABLE: Final[Mapping[str, Fault]] = {
    "cut": Fault(end=End.CUT),
    "reset": Fault(end=End.RESET),
    "over up": Fault(up=OVER),
    "over down": Fault(down=OVER),
    "half-open": Fault(up=LOST, down=LOST),
    "answers lost": Fault(down=LOST),
    "stall up": Fault(up=HELD),
    "stall down": Fault(down=HELD),
    "one byte at a time": Fault(Treatment(size=1), Treatment(size=1)),
    "delay": Fault(Treatment(delay=0.15), Treatment(delay=0.15)),
    "garbage up": Fault(up=Treatment(change=after_garbage)),
    "garbage down": Fault(down=Treatment(change=after_garbage)),
    "garbage in the middle up": Fault(up=Treatment(change=with_garbage)),
    "garbage in the middle down": Fault(down=Treatment(change=with_garbage)),
    "duplicate up": Fault(up=Treatment(change=twice)),
    "duplicate down": Fault(down=Treatment(change=twice)),
}
"""By name, what may happen to a line that is online; the delay is 300 ms there and back."""

CLOSED: Final = Fault(down=Treatment(change=with_close))
"""No row, as it takes a chunk's place: a chunk of a busy line may begin in the middle of a frame."""

HELLO: Final = b"hello-ok"
PHASES: Final[Mapping[str, tuple[Way, bytes]]] = {
    "upgrade": (Way.DOWN, b"HTTP/1.1 101"),
    "challenge": (Way.DOWN, b"connect.challenge"),
    "hello": (Way.DOWN, HELLO),
    "closing": (Way.UP, b"\x88\x82"),  # a masked Close frame with a code (RFC 6455, 5.5.1)
}
"""For ``Fault.at``: what ends each phase of a connection, as it passes."""
