"""``gateway.on(name, callback)``: the original's event names, called back in a thread of its own.

Rules kept here:

* Callbacks are called one at a time, in order, without a lock. One that raises is logged, and the
  others are called all the same; one that is slow delays the others, but never the connection.
* At most `LIMIT` calls wait. What comes above it is lost, and an ``error`` in its place says so.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from butter_proto.emitter import NAMES, Emitted, emitted, messages_missed
from butter_proto.errors import InvalidSettings
from butter_proto.events import Event

LIMIT: Final = 10_000
"""Calls that may wait."""
_log = logging.getLogger("butter_threads")

Callback = Callable[[Any], object]


class Callbacks:
    """The callbacks of one gateway. ``lock`` is the gateway's; ``offer`` is called under it."""

    def __init__(self, lock: threading.Lock, url: str, thread_name: str) -> None:
        self._lock = lock
        self._news = threading.Condition(lock)
        self._url = url
        self._thread_name = thread_name
        self._thread: threading.Thread | None = None
        self._callbacks: dict[str, tuple[Callback, ...]] = dict.fromkeys(NAMES, ())
        self._waiting: deque[Emitted] = deque()
        self._lost = 0
        self._closed = False

    @property
    def is_current(self) -> bool:
        """True in the thread that calls back."""
        return threading.current_thread() is self._thread

    def on(self, name: str, callback: Callback) -> None:
        """Call back from now on; the same one twice is called twice."""
        with self._lock:
            self._callbacks[_known(name)] += (callback,)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name=self._thread_name, daemon=True
                )
                self._thread.start()

    def off(self, name: str, callback: Callback) -> None:
        """Take one back; one that is not there is no error."""
        with self._lock:
            left = [*self._callbacks[_known(name)]]
            if callback in left:
                left.remove(callback)
            self._callbacks[name] = tuple(left)

    def offer(self, event: Event) -> None:
        """Queue the calls that an event stands for."""
        if self._thread is None:
            return
        for name, payload in emitted(event, self._url):
            if not self._callbacks[name]:
                continue
            if len(self._waiting) >= LIMIT:
                self._lost += 1
                continue
            if self._lost:
                self._waiting.append(("error", messages_missed(self._lost, "slow callbacks")))
                self._lost = 0
            self._waiting.append((name, payload))
        self._news.notify()

    def close(self) -> None:
        """Let the thread end once everything was called."""
        self._closed = True
        self._news.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting:
                    if self._closed:
                        return
                    self._news.wait()
                name, payload = self._waiting.popleft()
                callbacks = self._callbacks[name]
            for callback in callbacks:
                try:
                    callback(payload)
                except Exception:  # noqa: BLE001 - a callback may raise anything
                    _log.exception("a callback of %r raised; the others go on", name)


def _known(name: str) -> str:
    if name not in NAMES:
        raise InvalidSettings(f"{name!r} is no event; there are: {', '.join(NAMES)}")
    return name
