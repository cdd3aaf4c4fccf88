"""A line on which the answers are lost: what the client sends arrives, and nothing comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio

from .relay import CHUNK, forgiving, relay


class WithholdingRelay:
    """A listening relay; clients connect to `url`."""

    def __init__(self, gateway_url: str, url: str) -> None:
        self._gateway = urlsplit(gateway_url)
        self._lines: list[_Line] = []
        self.url = url

    def withhold(self) -> None:
        """Lose from now on what the gateway says to those who are connected."""
        for line in self._lines:
            line.withheld = True

    def cut(self) -> None:
        """End the connections that there are."""
        for line in self._lines:
            line.scope.cancel()

    async def serve(self, client: trio.SocketStream) -> None:
        """Relay one connection, until either side ends it or it is cut."""
        assert self._gateway.hostname is not None
        assert self._gateway.port is not None
        gateway = await trio.open_tcp_stream(self._gateway.hostname, self._gateway.port)
        line = _Line()

        async def upload() -> None:
            while data := await client.receive_some(CHUNK):
                await gateway.send_all(data)

        async def deliver(data: bytes) -> None:
            if not line.withheld:
                await client.send_all(data)

        self._lines.append(line)
        try:
            with line.scope:
                await relay(client, gateway, upload, deliver)
        finally:
            self._lines.remove(line)


class _Line:
    """One connection over the relay."""

    def __init__(self) -> None:
        self.withheld = False
        self.scope = trio.CancelScope()


@asynccontextmanager
async def withholding_relay(gateway_url: str) -> AsyncIterator[WithholdingRelay]:
    """Run a relay for as long as the ``async with`` lasts."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
    line = WithholdingRelay(gateway_url, url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, forgiving(line.serve), [listener])
        yield line
        nursery.cancel_scope.cancel()
