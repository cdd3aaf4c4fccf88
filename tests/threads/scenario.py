"""What the tests of the threads adapter share: a served stand-in, and waiting with a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from butter_proto.settings import ReconnectSettings, Settings
from butter_proto.testing import StandInGateway
from butter_threads import Gateway, connect
from butter_threads.serve import serve

TOKEN: Final = "s3cret-token"
LIMIT: Final = 20.0
"""Seconds after which a wait in a test has failed."""
EAGER: Final = Settings(reconnect=ReconnectSettings(base=0.01, factor=1.0, cap=0.01, minimum=0.001))
"""Comes back in a moment."""


@contextmanager
def connected(
    stand_in: StandInGateway, settings: Settings = EAGER, **options: Any
) -> Iterator[Gateway]:
    """Serve a stand-in and connect to it."""
    with (
        serve(stand_in) as url,
        connect(url, token=TOKEN, settings=settings, timeout=LIMIT, **options) as gateway,
    ):
        yield gateway


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fail after `LIMIT` seconds."""
    give_up_at = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < give_up_at, "it never came true"
        time.sleep(0.001)


class Parallel(threading.Thread):
    """Runs a function in a thread; ``join`` raises what it raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._error: BaseException | None = None
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised again by join
            self._error = error

    def join(self, timeout: float | None = LIMIT) -> None:
        super().join(timeout)
        assert not self.is_alive(), "the thread never ended"
        if self._error is not None:
            raise self._error


def own_threads() -> list[threading.Thread]:
    """Return the threads of gateways that are still alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("butter_threads")]
