"""Waking a selector from another thread: a pair of sockets, one of which the selector watches."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from typing import Final

_MANY: Final = 4096


class Waker:
    """Wakes one selector; its key's ``data`` there is the waker itself."""

    __slots__ = ("_receiver", "_sender")

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        selector.register(self._receiver, selectors.EVENT_READ, self)

    def wake(self) -> None:
        """Wake the selector, from any thread; not once it is closed."""
        with suppress(BlockingIOError):  # full: it will wake up anyway
            self._sender.send(b"\0")

    def woken(self) -> None:
        """Take note that it woke up."""
        with suppress(BlockingIOError):
            self._receiver.recv(_MANY)

    def close(self) -> None:
        """Close both sockets."""
        self._receiver.close()
        self._sender.close()
