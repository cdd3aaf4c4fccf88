"""The event lane: usual events, from their texts to the queue in one loop.

Rules kept here:

* The usual event has the next ``seq``, a name that came before and says nothing secret, and a
  place in the queue of a connector that stands alone. All else is handed back, read once, and
  `Connection` decides what it means.
* What is told, counted and kept is the same without the lane; the differential tests hold that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from typing import Any, Final

from butter_proto.events import GatewayEvent
from butter_proto.frames import EVENT_SHUTDOWN, InvalidFrame
from butter_proto.link import LinkItem, Received

MOST_SEQ: Final = 2**52
"""From here on no event is usual: JavaScript counts to twice that (`frames.whole_number`)."""
Item = tuple[LinkItem | None, Any]
"""An item of the link, None where there is no more; with a message what its text says: JSON, or
the `InvalidFrame` that it is."""


class EventLane:
    """The lane of one connection."""

    __slots__ = ("_names", "_next_item", "_read")

    def __init__(
        self,
        next_item: Callable[[], LinkItem | None],
        read: Callable[[str | bytes], Any],
        names: Container[str],
    ) -> None:
        """``next_item`` is the link's, ``read`` is `frames.reader`'s, ``names`` came before."""
        self._next_item = next_item
        self._read = read
        self._names = names

    def next_item(self) -> Item:
        """Take the next item, and read it."""
        item = self._next_item()
        if type(item) is not Received:
            return item, None
        try:
            return item, self._read(item.data)
        except InvalidFrame as error:
            return item, error

    def take(self, seq: int, into: deque[Any]) -> tuple[int, int, Item]:
        """Put usual events ``into`` a queue; ``seq`` is the first one's, and under `MOST_SEQ`.

        Returns the ``seq`` that comes next, the size of the events in bytes, and the first item
        that is not one of them.
        """
        next_item, read, names, put = self._next_item, self._read, self._names, into.append
        size = 0
        while True:
            item = next_item()
            if type(item) is not Received:
                return seq, size, (item, None)
            try:
                message = read(item.data)
            except InvalidFrame as error:
                return seq, size, (item, error)
            if type(message) is not dict or message.get("seq") != seq:
                return seq, size, (item, message)
            get = message.get
            name = get("event")
            if (
                get("type") != "event"
                or type(name) is not str
                or name not in names
                or name == EVENT_SHUTDOWN
                or type(message["seq"]) is not int
            ):
                return seq, size, (item, message)
            put(GatewayEvent(name, get("payload"), seq, get("stateVersion"), item.size))
            size += item.size
            seq += 1
