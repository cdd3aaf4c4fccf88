"""`trio-websocket`, requests and answers matched by hand, with the standard library's json."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from benchmarks.peers.clients.by_hand import CONNECT, LARGEST, Burst
from benchmarks.peers.clients.job import Job, serve_jobs
from benchmarks.peers.clients.on_trio import RUNTIME, online
from benchmarks.peers.clients.workloads import Session, run


class _Session:
    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._ids = count(1)
        self._waiting: dict[str, trio.Event] = {}
        self._answers: dict[str, Any] = {}
        self._burst: Burst | None = None
        self._dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    async def handshake(self) -> None:
        """Wait for the challenge, send connect, take hello."""
        await self._socket.get_message()
        await self._socket.send_message(self._dump(CONNECT))
        assert json.loads(await self._socket.get_message())["ok"]

    async def read(self) -> None:
        """Hand each message to whom it is for."""
        waiting, answers, socket = self._waiting, self._answers, self._socket
        while True:
            message = json.loads(await socket.get_message())
            if message["type"] == "res":
                answers[message["id"]] = message
                waiting.pop(message["id"]).set()
            elif self._burst is not None:
                self._burst.on_event(message)

    async def request(self, method: str, params: Any) -> Any:
        request_id = str(next(self._ids))
        answered = self._waiting[request_id] = trio.Event()
        message = {"type": "req", "id": request_id, "method": method, "params": params}
        await self._socket.send_message(self._dump(message))
        await answered.wait()
        answer = self._answers.pop(request_id)
        assert answer["ok"]
        return answer["payload"]

    async def burst(self, params: dict[str, int]) -> tuple[int, Any]:
        complete = trio.Event()
        burst = self._burst = Burst(params["count"], complete.set)
        await self.request("bench.burst", params)
        await complete.wait()
        return burst.count, burst.last


@asynccontextmanager
async def _open(job: Job) -> AsyncIterator[Session]:
    async with open_websocket_url(job.url, max_message_size=LARGEST) as socket:
        session = _Session(socket)
        async with online(session):
            yield session


if __name__ == "__main__":
    serve_jobs(lambda job: trio.run(run, job, _open, RUNTIME))
