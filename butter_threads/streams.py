"""Blocking iterators over what a gateway tells."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import attrs

from butter_proto.events import EventsMissed, FromGateway, GatewayEvent, Notice, StateEvent
from butter_proto.subscriptions import Subscription, Wake

_T = TypeVar("_T")


@attrs.frozen
class Source:
    """What a stream needs of its gateway."""

    lock: threading.RLock
    check: Callable[[], None]
    """Raises in the child of a fork, and in the middle of another call."""
    may_wait: Callable[[], None]
    """Raises where the calling thread must not wait."""
    unsubscribe: Callable[[Subscription[Any]], None]


class Stream(Generic[_T]):
    """A blocking iterator over a subscription; leaving its ``with`` unsubscribes.

    Where it was made with a ``timeout``, each ``next`` waits that many seconds at most and then
    raises TimeoutError; ``next`` may be called again. Several threads may share one: each item
    goes to one of them.
    """

    def __init__(
        self,
        source: Source,
        timeout: float | None,
        subscribe: Callable[[Wake], Subscription[_T]],
    ) -> None:
        source.check()
        self._source = source
        self._timeout = bounded(timeout)
        self._news = threading.Condition(source.lock)
        with source.lock:
            self._subscription = subscribe(self._news.notify_all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unsubscribe; what is queued can still be read."""
        self._source.unsubscribe(self._subscription)

    def __del__(self) -> None:
        if hasattr(self, "_subscription"):
            self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        self._source.may_wait()
        subscription = self._subscription
        with self._source.lock:
            if not self._news.wait_for(lambda: subscription.ready, self._timeout):
                raise TimeoutError(f"nothing came in {self._timeout:g} s")
            item = subscription.take()
        if item is not None:
            return item
        if subscription.error is not None:
            raise subscription.error
        raise StopIteration


def bounded(timeout: float | None) -> float | None:
    """Return a time that the operating system can wait for."""
    return None if timeout is None else min(timeout, threading.TIMEOUT_MAX)


EventStream = Stream[GatewayEvent | EventsMissed]
"""Gateway events as they come, losses in their place. Raises `GaveUp` after giving up."""
StateStream = Stream[StateEvent]
"""State events, the present one first; ends after Stopped."""
NoticeStream = Stream[Notice]
"""Notices: `RoundTrip` of each probe, `ScopesReduced`, `ClockLate`...; ends after Stopped."""
GatewayStream = Stream[FromGateway]
"""State events and notices of each gateway of a pool; ends after the pool's Stopped."""
