"""The ways in which a real gateway goes away and comes back (wire.md 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import trio

from .real_gateway import RealGateway

EXIT_TIMEOUT: Final = 60.0
"""Seconds for the end after SIGTERM, with the last runs."""


def kill_and_start(gateway: RealGateway) -> None:
    gateway.kill()
    gateway.start()


def terminate_and_start(gateway: RealGateway) -> None:
    gateway.terminate()
    assert gateway.wait_exit(EXIT_TIMEOUT) == 0
    gateway.start()


WAYS: Final[Mapping[str, Callable[[RealGateway], None]]] = {
    "SIGKILL": kill_and_start,
    "SIGTERM": terminate_and_start,
    "SIGUSR2": RealGateway.restart_in_process,
}
"""Each begins a restart by its signal; `RealGateway.wait_ready` waits for its end."""


async def restarted(gateway: RealGateway, way: str) -> None:
    """Restart it by one of `WAYS`; return when it is ready again."""
    await trio.to_thread.run_sync(WAYS[way], gateway)
    await trio.to_thread.run_sync(gateway.wait_ready)
