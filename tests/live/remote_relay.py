"""A reverse proxy in front of the gateway, which says that its client is somewhere else.

The gateway has to believe it: `RealGateway(trusted_proxies=True)`. Every relay stands for a remote
address of its own, so that what the gateway counts for one is not counted for the next.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from .certificates import Certificate
from .real_gateway import RealGateway
from .relay import CHUNK, forgiving, relay

_END_OF_HEAD: Final = b"\r\n\r\n"

_addresses: Final = (
    f"{network}.{host}"
    for host in itertools.count(1)
    for network in ("203.0.113", "198.51.100", "192.0.2")  # for documentation only (RFC 5737)
)


class RemoteRelay:
    """A listening relay. `url` is where its clients connect, `address` where they seem to be."""

    def __init__(self, gateway: RealGateway, address: str, url: str) -> None:
        self._gateway = gateway
        self.address = address
        self.url = url

    async def serve(self, tls: ssl.SSLContext | None, socket: trio.SocketStream) -> None:
        """Relay one connection, until either side ends it."""
        client: trio.abc.Stream = socket
        if tls is not None:
            client = trio.SSLStream(socket, tls, server_side=True, https_compatible=True)
        gateway = await self._dial()

        async def upload() -> None:
            head = b""
            while _END_OF_HEAD not in head and (data := await client.receive_some(CHUNK)):
                head += data
            forwarded = f"\r\nX-Forwarded-For: {self.address}".encode()
            await gateway.send_all(head.replace(_END_OF_HEAD, forwarded + _END_OF_HEAD, 1))
            while data := await client.receive_some(CHUNK):
                await gateway.send_all(data)

        await relay(client, gateway, upload)

    async def _dial(self) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream("127.0.0.1", self._gateway.port)
        if self._gateway.certificate is None:
            return stream
        trust = self._gateway.certificate.trusting()
        trust.check_hostname = False  # the gateway's own certificate names no host
        return trio.SSLStream(stream, trust, server_hostname="127.0.0.1", https_compatible=True)


@asynccontextmanager
async def remote_relay(
    gateway: RealGateway, *, address: str | None = None, certificate: Certificate | None = None
) -> AsyncIterator[RemoteRelay]:
    """Run a relay for as long as the ``async with`` lasts.

    It stands for a new remote address, unless one is given; with a ``certificate`` its url is wss.
    """
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    scheme = "ws" if certificate is None else "wss"
    url = f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"
    remote = RemoteRelay(gateway, address or next(_addresses), url)
    tls = None if certificate is None else certificate.serving()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, forgiving(partial(remote.serve, tls)), [listener])
        yield remote
        nursery.cancel_scope.cancel()
