"""trio as the workloads see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from benchmarks.peers.clients.workloads import Runtime


class Reading(Protocol):
    """A session by hand."""

    async def handshake(self) -> None:
        """Come online."""

    async def read(self) -> None:
        """Hand each message to whom it is for, until cancelled."""


@asynccontextmanager
async def online(session: Reading) -> AsyncIterator[None]:
    """Do the handshake, and let the session read for as long as the block lasts."""
    await session.handshake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.read)
        yield
        nursery.cancel_scope.cancel()


async def _together(times: int, function: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(function)


RUNTIME = Runtime(_together, trio.sleep)
