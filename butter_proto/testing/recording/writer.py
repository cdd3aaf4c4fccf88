"""Writes recordings on a thread of its own: who hands one over never waits for a disk.

Rules kept here:

* The newest that was handed over is written; one that it overtook is not.
* The thread is there while there is something to write, and a program that ends waits for it.
* Nothing is raised into who hands one over: what fails is logged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("butter_proto.testing")


class Writer:
    """Calls what is ``put``, which may raise: that is logged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def put(self, write: Callable[[], None]) -> None:
        """Have a recording written soon. Any thread may call this; it does not block."""
        with self._lock:
            self._waiting = write
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="butter-recorder")
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is about to exit
                    self._waiting = None
                    _log.exception("the recording could not be written")
                else:
                    self._thread = thread

    def wait(self) -> None:
        """Wait until all that was put is written, or could not be."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (write := self._next()) is not None:
            try:
                write()
            except OSError as error:
                _log.error("the recording could not be written: %s", error)
            except Exception:  # noqa: BLE001 - it must not end what is recorded
                _log.exception("the recording could not be written")

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            write, self._waiting = self._waiting, None
            if write is None:
                self._thread = None
            return write
