"""openbutter over trio."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

import butter_trio
from benchmarks.peers.clients.job import Job, serve_jobs
from benchmarks.peers.clients.on_trio import RUNTIME
from benchmarks.peers.clients.workloads import Session, run
from butter_proto.events import GatewayEvent
from butter_proto.settings import Json, Limits, Settings


@attrs.frozen
class _Session:
    gateway: butter_trio.Gateway

    async def request(self, method: str, params: Any) -> Any:
        return await self.gateway.request(method, params)

    async def burst(self, params: dict[str, int]) -> tuple[int, Any]:
        taken = 0
        async with self.gateway.events("bench", limit=params["count"]) as events:
            await self.gateway.request("bench.burst", params)
            async for event in events:
                assert isinstance(event, GatewayEvent), event
                taken += 1
                if taken == params["count"]:
                    return taken, event.payload
        raise AssertionError("the events ended")


@asynccontextmanager
async def open_session(job: Job, json: Json) -> AsyncIterator[Session]:
    """Connect as an application does."""
    settings = Settings(json=json, limits=Limits(max_in_flight=job.window))
    async with butter_trio.connect(job.url, settings=settings) as gateway:
        yield _Session(gateway)


if __name__ == "__main__":
    opener = partial(open_session, json=Json(sys.argv[1]))
    serve_jobs(lambda job: trio.run(run, job, opener, RUNTIME))
