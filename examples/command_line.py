"""The command line of the asyncio examples: a URL and a token, and a sentence where it fails."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from butter_proto import ButterError

PATIENCE: Final = 30
"""Seconds in which an example wants to be online."""

Connect = Callable[[str, str | None], AbstractAsyncContextManager[Any]]


def run(name: str, connect: Connect) -> None:
    """Connect as the command line says, ask for ``health``, print the answer and stop."""
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: python -m examples.{name} ws://HOST:PORT [TOKEN]")
    _, url, *rest = sys.argv
    try:
        asyncio.run(_ask_for_health(connect(url, rest[0] if rest else None)))
    except (ButterError, KeyboardInterrupt) as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit(f"not online after {PATIENCE} seconds")


async def _ask_for_health(connecting: AbstractAsyncContextManager[Any]) -> None:
    async with connecting as gateway:
        async with asyncio.timeout(PATIENCE):
            await gateway.wait_online()
        print(await gateway.request("health"))
