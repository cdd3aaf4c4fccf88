"""Ctrl-C on trio: what runs is cancelled, so that everything is closed in order."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import trio

from butter_trio.background import background


def run_until_interrupted(main: Callable[[], Awaitable[int]]) -> int:
    """Run ``main`` on trio and return what it returns.

    Raises KeyboardInterrupt where Ctrl-C came first, once everything is closed. Call it in the
    main thread.
    """

    async def until_interrupted() -> int | None:
        code: int | None = None
        with trio.open_signal_receiver(signal.SIGINT) as signals, trio.CancelScope() as scope:
            async with background(partial(_cancel_on, signals, scope)):
                code = await main()
        return code

    code = trio.run(until_interrupted)
    if code is None:
        raise KeyboardInterrupt
    return code


async def _cancel_on(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
