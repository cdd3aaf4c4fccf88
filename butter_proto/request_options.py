"""What a caller may say about a request, one type for every API that makes one.

Rules kept here:

* An option means the same in the core and in every adapter, alone or in a pool.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypedDict

from butter_proto.settings import Default


class Offline(Enum):
    """What becomes of a request while no connection can take it."""

    FAIL = "fail"
    """It is refused (`NotOnline`); one that was accepted and has not left yet fails NOT_SENT."""
    QUEUE = "queue"
    """It waits for the next connection, its deadline running; never one of which a byte left."""


class Auto(Enum):
    """Stands for a value that is made here."""

    AUTO = "a new idempotency key"


AUTO: Final = Auto.AUTO


class RequestOptions(TypedDict, total=False):
    """The options of a request; all may be left out."""

    timeout: float | Default | None
    """Seconds until its deadline, over 0 and at most 30 days; left out it is ``timeouts.request``
    (30 s), None is no deadline at all."""
    final: bool
    """Wait past an interim ``{"status": "accepted"}``, which is told as `RequestAccepted`."""
    offline: Offline
    """What becomes of it while no connection can take it; left out: `Offline.FAIL`."""
    replay: bool
    """Send it again where its connection fell and its answer with it: once on each new connection,
    with the same idempotency key, only to the same boot of the gateway and within 240 s of its
    first byte. Otherwise it MAY_HAVE_EXECUTED. It needs a key."""
    retry_unavailable: bool
    """Ask again, within the deadline, where the gateway refuses it as ``retryable``: it does so
    before the method runs, and may say how long to wait."""
    idempotency_key: str | Auto | None
    """Goes into the params. `AUTO` makes one where the params have none; every outcome has it."""


class PoolOptions(RequestOptions, total=False):
    """The options of a request to a pool; all may be left out."""

    gateway: str | None
    """The name of the one gateway that may get it; left out: the primary."""
    spread: bool
    """Take the gateway that is online with the fewest in flight, instead of the primary."""
