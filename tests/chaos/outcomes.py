"""Each request's outcome, held against what the stand-in really executed.

Rules kept here:

* Every request has a number of its own. One outcome is noted for each, and one that never comes
  fails the test.
* What was told binds: `tests.live.executions.EXECUTIONS` says how often a request of which it was
  told may have been executed. A reply must be the request's own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

from butter_proto.errors import NotOnline, RequestFailed
from butter_proto.testing import StandInGateway
from tests.adapters.scenario import eventually
from tests.adapters.subject import PATIENCE, FullClient
from tests.live.executions import EXECUTIONS

WORKERS: Final = 8
"""Who ask at the same time, each one after the other."""
METHODS: Final[Mapping[str, float]] = {"count": 0.0, "count.late": 0.003}
"""What is asked, in turn, with the seconds until the answer: answers come in another order."""


class Outcomes:
    """What was asked of one stand-in, what was told of it, and what was done."""

    def __init__(self, stand_in: StandInGateway) -> None:
        self._numbers = count()
        self._lock = threading.Lock()
        self.executed = Counter[int]()
        self.told: dict[int, str] = {}
        self.asked = 0
        for method, delay in METHODS.items():
            stand_in.reply(method, self._execute, delay=delay)

    def counted(self) -> Counter[str]:
        """Return how many requests came to which outcome."""
        with self._lock:
            return Counter(self.told.values())

    def ask(self, client: FullClient, fill: str = "", **options: Any) -> str:
        """Make one request and wait for its outcome; return it, a key of `EXECUTIONS`."""
        with self._lock:
            number = next(self._numbers)
            self.asked += 1
        told = "replied"
        try:
            method = [*METHODS][number % len(METHODS)]
            reply = client.request(method, {"number": number, "fill": fill}, **options)
            assert reply["number"] == number, "the reply of another request"
        except NotOnline:
            told = "not accepted"
        except RequestFailed as failed:
            told = failed.delivery.value
        with self._lock:
            assert number not in self.told
            self.told[number] = told
        return told

    @contextmanager
    def load(self, client: FullClient) -> Iterator[Callable[[int], None]]:
        """Ask and ask; yields a call that waits until so many more have been replied to."""
        ending = threading.Event()

        def work() -> None:
            while not ending.is_set():
                if self.ask(client) != "replied":
                    client.wait_online(PATIENCE)

        def until_replied(more: int) -> None:
            enough = self.counted()["replied"] + more
            eventually(lambda: self.counted()["replied"] >= enough or _failed(workers))

        with ThreadPoolExecutor(WORKERS) as threads:
            workers = [threads.submit(work) for _ in range(WORKERS)]
            try:
                yield until_replied
            finally:
                ending.set()
        for worker in workers:
            worker.result()

    def check(self, *, repeats: int = 1) -> None:
        """Assert that what was told agrees with what was done.

        ``repeats``: how often the network delivered what was sent once.
        """
        assert len(self.told) == self.asked, "a request without an outcome"
        assert self.executed.keys() <= self.told.keys(), "executed, and never asked"
        belied = {
            number: (told, self.executed[number])
            for number, told in self.told.items()
            if not EXECUTIONS[told].start
            <= self.executed[number]
            <= (EXECUTIONS[told].stop - 1) * repeats
        }
        assert not belied, (belied, self.counted())

    def _execute(self, params: Any) -> dict[str, Any]:
        self.executed[params["number"]] += 1
        return {"number": params["number"], "fill": params["fill"]}


def _failed(workers: list[Future[None]]) -> bool:
    return any(worker.done() and worker.exception() is not None for worker in workers)
