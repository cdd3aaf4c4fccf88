"""What the relays between a client and the gateway share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

CHUNK: Final = 64 * 1024


async def relay(
    client: trio.abc.Stream,
    gateway: trio.abc.Stream,
    upload: Callable[[], Awaitable[None]],
    deliver: Callable[[bytes], Awaitable[None]] | None = None,
) -> None:
    """Pass the gateway's bytes down, while `upload` passes the client's up, until either ends.

    They pass through `deliver`, where it is given.
    """
    down = client.send_all if deliver is None else deliver
    async with client, gateway, trio.open_nursery() as nursery:

        async def download() -> None:
            async for data in gateway:
                await down(bytes(data))
            nursery.cancel_scope.cancel()

        nursery.start_soon(download)
        await upload()
        nursery.cancel_scope.cancel()


def forgiving(
    serve: Callable[[trio.SocketStream], Awaitable[None]],
) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Let it be the end of a connection, and not of the relay, that one side of it is gone."""

    async def serve_one(client: trio.SocketStream) -> None:
        try:
            await serve(client)
        except* (trio.BrokenResourceError, OSError):
            pass

    return serve_one
