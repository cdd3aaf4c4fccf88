"""What waits for the outcome of a request: a thread, or a future.

Rules kept here:

* ``on_outcome`` is called under the gateway's lock, so it only takes note; what the user hung on a
  future is called later, by ``settle``.
* Ctrl-C may cut ``on_outcome`` off, so it may come again: twice does no more than once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from butter_proto.client import result_of
from butter_proto.errors import RequestFailed
from butter_proto.events import Outcome

_log = logging.getLogger("butter_threads")
_DEAF: Final = 1.0
"""Seconds after which a waiting thread looks up: a Ctrl-C that comes just as it falls asleep wakes
nobody by itself."""


class Waiter:
    """A thread that waits for the outcome of its request."""

    __slots__ = ("_done", "_outcome", "request_id")

    def __init__(self) -> None:
        self._done = threading.Lock()
        self._done.acquire()
        self._outcome: Outcome
        self.request_id: str | None = None

    def on_outcome(self, outcome: Outcome) -> None:
        """Let the thread go on."""
        self._outcome = outcome
        if self._done.locked():
            self._done.release()

    def wait(self) -> Outcome:
        """Block until the outcome is there, and return it."""
        while not self._done.acquire(timeout=_DEAF):
            pass
        return self._outcome


class Call(Future[Any]):
    """A request's future; cancelling it takes the request back."""

    def __init__(
        self,
        take_back: Callable[[str], bool],
        may_wait: Callable[[], None],
        settled: deque[Call],
    ) -> None:
        super().__init__()
        self._take_back = take_back
        self._may_wait = may_wait
        self._settled = settled
        self._outcome: Outcome
        self.request_id = ""

    def cancel(self) -> bool:
        """Take the request back; False where its outcome is already there."""
        if self.done():
            return super().cancel()
        if not self._take_back(self.request_id):
            return self.cancelled()  # by another thread meanwhile, or its outcome is there
        super().cancel()
        return not self.set_running_or_notify_cancel()  # wakes `concurrent.futures.wait`

    def result(self, timeout: float | None = None) -> Any:
        """Return the payload, or raise; raises `LocalProtocolError` where it may not wait."""
        self._check_wait()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception, if there is one; the same holds for waiting."""
        self._check_wait()
        return super().exception(timeout)

    def _check_wait(self) -> None:
        if not self.done():
            self._may_wait()

    def on_outcome(self, outcome: Outcome) -> None:
        """Queue this future for `settle`."""
        self._outcome = outcome
        self._settled.append(self)

    def settle(self) -> None:
        """Hand the outcome over; done-callbacks are called here."""
        if self.done():
            return
        try:
            try:
                self.set_result(result_of(self._outcome))
            except RequestFailed as error:
                self.set_exception(error)
        except BaseException:  # noqa: BLE001 - SystemExit in a callback, say
            _log.exception("a done-callback raised; the others go on")
