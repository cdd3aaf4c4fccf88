"""One direction of one virtual TCP connection: bytes in order, in time, and in bounds.

Rules kept here:

* Bytes are never doubled, overtaken or lost but by a reset; a pipe ends once.
* At most ``window`` bytes are under way; what was written beyond waits, and while something waits
  the writer must not take its next chunk.
* ``arrival`` is when what is sent now can be read; it never falls behind an earlier one.
"""

from __future__ import annotations

from collections import deque
from enum import Enum


class End(Enum):
    """How a pipe ends."""

    FIN = "after everything that was written"
    RESET = "at once; what is under way is lost"


class Pipe:
    """Written at one end, read at the other."""

    __slots__ = ("_end", "_size", "_under_way", "_waiting")

    def __init__(self) -> None:
        self._under_way: deque[tuple[float, memoryview | End]] = deque()
        self._size = 0
        self._waiting = memoryview(b"")
        self._end: End | None = None

    @property
    def blocked(self) -> bool:
        """Whether something waits for room: the writer's last chunk is not taken yet."""
        return bool(self._waiting)

    @property
    def next_arrival(self) -> float | None:
        """When there is next something to read, or None."""
        return self._under_way[0][0] if self._under_way else None

    def write(self, data: bytes, arrival: float, window: int) -> None:
        """Write behind what was written before; after the end nothing is taken."""
        if self._end is None:
            self._waiting = memoryview(bytes(self._waiting) + data)
            self.advance(arrival, window)

    def advance(self, arrival: float, window: int) -> None:
        """Send what waits, as far as there is room."""
        part = self._waiting[: max(0, window - self._size)]
        if not part:
            return
        self._waiting = self._waiting[len(part) :]
        self._size += len(part)
        self._send(arrival, part)
        if self._end is not None and not self._waiting:
            self._send(arrival, self._end)

    def finish(self, arrival: float) -> None:
        """End behind what was written."""
        if self._end is None:
            self._end = End.FIN
            if not self._waiting:
                self._send(arrival, End.FIN)

    def hang_up(self, arrival: float) -> None:
        """End behind what is under way; what waits is lost."""
        if self._waiting:
            self._waiting = memoryview(b"")
            self._end = None
        self.finish(arrival)

    def reset(self, arrival: float) -> None:
        """Lose everything, and end with a reset."""
        self.close()
        self._send(arrival, End.RESET)

    def close(self) -> None:
        """Lose everything: nobody reads any more."""
        self._under_way.clear()
        self._size = 0
        self._waiting = memoryview(b"")
        self._end = End.RESET

    def read(self, now: float, limit: int) -> bytes | End:
        """Read at most ``limit`` bytes of what has arrived, or the end."""
        data = bytearray()
        while self._under_way and self._under_way[0][0] <= now and len(data) < limit:
            arrival, item = self._under_way[0]
            if isinstance(item, End):
                if data:
                    break
                self._under_way.popleft()
                return item
            part = item[: limit - len(data)]
            data += part
            if len(part) < len(item):
                self._under_way[0] = (arrival, item[len(part) :])
            else:
                self._under_way.popleft()
        self._size -= len(data)
        return bytes(data)

    def _send(self, arrival: float, item: memoryview | End) -> None:
        if self._under_way:
            arrival = max(arrival, self._under_way[-1][0])
        self._under_way.append((arrival, item))
