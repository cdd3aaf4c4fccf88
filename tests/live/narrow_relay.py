"""A slow line to the gateway: a TCP relay that takes little at a time from the client.

What is under way in the kernels is bounded too, so that the client feels the line's pace: dial with
`scenario.narrow_dial`.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import trio

from .relay import CHUNK, relay

PAUSE: Final = 0.03
"""Seconds before each chunk: about 2 MB/s."""


class NarrowRelay:
    """A listening relay; `passed` is set when so many bytes of its client came through."""

    def __init__(self, gateway_url: str, size: int) -> None:
        self._gateway = urlsplit(gateway_url)
        self._left = size
        self.passed = trio.Event()
        self.url = ""

    async def serve(self, client: trio.SocketStream) -> None:
        """Relay one connection, until either side ends it."""
        assert self._gateway.hostname is not None
        assert self._gateway.port is not None
        gateway = await trio.open_tcp_stream(self._gateway.hostname, self._gateway.port)

        async def upload() -> None:
            while data := await client.receive_some(CHUNK):
                await trio.sleep(PAUSE)
                await gateway.send_all(data)
                self._left -= len(data)
                if self._left <= 0:
                    self.passed.set()

        await relay(client, gateway, upload)


@asynccontextmanager
async def narrow_relay(gateway_url: str, size: int) -> AsyncIterator[NarrowRelay]:
    """Run a relay for as long as the ``async with`` lasts."""
    line = NarrowRelay(gateway_url, size)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
    line.url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, line.serve, [listener])
        yield line
        nursery.cancel_scope.cancel()
