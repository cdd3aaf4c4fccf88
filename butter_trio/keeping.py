"""The task that stores and forgets devices' tokens, so that the driver never waits for a disk.

Rules kept here:

* Events are kept one at a time, in order, by a thread; no cancellation cuts that off. The last one
  too, before ``run`` returns, unless the store hangs.
* What a store raises is logged and answered, never raised.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from butter_proto.connector import Connector
from butter_proto.device import DeviceToken
from butter_proto.errors import ConnectTimeout
from butter_proto.events import DeviceTokenIssued, PoolEvent
from butter_proto.pool import Pool
from butter_proto.token_keeper import (
    CLOSE_LIMIT,
    GIVEN_UP,
    Keepable,
    TokenKeeper,
    complaint,
    task_for,
)

_log = logging.getLogger("butter_trio")
_T = TypeVar("_T")


async def load_within(
    keeper: TokenKeeper,
    timeout: float | None,  # noqa: ASYNC109 - in real seconds
) -> DeviceToken | None:
    """Load the token to start with, in real seconds: a disk knows nothing of a test's clock.

    Raises `ConnectTimeout` after ``timeout`` seconds (None: never).
    """
    if timeout is None or not keeper.may_block:
        return await _run(keeper, keeper.load)
    with trio.CancelScope() as scope:
        wake_up = trio.lowlevel.current_trio_token().run_sync_soon
        timer = threading.Timer(timeout, wake_up, [scope.cancel])
        timer.daemon = True
        timer.start()
        try:
            return await _run(keeper, keeper.load)
        finally:
            timer.cancel()
    raise ConnectTimeout(f"the device's store did not answer in {timeout:g} s")


async def _run(keeper: TokenKeeper, job: Callable[..., _T], *args: Any) -> _T:
    """Ask the store: in a thread where it may block, and not in one of the program's own few."""
    if not keeper.may_block:
        return job(*args)
    own = trio.CapacityLimiter(1)
    return await trio.to_thread.run_sync(job, *args, abandon_on_cancel=True, limiter=own)


class Keeping:
    """Keeps the tokens that a machine is given. ``pump`` pulls its queues."""

    def __init__(
        self,
        keepers: dict[str | None, TokenKeeper],
        machine: Connector | Pool,
        pump: Callable[[], None],
    ) -> None:
        self.keepers = keepers
        """By the names of a pool's gateways; more may be added."""
        self._machine = machine
        self._pump = pump
        self._tasks, self._waiting = trio.open_memory_channel[tuple[TokenKeeper, Keepable]](
            math.inf
        )
        self._scope = trio.CancelScope(shield=True)

    def offer(self, event: PoolEvent) -> None:
        """Take one event of the machine; never waits."""
        task = task_for(self.keepers, event)
        if task is not None:
            self._tasks.send_nowait(task)

    def end(self) -> None:
        """Let ``run`` return once everything is kept, `CLOSE_LIMIT` seconds from now at most."""
        self._tasks.close()
        self._scope.deadline = trio.current_time() + CLOSE_LIMIT

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Keep what comes until ``end``."""
        with self._scope:
            async for keeper, event in self._waiting:
                stored, newer = True, None
                try:
                    newer = await _run(keeper, keeper.keep, event)
                except Exception as error:  # noqa: BLE001 - a store may raise anything
                    stored = False
                    _log.warning(complaint(event, error))
                now = trio.current_time()
                if isinstance(event, DeviceTokenIssued):
                    self._machine.token_stored(event.transport_id, stored, now)
                else:
                    self._machine.token_forgotten(event.transport_id, newer, now)
                self._pump()
        if self._scope.cancelled_caught:
            _log.warning(GIVEN_UP)
