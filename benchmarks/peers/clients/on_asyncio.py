"""asyncio as the workloads see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.peers.clients.workloads import Runtime


async def _together(times: int, function: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(*(function() for _ in range(times)))


RUNTIME = Runtime(_together, asyncio.sleep)
