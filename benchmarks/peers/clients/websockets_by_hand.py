"""`websockets` on asyncio, requests and answers matched by hand; json or orjson.

Rules kept here:

* It is what one would write: a reader task, a dict of futures, a callback for events. No deadlines,
  no keepalive of its own, no limits: less than a client that lasts must do.
* orjson reads the message's bytes and writes bytes that are sent as text: nothing is copied.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.peers.clients.by_hand import CONNECT, LARGEST, Burst
from benchmarks.peers.clients.job import Job, serve_jobs
from benchmarks.peers.clients.on_asyncio import RUNTIME
from benchmarks.peers.clients.workloads import Session, run


class _Session:
    def __init__(
        self,
        socket: ClientConnection,
        load: Callable[[str | bytes], Any],
        dump: Callable[[Any], str | bytes],
        *,
        as_bytes: bool,
    ) -> None:
        self._socket, self._load, self._dump = socket, load, dump
        self._as_bytes = as_bytes
        self._ids = count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._burst: Burst | None = None

    async def handshake(self) -> None:
        """Wait for the challenge, send connect, take hello."""
        await self._socket.recv()
        await self._socket.send(self._dump(CONNECT), text=True)
        assert self._load(await self._socket.recv())["ok"]

    async def read(self) -> None:
        """Hand each message to whom it is for."""
        load, waiting, socket = self._load, self._waiting, self._socket
        decode = False if self._as_bytes else None
        while True:
            message = load(await socket.recv(decode=decode))
            if message["type"] == "res":
                waiting.pop(message["id"]).set_result(message)
            elif self._burst is not None:
                self._burst.on_event(message)

    async def request(self, method: str, params: Any) -> Any:
        request_id = str(next(self._ids))
        answer = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        message = {"type": "req", "id": request_id, "method": method, "params": params}
        await self._socket.send(self._dump(message), text=True)
        frame = await answer
        assert frame["ok"]
        return frame["payload"]

    async def burst(self, params: dict[str, int]) -> tuple[int, Any]:
        complete = asyncio.Event()
        burst = self._burst = Burst(params["count"], complete.set)
        await self.request("bench.burst", params)
        await complete.wait()
        return burst.count, burst.last


@asynccontextmanager
async def _open(job: Job, codec: str) -> AsyncIterator[Session]:
    async with connect(job.url, max_size=LARGEST, compression=None) as socket:
        if codec == "orjson":
            import orjson  # noqa: PLC0415 - one of the two

            session = _Session(socket, orjson.loads, orjson.dumps, as_bytes=True)
        else:
            dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
            session = _Session(socket, json.loads, dump, as_bytes=False)
        await session.handshake()
        reader = asyncio.create_task(session.read())
        try:
            yield session
        finally:
            reader.cancel()


if __name__ == "__main__":
    open_session = partial(_open, codec=sys.argv[1])
    serve_jobs(lambda job: asyncio.run(run(job, open_session, RUNTIME)))
