"""A stand-in gateway on a real port, served by a thread, for tests.

    with serve(StandInGateway(token="t")) as url, connect(url, token="t") as gateway:
        ...

Rules kept here:

* What a test scripts (``push``, ``drop``, ``restart``...) is done at once, whichever thread it
  comes from. Functions given to ``reply`` are called in the serving thread; what one raises ends
  that thread, and is raised again when the ``with`` ends.
* Dials are refused while the stand-in does not listen; the port stays the same.
* Every socket is closed when the ``with`` ends.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Final

from butter_proto.endpoint import Endpoint
from butter_proto.testing import StandInGateway
from butter_threads.transport import Transport
from butter_threads.waker import Waker

_LINGER_0: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""SO_LINGER on, for 0 seconds: closing sends a reset."""


class _Peer:
    """One accepted socket."""

    __slots__ = ("accepted", "ended", "transport")

    def __init__(self, transport: Transport, accepted: socket.socket) -> None:
        self.transport = transport
        self.accepted = accepted
        self.ended = False
        transport.use(accepted)


class _Server:
    """Moves bytes between a stand-in and its sockets, in one thread."""

    def __init__(self, stand_in: StandInGateway, door: socket.socket) -> None:
        self._stand_in = stand_in
        self._address = door.getsockname()
        self._family = door.family
        self._selector = selectors.DefaultSelector()
        self._numbers = count(1)
        self._peers: dict[int, _Peer] = {}
        self._door: socket.socket | None = None
        self._waker = Waker(self._selector)
        self._ended = False
        self.failure: BaseException | None = None
        """What ended the thread before its time."""
        self._open(door)

    def wake(self) -> None:
        """Let the thread look again: something was scripted."""
        with suppress(OSError):  # closed: it has ended
            self._waker.wake()

    def end(self) -> None:
        """Let the thread close everything and end."""
        self._ended = True
        self.wake()

    def run(self) -> None:
        """Serve until `end` is called."""
        try:
            while not self._ended:
                for key, ready in self._selector.select(self._patience()):
                    self._on_ready(key, ready)
                self._stand_in.handle_timeout(time.monotonic())
                self._pump()
        except BaseException as error:  # noqa: BLE001 - raised again where the ``with`` ends
            self.failure = error
        finally:
            for peer in [*self._peers.values()]:
                self._lose(peer.transport)
            self._close_door()
            self._selector.close()
            self._waker.close()

    def _patience(self) -> float | None:
        due = self._stand_in.next_timeout()
        return None if due is None else max(due - time.monotonic(), 0.0)

    def _on_ready(self, key: selectors.SelectorKey, ready: int) -> None:
        if key.data is self._waker:
            self._waker.woken()
        elif isinstance(key.data, Transport):
            if ready & selectors.EVENT_WRITE:
                key.data.unblock()
            self._read(key.data)
        elif key.fileobj is self._door:  # not one that was closed a moment ago
            self._accept(self._door)
        self._pump()

    def _accept(self, door: socket.socket) -> None:
        try:
            accepted, _ = door.accept()
        except OSError:  # it went again, or there are no descriptors left
            return
        number = next(self._numbers)
        self._peers[number] = _Peer(Transport(number, self._selector), accepted)
        self._stand_in.accept(number, time.monotonic())

    def _read(self, transport: Transport) -> None:
        try:
            data = transport.receive()
        except OSError:
            self._lose(transport)
            return
        if data is not None:
            self._stand_in.receive_data(transport.id, data, time.monotonic())

    def _pump(self) -> None:
        """Pull everything of the stand-in; called after each input."""
        for number, peer in list(self._peers.items()):
            try:
                peer.transport.send(partial(self._stand_in.data_to_send, number))
            except OSError:
                self._lose(peer.transport)
        while (closed := self._stand_in.next_closed()) is not None:
            self._end_peer(self._peers[closed.peer_id], abort=closed.abort)
        for number, peer in list(self._peers.items()):
            if peer.ended and not peer.transport.sending:
                self._peers.pop(number).transport.close()
        if not self._stand_in.listening:
            self._close_door()
        elif self._door is None:
            self._open(socket.create_server(self._address, family=self._family))

    def _end_peer(self, peer: _Peer, *, abort: bool) -> None:
        """Close a socket; where its last chunk is under way, after that."""
        peer.ended = True
        if abort:
            peer.accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            self._peers.pop(peer.transport.id).transport.close()

    def _lose(self, transport: Transport) -> None:
        peer = self._peers.pop(transport.id)
        peer.transport.close()
        if not peer.ended:
            self._stand_in.connection_lost(transport.id, time.monotonic())

    def _open(self, door: socket.socket) -> None:
        door.setblocking(False)
        self._door = door
        self._selector.register(door, selectors.EVENT_READ)

    def _close_door(self) -> None:
        if self._door is not None:
            self._selector.unregister(self._door)
            self._door.close()
            self._door = None


@contextmanager
def serve(stand_in: StandInGateway, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve a stand-in for as long as the ``with`` lasts; yields its ws:// URL.

    ``host`` is a numeric address; ``port`` 0 is any free one. Raises OSError where it cannot be
    had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.create_server((host, port), family=family)
    host, port = door.getsockname()[:2]
    server = _Server(stand_in, door)
    thread = threading.Thread(target=server.run, name="butter_threads serve", daemon=True)
    wake_before = stand_in.wake
    stand_in.wake = server.wake
    thread.start()
    try:
        yield f"ws://{Endpoint(host, port, tls=False).host_header}"
    finally:
        stand_in.wake = wake_before
        server.end()
        thread.join()
        if server.failure is not None:
            raise server.failure
