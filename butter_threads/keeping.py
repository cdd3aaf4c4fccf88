"""The thread that stores and forgets a device's tokens, so that the I/O thread never waits.

Rules kept here:

* Events are kept one at a time, in order; the last one too, before ``join`` returns, unless the
  store hangs.
* What a store raises is logged and answered, never raised.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue

from butter_proto.device import DeviceToken
from butter_proto.errors import ConnectTimeout
from butter_proto.events import DeviceTokenIssued, PoolEvent
from butter_proto.token_keeper import (
    CLOSE_LIMIT,
    GIVEN_UP,
    Keepable,
    TokenKeeper,
    complaint,
    task_for,
)

_log = logging.getLogger("butter_threads")


def load_within(keeper: TokenKeeper, timeout: float | None) -> DeviceToken | None:
    """Load the token to start with. Raises `ConnectTimeout` after so many seconds (None: never)."""
    if not keeper.may_block:
        return keeper.load()
    loaded: Future[DeviceToken | None] = Future()

    def load() -> None:
        try:
            loaded.set_result(keeper.load())
        except BaseException as error:  # noqa: BLE001 - a store may raise anything
            loaded.set_exception(error)

    threading.Thread(target=load, name="butter_threads: load", daemon=True).start()
    wait([loaded], timeout)
    if not loaded.done():
        raise ConnectTimeout(f"the device's store did not answer in {timeout:g} s")
    return loaded.result()


class KeepingThread:
    """Keeps the tokens of the devices of a gateway, or of a pool.

    ``stored(transport_id, ok)`` is called after new tokens were stored, or could not be;
    ``forgotten(transport_id, newer)`` after a refused one was forgotten.
    """

    def __init__(
        self,
        keepers: dict[str | None, TokenKeeper],
        stored: Callable[[int, bool], object],
        forgotten: Callable[[int, DeviceToken | None], object],
        name: str,
    ) -> None:
        self.keepers = keepers
        """By the names of a pool's gateways; more may be added."""
        self._stored = stored
        self._forgotten = forgotten
        self._waiting: SimpleQueue[tuple[TokenKeeper, Keepable] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ends_by = 0.0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def offer(self, event: PoolEvent) -> None:
        """Take one event of the machine; never waits."""
        task = task_for(self.keepers, event)
        if task is not None:
            self._waiting.put(task)

    def end(self) -> None:
        """Let the thread end once everything is kept; twice is no more than once."""
        self._ends_by = time.monotonic() + CLOSE_LIMIT
        self._waiting.put(None)

    def join(self) -> None:
        """Wait until everything is kept, `CLOSE_LIMIT` seconds after ``end`` at most.

        In the thread itself (a store that closes the gateway) it does not wait.
        """
        if self._thread is threading.current_thread() or self._thread.ident is None:
            return
        self._thread.join(max(0.0, self._ends_by - time.monotonic()))
        if self._thread.is_alive():
            _log.warning(GIVEN_UP)

    def _run(self) -> None:
        while (task := self._waiting.get()) is not None:
            keeper, event = task
            stored, newer = True, None
            try:
                newer = keeper.keep(event)
            except Exception as error:  # noqa: BLE001 - a store may raise anything
                stored = False
                _log.warning(complaint(event, error))
            if isinstance(event, DeviceTokenIssued):
                self._stored(event.transport_id, stored)
            else:
                self._forgotten(event.transport_id, newer)
