"""``gateway.on(name, callback)``: the original's event names, called back in a thread of its own.

Rules kept here:

* Callbacks are called one at a time, in order, without a lock. One that raises is logged, and the
  others are called all the same; one that is slow delays the others, but never the connection.
* A pool calls back as one gateway does: for its primary. Where another gateway takes over, that is
  told as ``disconnected`` and ``connected``, so that each of them ends what the other began; only
  the heartbeats are those of all gateways.
* Who comes while the gateway is online, or gave up, is told so first.
* Messages and heartbeats that wait are bounded by number and size. What comes above that is lost
  until half of them were called, and one ``error`` in its place says how many. Nothing else is
  ever lost: it comes with state changes, which are slow.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from butter_proto.emitter import NAMES, Emitted, emitted, messages_missed, taken_over
from butter_proto.errors import InvalidSettings
from butter_proto.events import (
    FromGateway,
    GatewayEvent,
    GaveUp,
    Online,
    PoolEvent,
    StateEvent,
)

LIMIT: Final = 10_000
"""Messages and heartbeats that may wait."""
_DROPPABLE: Final = frozenset({"message", "heartbeat"})
_LASTING: Final = (Online, GaveUp)
"""States that stay: who comes later is told of them."""
_log = logging.getLogger("butter_threads")

Callback = Callable[[Any], object]


class _Call:
    """One call that waits: of all callbacks of its name, unless ``only`` one is meant."""

    __slots__ = ("lost", "name", "only", "payload", "size")

    def __init__(
        self, name: str, payload: Any = None, size: int = 0, only: Callback | None = None
    ) -> None:
        self.name = name
        self.payload = payload
        self.size = size
        self.only = only
        self.lost = 0


class Callbacks:
    """The callbacks of one gateway. ``lock`` is the gateway's; ``offer`` is called under it."""

    def __init__(
        self,
        lock: threading.RLock,
        url: Callable[[], str],
        max_bytes: int,
        on_lost: Callable[[], None],
        thread_name: str,
    ) -> None:
        self._lock = lock
        self._news = threading.Condition(lock)
        self._url = url
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._thread_name = thread_name
        self._thread: threading.Thread | None = None
        self._callbacks: dict[str, tuple[Callback, ...]] = dict.fromkeys(NAMES, ())
        self._waiting: deque[_Call] = deque()
        self._droppable = 0
        self._bytes = 0
        self._loss: _Call | None = None
        self._last_state: StateEvent | None = None
        self._closed = False

    @property
    def is_current(self) -> bool:
        """True in the thread that calls back."""
        return threading.current_thread() is self._thread

    def on(self, name: str, callback: Callback) -> None:
        """Call back from now on, first for the present state; twice the same is called twice."""
        if not callable(callback):
            raise InvalidSettings(f"a callback must be callable: {callback!r}")
        _check(name)
        with self._lock:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name=self._thread_name, daemon=True)
                thread.start()
                self._thread = thread
            self._callbacks[name] += (callback,)
            if isinstance(self._last_state, _LASTING):
                for told, payload in emitted(self._last_state, self._url()):
                    if told == name:
                        self._queue(_Call(name, payload, only=callback))

    def off(self, name: str, callback: Callback) -> None:
        """Take one back; one that is not there is no error."""
        _check(name)
        while True:
            before = self._callbacks[name]
            left = [*before]
            if callback not in left:  # compared without the lock: that may be code of the user
                return
            left.remove(callback)
            with self._lock:
                if self._callbacks[name] is before:
                    self._callbacks[name] = tuple(left)
                    return

    def offer(self, event: PoolEvent) -> None:
        """Queue the calls that an event stands for; of a pool's gateways not their states."""
        if isinstance(event, FromGateway):
            event = event.event
            if isinstance(event, StateEvent):
                return
        before = self._last_state
        if isinstance(event, StateEvent):
            self._last_state = event
        if self._thread is None:
            return
        if isinstance(event, Online) and isinstance(before, Online):
            self._call((taken_over(),), 0)
        url = self._url() if isinstance(event, StateEvent) else ""
        size = event.size if isinstance(event, GatewayEvent) else 0
        self._call(emitted(event, url), size)

    def close(self) -> None:
        """Let the thread end once everything was called."""
        self._closed = True
        self._news.notify()

    def _call(self, told: Iterable[Emitted], size: int) -> None:
        for name, payload in told:
            if self._callbacks[name]:
                self._queue(_Call(name, payload, size))

    def _queue(self, call: _Call) -> None:
        if call.name in _DROPPABLE:
            if not self._has_room():
                self._lose()
                return
            self._loss = None
            self._droppable += 1
            self._bytes += call.size
        self._waiting.append(call)
        self._news.notify()

    def _has_room(self) -> bool:
        part = 1 if self._loss is None else 2  # while losing, half must be free again
        return part * self._droppable < LIMIT and part * self._bytes < self._max_bytes

    def _lose(self) -> None:
        if self._loss is None:
            self._loss = _Call("error")
            self._waiting.append(self._loss)
            self._news.notify()
        self._loss.lost += 1
        self._on_lost()

    def _take(self) -> _Call | None:
        """Wait for the next call; None: there will be none."""
        with self._lock:
            self._news.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            call = self._waiting.popleft()
            if call.name in _DROPPABLE:
                self._droppable -= 1
                self._bytes -= call.size
            if call is self._loss:
                self._loss = None
            if call.lost:
                call.payload = messages_missed(call.lost, "slow callbacks")
            return call

    def _run(self) -> None:
        while (call := self._take()) is not None:
            for callback in self._callbacks[call.name] if call.only is None else (call.only,):
                try:
                    callback(call.payload)
                except BaseException:  # noqa: BLE001 - a callback may raise anything
                    _log.exception("a callback of %r raised; the others go on", call.name)


def _check(name: str) -> None:
    if name not in NAMES:
        raise InvalidSettings(f"{name!r} is no event; there are: {', '.join(NAMES)}")
