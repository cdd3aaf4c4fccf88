"""The thread that stores and forgets a device's tokens, so that the I/O thread never waits.

Rules kept here:

* Events are kept one at a time, in order; the last one too, before ``join`` returns.
* What a store raises is logged and answered, never raised.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from butter_proto.device import DeviceToken
from butter_proto.events import DeviceTokenIssued, Event
from butter_proto.token_keeper import Keepable, TokenKeeper

_log = logging.getLogger("butter_threads")


class KeepingThread:
    """Keeps the tokens of one gateway's device.

    ``stored(transport_id, ok)`` is called after new tokens were stored, or could not be;
    ``forgotten(transport_id, newer)`` after a refused one was forgotten.
    """

    def __init__(
        self,
        keeper: TokenKeeper,
        stored: Callable[[int, bool], object],
        forgotten: Callable[[int, DeviceToken | None], object],
        name: str,
    ) -> None:
        self._keeper = keeper
        self._stored = stored
        self._forgotten = forgotten
        self._waiting: SimpleQueue[Keepable | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_current(self) -> bool:
        """True in this thread."""
        return threading.current_thread() is self._thread

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def offer(self, event: Event) -> None:
        """Take one event of the machine; never waits."""
        if isinstance(event, Keepable):
            self._waiting.put(event)

    def end(self) -> None:
        """Let the thread end once everything is kept; twice is no more than once."""
        self._waiting.put(None)

    def join(self) -> None:
        """Wait until it has ended, if it ever began."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            stored, newer = True, None
            try:
                newer = self._keeper.keep(event)
            except Exception as error:  # noqa: BLE001 - a store may raise anything
                stored = False
                _log.error("a device token could not be kept: %s", error)
            if isinstance(event, DeviceTokenIssued):
                self._stored(event.transport_id, stored)
            else:
                self._forgotten(event.transport_id, newer)
