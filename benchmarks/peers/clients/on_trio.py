"""trio as the workloads see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from benchmarks.peers.clients.workloads import Runtime


async def _together(times: int, function: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(function)


RUNTIME = Runtime(_together, trio.sleep)
