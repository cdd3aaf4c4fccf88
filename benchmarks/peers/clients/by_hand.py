"""What a client by hand needs beside its WebSocket library: the handshake's request and its ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CONNECT = {
    "type": "req",
    "id": "connect",
    "method": "connect",
    "params": {
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": {
            "id": "gateway-client",
            "version": "1",
            "platform": "linux",
            "mode": "backend",
        },
        "role": "operator",
        "scopes": ["operator.read", "operator.write"],
        "caps": [],
    },
}
LARGEST = 25 * 1024 * 1024
"""Bytes of the largest message that a client takes: the gateway's own limit."""


class Burst:
    """Counts the events of a burst, and calls ``complete`` at the last."""

    __slots__ = ("_complete", "count", "last", "left")

    def __init__(self, count: int, complete: Callable[[], object]) -> None:
        self.count = 0
        self.left = count
        self.last: Any = None
        self._complete = complete

    def on_event(self, event: dict[str, Any]) -> None:
        """Take one event, as an application's callback would."""
        if event["event"] != "bench":
            return
        self.count += 1
        self.left -= 1
        if not self.left:
            self.last = event["payload"]
            self._complete()
