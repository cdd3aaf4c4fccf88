"""What waits for the outcome of a request: a thread, or a future.

Rules kept here:

* ``on_outcome`` is called under the gateway's lock, so it only takes note; what the user hung on a
  future is called later, by ``settle``.
* Ctrl-C may cut ``on_outcome`` off, so it may come again: twice does no more than once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from butter_proto.client import result_of
from butter_proto.errors import RequestFailed
from butter_proto.events import Outcome


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
        self._done.acquire()
        return self._outcome


class Call(Future[Any]):
    """A request's future; cancelling it takes the request back."""

    def __init__(self, take_back: Callable[[str], bool], settled: deque[Call]) -> None:
        super().__init__()
        self._take_back = take_back
        self._settled = settled
        self._outcome: Outcome
        self.request_id = ""

    def cancel(self) -> bool:
        """Take the request back; False where its outcome is already there."""
        if self.done():
            return super().cancel()
        if not self._take_back(self.request_id):
            return False
        super().cancel()
        return not self.set_running_or_notify_cancel()  # wakes `concurrent.futures.wait`

    def on_outcome(self, outcome: Outcome) -> None:
        """Queue this future for `settle`."""
        self._outcome = outcome
        self._settled.append(self)

    def settle(self) -> None:
        """Hand the outcome over; done-callbacks are called here."""
        if self.done():
            return
        try:
            self.set_result(result_of(self._outcome))
        except RequestFailed as error:
            self.set_exception(error)
