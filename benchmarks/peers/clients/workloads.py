"""The workloads of clients that are awaited, on whichever runtime.

Rules kept here:

* A caller awaits its answer before it asks again; ``parallel`` callers do so at once.
* All awaiting clients run this very code; only `Session` is theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol

import attrs

from benchmarks.peers.clients.job import Job, Result, Stopwatch, check, resident

PARAMS = {"text": "how much is the fish", "number": 7}


class Session(Protocol):
    """One connection that is online."""

    async def request(self, method: str, params: Any) -> Any:
        """Return the payload of the answer."""

    async def burst(self, params: dict[str, int]) -> tuple[int, Any]:
        """Ask for events by ``bench.burst``, take all; return how many, and the last's payload."""


@attrs.frozen
class Runtime:
    """What trio and asyncio do each in its own way."""

    together: Callable[[int, Callable[[], Awaitable[None]]], Awaitable[None]]
    """Runs a function so many times at once."""
    sleep: Callable[[float], Awaitable[None]]


Open = Callable[[Job], AbstractAsyncContextManager[Session]]


async def run(job: Job, open_session: Open, runtime: Runtime) -> Result:
    """Do one job."""
    if job.kind == "connects":
        return await _connects(job, open_session)
    if job.kind == "idle":
        return await _idle(job, open_session, runtime)
    async with open_session(job) as session:
        return await _WITH_A_SESSION[job.kind](job, session, runtime)


async def _requests(job: Job, session: Session, runtime: Runtime) -> Result:
    each = job.count // job.parallel
    done = 0

    async def call() -> None:
        nonlocal done
        for _ in range(each):
            check(await session.request("bench.echo", PARAMS), PARAMS)
            done += 1

    watch = Stopwatch()
    if job.parallel == 1:
        await call()
    else:
        await runtime.together(job.parallel, call)
    check(done, each * job.parallel)
    return watch.result(done)


async def _burst(job: Job, session: Session, _: Runtime) -> Result:
    watch = Stopwatch()
    count, last = await session.burst({"count": job.count, "size": job.size})
    result = watch.result(count)
    check(count, job.count)
    check(len(last["text"]), job.size)
    return result


async def _up(job: Job, session: Session, _: Runtime) -> Result:
    params = {"text": "x" * job.size}
    watch = Stopwatch()
    for _number in range(job.count):
        answer = await session.request("bench.size", params)
        check(0 <= answer["size"] - job.size < 100, True)  # noqa: PLR2004 - the key and the quotes
    return watch.result(job.count)


async def _down(job: Job, session: Session, _: Runtime) -> Result:
    watch = Stopwatch()
    for _number in range(job.count):
        answer = await session.request("bench.text", {"size": job.size})
        check(len(answer["text"]), job.size)
    return watch.result(job.count)


_WITH_A_SESSION = {"requests": _requests, "burst": _burst, "up": _up, "down": _down}


async def _connects(job: Job, open_session: Open) -> Result:
    watch = Stopwatch()
    for _ in range(job.count):
        async with open_session(job):
            pass
    return watch.result(job.count)


async def _idle(job: Job, open_session: Open, runtime: Runtime) -> Result:
    before = resident()
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(open_session(job)) for _ in range(job.count)]
        kilobytes = (resident() - before) / 1024 / job.count
        watch = Stopwatch()
        await runtime.sleep(job.seconds)
        result = watch.result(job.count, kilobytes)
        for session in sessions:
            check(await session.request("bench.echo", PARAMS), PARAMS)
        return result
