"""What waits for the outcome of a request: a thread, or a future."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from butter_proto.client import result_of
from butter_proto.errors import RequestFailed
from butter_proto.events import Outcome


class Waiter:
    """A thread that waits for the outcome of its request."""

    __slots__ = ("_done", "_outcome")

    def __init__(self) -> None:
        self._done = threading.Lock()
        self._done.acquire()
        self._outcome: Outcome

    def __call__(self, outcome: Outcome) -> None:
        """Let the thread go on."""
        self._outcome = outcome
        self._done.release()

    def wait(self) -> Outcome:
        """Block until the outcome is there, and return it."""
        with self._done:
            return self._outcome


class Call(Future[Any]):
    """A request's future; cancelling it takes the request back."""

    def __init__(self, take_back: Callable[[str], bool]) -> None:
        super().__init__()
        self._take_back = take_back
        self.request_id = ""

    def cancel(self) -> bool:
        """Take the request back; False where its outcome is already there."""
        if not self.done() and not self._take_back(self.request_id):
            return False
        return super().cancel()

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome; done-callbacks are called here."""
        try:
            self.set_result(result_of(outcome))
        except RequestFailed as error:
            self.set_exception(error)
