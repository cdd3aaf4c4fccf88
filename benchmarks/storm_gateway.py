"""The gateway of the storm: what it can take when it comes back.

Rules kept here:

* It is away for `Gateway.down` seconds, then takes `Gateway.rate` handshakes a second, one after
  the other, with `Gateway.backlog` more waiting. A connect that finds no place is refused.
"""

from __future__ import annotations

from typing import Final

import attrs

ENOUGH: Final = 0.99
"""The share of the clients that must be online again."""


@attrs.frozen
class Gateway:
    """What comes back. Seconds, and handshakes a second."""

    down: float = 2.0
    rate: float = 1000.0
    """A gateway on one core; peers were measured at 430 to 970 connects a second."""
    backlog: int = 511
    """Node's default for ``listen``."""
    spread: float = 0.05
    """The drop reaches the clients within this time: networks are not equal."""

    @property
    def place(self) -> float:
        """What one handshake takes, in seconds."""
        return 1 / self.rate

    @property
    def longest_queue(self) -> float:
        """How long the last one waits for whom there is a place."""
        return self.backlog * self.place
