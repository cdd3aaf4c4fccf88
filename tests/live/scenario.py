"""What the live scenarios share: how they run, how they connect, what they watch.

Only `connected` knows an adapter: another one with the same API runs the same scenarios.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from itertools import pairwise
from typing import Any, ParamSpec, TypeVar

import trio

import butter_trio
from butter_proto.events import Connecting, Retrying, StateEvent
from butter_trio import Gateway, Settings, StateStream

from .real_gateway import RealGateway

_P = ParamSpec("_P")
_S = TypeVar("_S", bound=StateEvent)

_LATE = 0.1
"""Seconds by which a watching task may note an event too late on a busy machine."""


def scenario(
    limit: float,
) -> Callable[[Callable[_P, Awaitable[None]]], Callable[_P, None]]:
    """Make a test of an async function: run it on trio, and fail it after `limit` seconds."""

    def decorate(function: Callable[_P, Awaitable[None]]) -> Callable[_P, None]:
        @wraps(function)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
            async def bounded() -> None:
                with trio.fail_after(limit):
                    await function(*args, **kwargs)

            trio.run(bounded)

        return run

    return decorate


def connected(
    gateway: RealGateway, settings: Settings | None = None, **options: Any
) -> AbstractAsyncContextManager[Gateway]:
    """Connect with the gateway's own token, unless `options` has another."""
    options.setdefault("token", gateway.token)
    return butter_trio.connect(gateway.url, settings=settings, **options)


class Timeline:
    """The state events of one connector from now on, each with the time at which it was told."""

    def __init__(self, states: StateStream) -> None:
        self._states = states
        self.entries: list[tuple[float, StateEvent]] = []

    async def until(self, kind: type[_S]) -> tuple[float, _S]:
        """Follow the events to the next one of this kind; return it and its time."""
        async for event in self._states:
            now = trio.current_time()
            self.entries.append((now, event))
            if isinstance(event, kind):
                return now, event
        raise AssertionError(f"stopped before {kind.__name__}: {self.entries}")

    @property
    def retries(self) -> list[Retrying]:
        """What every ended attempt said."""
        return [event for _, event in self.entries if isinstance(event, Retrying)]

    def assert_hints_honoured(self) -> None:
        """No delay is shorter than the peer's hint, and no attempt began before its delay."""
        for (told_at, event), (next_at, following) in pairwise(self.entries):
            if isinstance(event, Retrying):
                assert event.delay >= (event.ending.retry_after or 0.0)
                assert isinstance(following, Connecting)
                assert next_at - told_at >= event.delay - _LATE


@asynccontextmanager
async def timeline(client: Gateway) -> AsyncIterator[Timeline]:
    """Watch the state events from now on; the present one, which comes first, is left out."""
    async with client.states() as states:
        await anext(states)
        yield Timeline(states)
