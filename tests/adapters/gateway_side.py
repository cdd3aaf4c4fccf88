"""The other end of the wire: a stand-in on a real port, and what can stand before it."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from urllib.parse import urlsplit

import trio

from butter_proto.machine import CHUNK
from butter_trio.background import background
from tests.adapters.worlds import TrioWorld, entered, run_sync

_CLOSE_FRAME: Final = 8
"""Bytes of a masked Close frame without a reason: header, mask, code (RFC 6455, 5.2 and 5.5.1)."""
_WINDOW: Final = 64 * 1024
_HEAD: Final = 16 * 1024


class Relay:
    """Stands between a client and a gateway; it can refuse to read, and to see how a client ends.

    With a context it speaks TLS to the client.
    """

    def __init__(self, world: TrioWorld, gateway: str, context: ssl.SSLContext | None) -> None:
        self.url = ""
        self.head = b""
        """The first 16 KiB that clients sent, all of them one after the other."""
        self.ended = 0
        """How many clients have come and gone."""
        self._world = world
        self._gateway_port = urlsplit(gateway).port or 0
        self._context = context
        self._reading = trio.Event()
        self._reading.set()
        self._tail = b""

    def hold(self) -> None:
        """Read nothing more from the clients: their writes will block."""
        self._reading = trio.Event()

    def release(self) -> None:
        """Go on reading."""
        run_sync(self._world, self._reading.set)

    @property
    def close_code(self) -> int | None:
        """The code of the Close frame that was the last thing a client sent."""
        frame = self._tail
        if len(frame) < _CLOSE_FRAME or frame[:2] != b"\x88\x82":
            return None
        mask = int.from_bytes(frame[2:4])  # the first half; the code is no longer
        code: int = struct.unpack("!H", frame[6:])[0]
        return code ^ mask

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Relay for as long as the ``async with`` lasts."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
        scheme = "ws" if self._context is None else "wss"
        self.url = f"{scheme}://127.0.0.1:{listeners[0].socket.getsockname()[1]}"

        async def serve() -> None:
            await trio.serve_listeners(self._relay, listeners)

        async with background(serve):
            yield

    async def _relay(self, plain: trio.SocketStream) -> None:
        try:
            await self._connect(plain)
        finally:
            self.ended += 1

    async def _connect(self, plain: trio.SocketStream) -> None:
        async with plain:
            try:
                gateway = await trio.open_tcp_stream("127.0.0.1", self._gateway_port)
            except OSError:
                return
            client: trio.abc.Stream = plain
            if self._context is not None:
                client = trio.SSLStream(
                    plain, self._context, server_side=True, https_compatible=True
                )
            try:
                async with gateway, trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry_down, gateway, client, nursery.cancel_scope)
                    await self._carry_up(client, gateway)
                    nursery.cancel_scope.cancel()
            except* trio.BrokenResourceError:
                pass  # one side is gone, and so will be the other

    async def _carry_up(self, client: trio.abc.Stream, gateway: trio.abc.Stream) -> None:
        while data := await client.receive_some(CHUNK):
            await self._reading.wait()
            self.head = (self.head + data)[:_HEAD]
            self._tail = (self._tail + data)[-_CLOSE_FRAME:]
            await gateway.send_all(data)

    async def _carry_down(
        self, gateway: trio.abc.Stream, client: trio.abc.Stream, done: trio.CancelScope
    ) -> None:
        while data := await gateway.receive_some(CHUNK):
            await client.send_all(data)
        done.cancel()


@contextmanager
def relayed(
    world: TrioWorld, gateway: str, context: ssl.SSLContext | None = None
) -> Iterator[Relay]:
    """Put a relay before a gateway's URL."""
    relay = Relay(world, gateway, context)
    with entered(world, relay.serving()):
        yield relay


@contextmanager
def unanswered() -> Iterator[str]:
    """Yield the URL of a port whose dials get no answer: its backlog is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        yield f"ws://127.0.0.1:{server.getsockname()[1]}"
        for each in waiting:
            each.close()


@contextmanager
def silent() -> Iterator[str]:
    """Yield the wss:// URL of a port where dials succeed and no TLS is ever spoken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"wss://127.0.0.1:{server.getsockname()[1]}"
