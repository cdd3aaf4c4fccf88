"""A stand-in gateway on a real port, for tests and for ``butter gateway``.

    async with serve(StandInGateway(token="t")) as url, connect(url, token="t") as gateway:
        ...

Rules kept here:

* What a test scripts (``push``, ``drop``, ``restart``...) is done at the next checkpoint, whichever
  thread it comes from.
* Dials are refused while the stand-in does not listen; the port stays the same.
* Every socket is closed when the ``async with`` ends.
"""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from butter_proto.endpoint import Endpoint
from butter_proto.machine import CHUNK
from butter_proto.testing import StandInGateway
from butter_trio.background import background

_LINGER_0: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""SO_LINGER on, for 0 seconds: closing sends a reset."""


class _Peer:
    """One accepted socket."""

    __slots__ = ("chunk", "ended", "scope", "stream", "writable")

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.scope = trio.CancelScope()
        self.chunk = b""
        self.writable = trio.lowlevel.ParkingLot()
        self.ended = False


class _Server:
    """Moves bytes between a stand-in and its sockets."""

    def __init__(self, stand_in: StandInGateway, address: tuple[str, int]) -> None:
        self._stand_in = stand_in
        self._address = address
        self._peers: dict[int, _Peer] = {}
        self._accepted = 0
        self._sleep = trio.CancelScope()
        self._door = trio.CancelScope()
        self._may_listen = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery

    async def run(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._keep_door, listeners)
            while True:
                timeout = self._stand_in.next_timeout()
                with trio.CancelScope() as self._sleep:
                    self._sleep.deadline = math.inf if timeout is None else timeout
                    await trio.sleep(math.inf)
                self._stand_in.handle_timeout(trio.current_time())
                self._pump()

    def wake(self) -> None:
        """Let the clock look again: something was scripted."""
        self._sleep.cancel()

    def _pump(self) -> None:
        """Pull everything of the stand-in; called after each input."""
        stand_in = self._stand_in
        for number, peer in self._peers.items():
            if peer.writable:  # its writer is idle
                peer.chunk = stand_in.data_to_send(number)
                if peer.chunk:
                    peer.writable.unpark()
        while (closed := stand_in.next_closed()) is not None:
            self._close(self._peers.pop(closed.peer_id), abort=closed.abort)
        if stand_in.listening:
            self._may_listen.unpark_all()
        else:
            self._door.cancel()
        timeout = stand_in.next_timeout()
        self._sleep.deadline = math.inf if timeout is None else timeout

    def _close(self, peer: _Peer, *, abort: bool) -> None:
        """Close a socket; where its last chunk is under way, after that."""
        peer.ended = True
        if abort:
            peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        if abort or not peer.chunk:
            peer.scope.cancel()

    async def _keep_door(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept sockets while the stand-in listens."""
        host, port = self._address
        while True:
            with trio.CancelScope() as self._door:
                await self._accept(listeners or await trio.open_tcp_listeners(port, host=host))
            listeners = ()
            while not self._stand_in.listening:
                await self._may_listen.park()

    async def _accept(self, listeners: Sequence[trio.SocketListener]) -> None:
        nursery = self._nursery
        await trio.serve_listeners(self._serve_peer, list(listeners), handler_nursery=nursery)

    async def _serve_peer(self, stream: trio.SocketStream) -> None:
        self._accepted += 1
        number = self._accepted
        peer = self._peers[number] = _Peer(stream)
        try:
            with peer.scope:
                self._stand_in.accept(number, trio.current_time())
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, number, peer)
                    await self._read(number, peer)
        finally:
            await trio.aclose_forcefully(stream)

    async def _read(self, number: int, peer: _Peer) -> None:
        data = b"\0"
        while data:
            try:
                data = await peer.stream.receive_some(CHUNK)
            except trio.BrokenResourceError:
                self._lose(number, peer)
                return
            self._stand_in.receive_data(number, data, trio.current_time())
            self._pump()

    async def _write(self, number: int, peer: _Peer) -> None:
        while True:
            peer.chunk = self._stand_in.data_to_send(number)
            self._pump()  # all its data may be taken now: then it may be closed
            if not peer.chunk:
                await peer.writable.park()
            try:
                await peer.stream.send_all(peer.chunk)
            except trio.BrokenResourceError:
                self._lose(number, peer)
                return
            peer.chunk = b""
            if peer.ended:
                peer.scope.cancel()

    def _lose(self, number: int, peer: _Peer) -> None:
        if self._peers.pop(number, None) is not None:
            self._stand_in.connection_lost(number, trio.current_time())
        peer.scope.cancel()
        self._pump()


@asynccontextmanager
async def serve(
    stand_in: StandInGateway, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve a stand-in for as long as the ``async with`` lasts; yields its ws:// URL.

    ``host`` is a numeric address; ``port`` 0 is any free one. Raises OSError where it cannot be
    had.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    host, port = listeners[0].socket.getsockname()[:2]
    server = _Server(stand_in, (host, port))
    token = trio.lowlevel.current_trio_token()
    wake_before = stand_in.wake
    stand_in.wake = lambda: token.run_sync_soon(server.wake, idempotent=True)
    try:
        async with background(lambda: server.run(listeners)):
            yield f"ws://{Endpoint(host, port, tls=False).host_header}"
    finally:
        stand_in.wake = wake_before
