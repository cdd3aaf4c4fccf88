"""Queues between a machine's events and those who read them, pure: each has one reader.

Rules kept here:

* An `EventsMissed` is never filtered out and stands before the first event after the loss.
* A slow reader loses new events, not old ones, until half of its queue is free again; of states
  and notices it loses the oldest.
* Nothing here waits: an adapter passes a function that wakes its own kind of reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from butter_proto import errors, events

STATE_LIMIT: Final = 1000
"""State events, or notices, kept for one reader; above it the oldest go."""

Wake = Callable[[], None]
_T = TypeVar("_T")


class Subscription(Generic[_T]):
    """A queue that one reader takes from. ``closed`` ends it once it is empty."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._queue: deque[_T] = deque()
        self.closed = False
        self.error: errors.ConnectionEnded | None = None

    @property
    def ready(self) -> bool:
        """True where an item waits, or nothing more will come."""
        return bool(self._queue) or self.closed

    def take(self) -> _T | None:
        """Take the oldest item, or None."""
        return self._queue.popleft() if self._queue else None

    def close(self, error: errors.ConnectionEnded | None) -> None:
        """Let nothing more in; a reader gets what is left, then the error or the end."""
        if not self.closed:
            self.closed = True
            self.error = error
            self._wake()


class EventSubscription(Subscription[events.GatewayEvent | events.EventsMissed]):
    """Gateway events of some names (of all, where none is given), at most ``limit`` waiting.

    Their size is bounded too (``max_bytes``). A loss told to all counts events of any name.

    Raises `InvalidSettings` for a limit under 1.
    """

    def __init__(
        self,
        names: frozenset[str],
        limit: int,
        wake: Wake,
        max_bytes: int,
        on_lost: Callable[[], None],
    ) -> None:
        if limit < 1:
            raise errors.InvalidSettings(f"limit must be at least 1: {limit!r}")
        super().__init__(wake)
        self._names = names
        self._limit = limit
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._bytes = 0
        self._losing = False

    def offer(self, item: events.GatewayEvent | events.EventsMissed) -> None:
        """Queue an item if it is asked for and has room; else count it as lost."""
        if self.closed:
            return
        size = 0
        if type(item) is events.GatewayEvent:
            if self._names and item.name not in self._names:
                return
            size = item.size
        queue = self._queue
        if self._losing and (2 * len(queue) > self._limit or 2 * self._bytes > self._max_bytes):
            queue[-1] = _lost(queue[-1], item)  # while losing, the last item tells the loss
            self._on_lost()
            return
        self._losing = len(queue) >= self._limit or self._bytes >= self._max_bytes
        if self._losing:
            item, size = _lost(None, item), 0
            self._on_lost()
        queue.append(item)
        self._bytes += size
        if len(queue) == 1:  # who waits found it empty
            self._wake()

    def take(self) -> events.GatewayEvent | events.EventsMissed | None:
        """Take the oldest item, or None."""
        if not self._queue:
            return None
        item = self._queue.popleft()
        if type(item) is events.GatewayEvent:
            self._bytes -= item.size
        return item


def _lost(before: object, item: events.GatewayEvent | events.EventsMissed) -> events.EventsMissed:
    """Add one item to what was lost before it."""
    count = item.count if isinstance(item, events.EventsMissed) else 1
    if isinstance(before, events.EventsMissed):
        count = None if count is None or before.count is None else count + before.count
    return events.EventsMissed(events.MissReason.OVERFLOW, count)


class RecentSubscription(Subscription[_T]):
    """The latest items: a reader that is far behind misses the oldest."""

    def __init__(self, wake: Wake) -> None:
        super().__init__(wake)
        self._queue = deque(maxlen=STATE_LIMIT)

    def offer(self, item: _T) -> None:
        """Queue an item."""
        if not self.closed:
            self._queue.append(item)
            self._wake()


StateSubscription = RecentSubscription[events.StateEvent]
NoticeSubscription = RecentSubscription[events.Notice]
GatewaySubscription = RecentSubscription[events.FromGateway]
"""State events and notices of each gateway of a pool."""
