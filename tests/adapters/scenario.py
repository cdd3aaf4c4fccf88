"""What the scenarios share: settings for short tests, and what they wait for."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from butter_proto.events import StateEvent
from butter_proto.settings import KeepaliveSettings, ReconnectSettings, Settings
from butter_proto.testing import StandInGateway
from tests.adapters.subject import PATIENCE, Ended, Stream

TOKEN: Final = "s3cret-token"
_SOON: Final = ReconnectSettings(base=0.02, cap=0.05, minimum=0.01)
QUICK: Final = Settings(reconnect=_SOON)
"""Comes back in milliseconds."""
WATCHFUL: Final = Settings(
    reconnect=_SOON, keepalive=KeepaliveSettings(interval=0.1, timeout=0.1, misses=2)
)
"""Finds a silent peer gone in a third of a second."""
PATIENT: Final = Settings(reconnect=ReconnectSettings(base=3600, cap=3600, minimum=600))
"""Comes back when it is told to."""

_T = TypeVar("_T", bound=StateEvent)


def until(states: Stream, kind: type[_T]) -> _T:
    """Wait for the next state event of a kind."""
    while not isinstance(state := states.get(), kind):
        pass
    return state


def rest_of(stream: Stream) -> list[Any]:
    """Read a stream to its end."""
    items = []
    try:
        while True:
            items.append(stream.get())
    except Ended:
        return items


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that nothing tells of."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


class Unanswered:
    """Lets a stand-in take requests of a method and never answer them."""

    def __init__(self, stand_in: StandInGateway, method: str) -> None:
        self._asked = threading.Event()
        stand_in.reply(method, lambda _: self._asked.set(), delay=math.inf)

    def wait(self) -> None:
        """Wait until the gateway has read one; it was sent, then."""
        assert self._asked.wait(PATIENCE)
        self._asked.clear()
