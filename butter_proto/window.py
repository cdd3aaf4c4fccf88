"""The places in flight at one gateway.

Rules kept here:

* The gateway refuses a burst past about 256 (wire.md 8), however many connections it comes over:
  they share one window, and what waits longest takes the next place.
"""

from __future__ import annotations

from typing import Protocol


class Waiter(Protocol):
    """A connection whose requests take places."""

    def fill(self) -> None:
        """Take the places that are free, or wait for them."""


class Window:
    """The places in flight at one gateway; several connections to it may share them."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[Waiter, None] = {}

    def take(self) -> bool:
        """Take a place; False: there is none."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def wait(self, waiter: Waiter) -> None:
        """Let a connection know when a place is free."""
        self._waiting[waiter] = None

    def leave(self, waiter: Waiter, places: int) -> None:
        """Give back the places of a connection that is over."""
        self._waiting.pop(waiter, None)
        self._free += places
        self._hand_on()

    def give_back(self) -> None:
        """Give a place back: what waits longest takes it."""
        self._free += 1
        if self._waiting:
            self._hand_on()

    def _hand_on(self) -> None:
        for waiter in [*self._waiting]:
            if self._free <= 0:
                return
            del self._waiting[waiter]
            waiter.fill()
