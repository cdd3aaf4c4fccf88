"""openbutter over threads: the workloads of workloads.py, with futures."""

from __future__ import annotations

import sys
import time
from collections import deque
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import butter_threads
from benchmarks.peers.clients.job import Job, Result, Stopwatch, check, resident, serve_jobs
from benchmarks.peers.clients.workloads import PARAMS
from butter_proto.events import GatewayEvent
from butter_proto.settings import Json, Limits, Settings

_JSON = Json(sys.argv[1]) if __name__ == "__main__" else Json.STDLIB


def _connect(job: Job) -> butter_threads.Gateway:
    settings = Settings(json=_JSON, limits=Limits(max_in_flight=job.window))
    return butter_threads.connect(job.url, settings=settings)


def run(job: Job) -> Result:
    """Do one job."""
    if job.kind == "connects":
        return _connects(job)
    if job.kind == "idle":
        return _idle(job)
    with _connect(job) as gateway:
        return _WITH_A_GATEWAY[job.kind](job, gateway)


def _requests(job: Job, gateway: butter_threads.Gateway) -> Result:
    """Ask with `request`; many at once with `submit`, the oldest awaited before one more is."""
    count = job.count // job.parallel * job.parallel
    watch = Stopwatch()
    if job.parallel == 1:
        for _ in range(count):
            check(gateway.request("bench.echo", PARAMS), PARAMS)
        return watch.result(count)
    waiting: deque[Future[Any]] = deque()
    for _ in range(count):
        if len(waiting) == job.parallel:
            check(waiting.popleft().result(), PARAMS)
        waiting.append(gateway.submit("bench.echo", PARAMS))
    while waiting:
        check(waiting.popleft().result(), PARAMS)
    return watch.result(count)


def _burst(job: Job, gateway: butter_threads.Gateway) -> Result:
    taken = 0
    last: Any = None
    watch = Stopwatch()
    with gateway.events("bench", limit=job.count) as events:
        gateway.request("bench.burst", {"count": job.count, "size": job.size})
        for event in events:
            assert isinstance(event, GatewayEvent), event
            taken += 1
            if taken == job.count:
                last = event.payload
                break
    result = watch.result(taken)
    check(taken, job.count)
    check(len(last["text"]), job.size)
    return result


def _up(job: Job, gateway: butter_threads.Gateway) -> Result:
    params = {"text": "x" * job.size}
    watch = Stopwatch()
    for _ in range(job.count):
        answer = gateway.request("bench.size", params)
        check(0 <= answer["size"] - job.size < 100, True)  # noqa: PLR2004 - the key and the quotes
    return watch.result(job.count)


def _down(job: Job, gateway: butter_threads.Gateway) -> Result:
    watch = Stopwatch()
    for _ in range(job.count):
        check(len(gateway.request("bench.text", {"size": job.size})["text"]), job.size)
    return watch.result(job.count)


_WITH_A_GATEWAY = {"requests": _requests, "burst": _burst, "up": _up, "down": _down}


def _connects(job: Job) -> Result:
    watch = Stopwatch()
    for _ in range(job.count):
        with _connect(job):
            pass
    return watch.result(job.count)


def _idle(job: Job) -> Result:
    before = resident()
    with ExitStack() as stack:
        gateways = [stack.enter_context(_connect(job)) for _ in range(job.count)]
        kilobytes = (resident() - before) / 1024 / job.count
        watch = Stopwatch()
        time.sleep(job.seconds)
        result = watch.result(job.count, kilobytes)
        for gateway in gateways:
            check(gateway.request("bench.echo", PARAMS), PARAMS)
        return result


if __name__ == "__main__":
    serve_jobs(run)
