"""Somebody in between who replays a challenge: its nonce is one of an earlier connection."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import trio

from .relay import CHUNK, forgiving, relay

_NONCE: Final = re.compile(rb'(?<="nonce":")[^"]+(?=")')


@asynccontextmanager
async def replaying_relay(gateway_url: str, nonce: str) -> AsyncIterator[str]:
    """Run a relay for as long as the ``async with`` lasts; gives its URL.

    It puts ``nonce`` in the place of each challenge's own, which must be as long.
    """
    address = urlsplit(gateway_url)
    assert address.hostname is not None
    assert address.port is not None
    host, port = address.hostname, address.port

    async def serve(client: trio.SocketStream) -> None:
        gateway = await trio.open_tcp_stream(host, port)

        async def upload() -> None:
            while data := await client.receive_some(CHUNK):
                await gateway.send_all(data)

        await gateway.send_all(await client.receive_some(CHUNK))  # the upgrade request
        challenge = b""
        while not (found := _NONCE.search(challenge)):
            challenge += await gateway.receive_some(CHUNK)
        assert len(found[0]) == len(nonce), "the frame has a length"
        await client.send_all(_NONCE.sub(nonce.encode(), challenge))
        await relay(client, gateway, upload)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, forgiving(serve), [listener])
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
