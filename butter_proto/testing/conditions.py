"""What a virtual network is like: its clock, its latencies, its black holes.

Rules kept here:

* Conditions are frozen and hold for what is sent from then on.
* All randomness is jitter, drawn from one seeded source.
"""

from __future__ import annotations

from enum import Enum
from random import Random

import attrs

from butter_proto.machine import CHUNK

Address = tuple[str, int]


class Direction(Enum):
    """Which way bytes go."""

    UP = "from machine to gateway"
    DOWN = "from gateway to machine"


class Dial(Enum):
    """What becomes of a dial that does not fail."""

    OPENS = "the gateway at the address accepts it"
    NEVER_ANSWERS = "no answer ever comes"


@attrs.frozen
class Conditions:
    """How all connections behave. Times are seconds, sizes bytes."""

    latency_up: float = 0.001
    latency_down: float = 0.001
    jitter: float = 0.0
    """At most this much is added to a latency, by the seed."""
    chunk: int = CHUNK
    """The most that is delivered at once; 1 is byte by byte."""
    window: int = CHUNK
    """The most that is under way in one direction of a connection."""


@attrs.define
class VirtualClock:
    """Time that passes only when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the present time in seconds, as `time.monotonic` does."""
        return self.now

    def advance_to(self, when: float) -> None:
        """Let time pass; it never goes back."""
        self.now = max(self.now, when)


class Medium:
    """What all connections go through."""

    __slots__ = ("_black_holes", "_random", "clock", "conditions")

    def __init__(self, clock: VirtualClock, conditions: Conditions, seed: int) -> None:
        self.clock = clock
        self.conditions = conditions
        self._random = Random(seed).random  # noqa: S311 - repeatable on purpose
        self._black_holes: set[tuple[Address | None, Direction]] = set()

    def latency(self, direction: Direction) -> float:
        """Draw the seconds that something sent now is under way."""
        conditions = self.conditions
        up = direction is Direction.UP
        latency = conditions.latency_up if up else conditions.latency_down
        return latency + conditions.jitter * self._random()

    def arrival(self, direction: Direction) -> float:
        """Draw when something sent now arrives."""
        return self.clock.now + self.latency(direction)

    def stall(self, direction: Direction, address: Address | None) -> None:
        """Swallow everything in one direction of the connections to an address, or to all."""
        self._black_holes.add((address, direction))

    def heal(self) -> None:
        """End all stalls."""
        self._black_holes.clear()

    def flows(self, direction: Direction, address: Address) -> bool:
        """Tell whether bytes get through."""
        return not self._black_holes & {(None, direction), (address, direction)}
