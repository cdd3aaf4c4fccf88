"""Time inside a machine: the clock it believes, and the one table of its deadlines.

Rules kept here:

* ``now`` may repeat, go back or be non-finite; the largest usable value seen counts (G6).
* The same table answers "when next" and "which are due", so the two cannot disagree (G5).
* Setting, moving and dropping a deadline costs O(log n); idle entries cost nothing.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

LATEST = 1e12
"""Times beyond this many seconds are not believed: a float cannot hold milliseconds there."""
TICK = 0.001
"""The least time between a wake-up and the next one that is asked for, in seconds (G5)."""

_K = TypeVar("_K")


class Clock:
    """The largest usable ``now`` seen so far."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = -LATEST

    def advance(self, now: float) -> float:
        """Take in a caller's ``now`` and return the time that counts."""
        self.now = self.look(now)
        return self.now

    def look(self, now: float) -> float:
        """Return what ``advance`` would return."""
        return now if self.now < now <= LATEST else self.now  # False for NaN


class Timers(Generic[_K]):
    """Named deadlines. A name has one deadline at most; setting it again moves it."""

    __slots__ = ("_heap", "_order", "_when")

    def __init__(self) -> None:
        self._when: dict[_K, tuple[float, int, _K]] = {}
        """The entry of the heap that counts; others of that name are out of date."""
        self._heap: list[tuple[float, int, _K]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._when)

    def __contains__(self, name: object) -> bool:
        return name in self._when

    def set(self, name: _K, when: float) -> None:
        """Set or move a deadline."""
        self._order += 1
        entry = self._when[name] = (when, self._order, name)
        heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._when) + 64:
            self._heap = [*self._when.values()]
            heapify(self._heap)

    def stop(self, name: _K) -> None:
        """Drop a deadline; one that is not set is no error."""
        self._when.pop(name, None)

    def stop_all(self) -> None:
        """Drop every deadline."""
        self._when.clear()
        self._heap.clear()

    def next(self) -> float | None:
        """Return the earliest deadline, or None."""
        heap = self._heap
        while heap:
            entry = heap[0]
            if self._when.get(entry[2]) is entry:
                return entry[0]
            heappop(heap)
        return None

    def take_expired(self, now: float) -> tuple[_K, float] | None:
        """Remove and return the earliest name due at ``now`` with its deadline, or None.

        Equal deadlines come in the order in which they were set.
        """
        when = self.next()
        if when is None or when > now:
            return None
        name = heappop(self._heap)[2]
        del self._when[name]
        return name, when
