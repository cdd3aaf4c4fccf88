"""Event loops in threads of their own, into which blocking tests reach.

Rules kept here:

* What a task raises comes out of its future; cancelling the future cancels the task.
* A world ends only when no task is left in it: one that hangs fails the test.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import trio

from tests.adapters.subject import PATIENCE

_T = TypeVar("_T")
_SETTLE = 5.0
"""Seconds that tasks get to end when their world does."""


class World(Protocol):
    """A loop in a thread."""

    def submit(self, call: Callable[[], Awaitable[_T]]) -> Future[_T]:
        """Start a task."""

    def event(self) -> tuple[Callable[[], None], Callable[[], Awaitable[object]]]:
        """Make an event: set it from any thread, wait for it in the world."""


def run_sync(world: World, call: Callable[[], _T]) -> _T:
    """Call an ordinary function in a world."""

    async def main() -> _T:
        return call()

    return world.submit(main).result(PATIENCE)


@contextmanager
def entered(world: World, manager: AbstractAsyncContextManager[_T]) -> Iterator[_T]:
    """Hold an async context manager open in a world; what the body raises is raised in there."""
    inside: Future[_T] = Future()
    leave, left = world.event()
    raised: list[BaseException] = []

    async def hold() -> None:
        async with manager as value:
            inside.set_result(value)
            await left()
            for error in raised:
                raise error

    def on_done(_: Future[None]) -> None:
        if not inside.done():
            inside.set_exception(holding.exception() or AssertionError("it did not begin"))

    holding = world.submit(hold)
    holding.add_done_callback(on_done)
    value = inside.result(2 * PATIENCE)
    try:
        yield value
    except BaseException as error:
        raised.append(error)
        raise
    finally:
        leave()
        ending = holding.exception(PATIENCE)
        assert ending is (raised[0] if raised else None), "it ended otherwise than its body"


class TrioWorld:
    """Trio in a thread."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run trio for as long as the ``with`` lasts."""
        started: Future[trio.lowlevel.TrioToken] = Future()
        ended: Future[None] = Future()

        async def main() -> None:
            self._end = trio.Event()
            async with trio.open_nursery() as self._nursery:
                started.set_result(trio.lowlevel.current_trio_token())
                await self._end.wait()
                self._nursery.cancel_scope.deadline = trio.current_time() + _SETTLE
            assert not self._nursery.cancel_scope.cancelled_caught, "a task outlived the test"

        thread = threading.Thread(target=_report, args=(lambda: trio.run(main), ended))
        thread.start()
        self._token = started.result(PATIENCE)
        try:
            yield
        finally:
            self._token.run_sync_soon(self._end.set)
            thread.join()
        ended.result()

    def submit(self, call: Callable[[], Awaitable[_T]]) -> Future[_T]:
        """Start a task; it has begun when this returns, since trio starts tasks in any order."""
        future: Future[_T] = Future()
        scope = trio.CancelScope()
        begun = threading.Event()

        async def run() -> None:
            begun.set()
            with scope, suppress(InvalidStateError):  # of a future that was cancelled meanwhile
                try:
                    result = await call()
                except trio.Cancelled:
                    raise
                except BaseException as error:  # noqa: BLE001 - the future brings it
                    future.set_exception(error)
                else:
                    future.set_result(result)

        def on_done(_: Future[_T]) -> None:
            if future.cancelled():
                self._token.run_sync_soon(scope.cancel)

        future.add_done_callback(on_done)
        self._token.run_sync_soon(self._nursery.start_soon, run)
        begun.wait(PATIENCE)
        return future

    def event(self) -> tuple[Callable[[], None], Callable[[], Awaitable[object]]]:
        """Make an event: set it from any thread, wait for it in the world."""
        event = trio.Event()
        return lambda: self._token.run_sync_soon(event.set), event.wait


class AsyncioWorld:
    """Asyncio in a thread."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run asyncio for as long as the ``with`` lasts."""
        started: Future[asyncio.AbstractEventLoop] = Future()
        ended: Future[None] = Future()
        complaints: list[dict[str, Any]] = []

        async def main() -> None:
            self._end = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            started.set_result(loop)
            await self._end.wait()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                _, hanging = await asyncio.wait(others, timeout=_SETTLE)
                assert not hanging, "a task outlived the test"

        thread = threading.Thread(target=_report, args=(lambda: asyncio.run(main()), ended))
        thread.start()
        self._loop = started.result(PATIENCE)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._end.set)
            thread.join()
        ended.result()
        assert complaints == []

    def submit(self, call: Callable[[], Awaitable[_T]]) -> Future[_T]:
        """Start a task."""

        async def run() -> _T:
            return await call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def event(self) -> tuple[Callable[[], None], Callable[[], Awaitable[object]]]:
        """Make an event: set it from any thread, wait for it in the world."""
        event = asyncio.Event()
        return partial(self._call_soon, event.set), event.wait

    def _call_soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)


def _report(run: Callable[[], None], ended: Future[None]) -> None:
    try:
        run()
    except BaseException as error:  # noqa: BLE001 - the test's thread raises it
        ended.set_exception(error)
    else:
        ended.set_result(None)
