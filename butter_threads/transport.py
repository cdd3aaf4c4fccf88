"""One non-blocking socket, plain or TLS, as the selector and the driver see it.

Rules kept here:

* Nothing blocks. What would block is remembered, and the selector asked to tell when it would not.
* A chunk is sent whole before the next one is taken: what the machine hands out counts as sent.
* The socket is kept from buffering more than it can send soon: a probe leaves behind those bytes,
  and has its time to be answered from when the socket took it.
* TLS may hold bytes that the selector cannot see, so a reader reads until ``receive`` says None;
  and it may want to write in order to read.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from butter_proto.machine import CHUNK

IN_A_ROW: Final = 16
"""Chunks of one socket, each way, before the others get their turn."""
UNSENT: Final = CHUNK
"""Bytes that wait in the socket, not even sent once, beyond which it takes no more."""
_READ: Final = selectors.EVENT_READ
_WRITE: Final = selectors.EVENT_WRITE


class Transport:
    """One transport that the machine asked for; until ``use`` it is being dialled."""

    __slots__ = (
        "_blocked",
        "_chunk",
        "_reading",
        "_selector",
        "_socket",
        "_watched",
        "_writing",
        "id",
    )

    def __init__(self, transport_id: int, selector: selectors.BaseSelector) -> None:
        self.id = transport_id
        self._selector = selector
        self._socket: socket.socket | None = None
        self._chunk = memoryview(b"")
        self._reading = False
        self._writing = False
        self._blocked = False
        self._watched = 0

    @property
    def sending(self) -> bool:
        """True while the socket has not taken all of a chunk."""
        return bool(self._chunk)

    def use(self, opened: socket.socket) -> None:
        """Begin with a connected socket."""
        opened.setblocking(False)
        _keep_little_unsent(opened)
        self._socket = opened
        self._reading = self._writing = True
        self._watch()

    def receive(self) -> bytes | None:
        """Return what came, ``b""`` once at the end, None where nothing is there. Raises OSError.

        After the end, or an error, there is nothing.
        """
        if self._socket is None or not self._reading:
            return None
        try:
            data = self._socket.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._block()
            return None
        except BaseException:
            self._end_reading()
            raise
        if not data:
            self._end_reading()
        return data

    def send(self, next_chunk: Callable[[], bytes]) -> None:
        """Send the rest of a chunk, then new ones, until there are none or it blocks.

        Raises OSError once; after that nothing is sent any more.
        """
        if self._socket is None or not self._writing or self._blocked:
            return
        for _ in range(IN_A_ROW):
            self._chunk = self._chunk or memoryview(next_chunk())
            if not self._chunk:
                self._watch()
                return
            try:
                sent = self._socket.send(self._chunk)
            except ssl.SSLWantReadError:  # TLS waits for the peer; what comes tries again
                self._watch()
                return
            except (BlockingIOError, ssl.SSLWantWriteError):
                break
            except BaseException:
                self._end_writing()
                raise
            self._chunk = self._chunk[sent:]
        self._block()

    def unblock(self) -> None:
        """Take note that the selector found it writable."""
        self._blocked = False

    def close(self) -> None:
        """Close the socket; what was not sent is lost."""
        if self._socket is not None:
            self._reading = False
            self._end_writing()
            self.forget()

    def forget(self) -> None:
        """Close the descriptor alone, and leave a selector that is shared with a parent process."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _end_reading(self) -> None:
        self._reading = False
        self._watch()

    def _end_writing(self) -> None:
        self._writing = self._blocked = False
        self._chunk = memoryview(b"")
        self._watch()

    def _block(self) -> None:
        self._blocked = True
        self._watch()

    def _watch(self) -> None:
        """Ask the selector for what this transport now waits for."""
        wanted = self._reading * _READ | self._blocked * _WRITE
        if wanted == self._watched or self._socket is None:
            return
        if not self._watched:
            self._selector.register(self._socket, wanted, self)
        elif wanted:
            self._selector.modify(self._socket, wanted, self)
        else:
            self._selector.unregister(self._socket)
        self._watched = wanted


def _keep_little_unsent(opened: socket.socket) -> None:
    """Bound what waits in the kernel, on systems that can; Linux would take 4 MiB by itself."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with suppress(OSError):  # a socket of another family
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
