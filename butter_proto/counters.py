"""What one connector counts, over all its connections.

Rules kept here:

* One object per connector; each number is added to where the thing happens, and nowhere else.
* Cheap enough to be always on: an addition each, no clock but the ``now`` of the inputs.
* `machine.Stats` says what each number means; ``snapshot`` gives them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from butter_proto.machine import Stats

_WEIGHT: Final = 1 / 8
"""Of the newest round trip in the smoothed one (RFC 6298, 2.3)."""


@attrs.define(eq=False)
class Counters:
    """The numbers of `Stats`, to be counted up."""

    attempts: int = 0
    online: int = 0
    reconnects: int = 0
    disconnects: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    events: int = 0
    gaps: int = 0
    missed_events: int = 0
    dropped_events: int = 0
    ignored_frames: int = 0
    probes: int = 0
    misses: int = 0
    round_trip: float | None = None
    smoothed_round_trip: float | None = None
    last_received_at: float | None = None

    def gap(self, missed: int) -> None:
        """Count a gap in seq in which that many events were missed."""
        self.gaps += 1
        self.missed_events += missed

    def probe_answered(self, seconds: float) -> None:
        """Take in a round-trip time; smoothed as RFC 6298 does (the first one stands alone)."""
        self.round_trip = seconds
        before = self.smoothed_round_trip
        self.smoothed_round_trip = (
            seconds if before is None else before + _WEIGHT * (seconds - before)
        )

    def snapshot(self) -> Stats:
        """Return the numbers as they are now."""
        return Stats(*(getattr(self, name) for name in _NAMES))


def added_up(every: Sequence[Stats], trips: Stats) -> Stats:
    """Add counters up; the round trips, which cannot be added, are those of ``trips``."""
    sums = {name: sum(getattr(one, name) for one in every) for name in _COUNTED}
    heard = [one.last_received_at for one in every if one.last_received_at is not None]
    return Stats(
        **sums,
        round_trip=trips.round_trip,
        smoothed_round_trip=trips.smoothed_round_trip,
        last_received_at=max(heard, default=None),
    )


_NAMES: Final = tuple(field.name for field in attrs.fields(Stats))
_COUNTED: Final = tuple(field.name for field in attrs.fields(Stats) if field.default == 0)
