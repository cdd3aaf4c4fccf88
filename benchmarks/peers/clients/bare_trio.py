"""No client either: the least that any client on trio must do, and nothing else.

Rules kept here:

* One task reads, another one asks and is woken: answers may come in any order, so no caller can
  read for itself. There is no deadline, no keepalive, no limit, no check.
* Messages are made by the standard library's json; the mask is 0; every frame is taken to come
  whole, as this server sends them.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import trio

from benchmarks.peers.clients.by_hand import CONNECT
from benchmarks.peers.clients.job import Job, serve_jobs
from benchmarks.peers.clients.on_trio import RUNTIME, online
from benchmarks.peers.clients.raw import UPGRADE, frame
from benchmarks.peers.clients.workloads import Session, run

_CHUNK = 1 << 16
_HEAD_END = b"\r\n\r\n"
_SIZES = {126: 4, 127: 10}


def _give_up(_: Callable[..., None]) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


class _Session:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""
        self._ids = count(1)
        self._waiting: dict[str, trio.lowlevel.Task] = {}
        self._answers: dict[str, Any] = {}

    async def handshake(self) -> None:
        """Upgrade, wait for the challenge, send connect, take hello."""
        await self._stream.send_all(UPGRADE)
        while _HEAD_END not in self._buffer:
            await self._more()
        self._buffer = self._buffer.partition(_HEAD_END)[2]
        await self._next()
        await self._stream.send_all(frame(CONNECT))
        assert (await self._next())["ok"]

    async def read(self) -> None:
        """Wake whom each answer is for."""
        while True:
            answer = await self._next()
            if answer["type"] == "res":
                self._answers[answer["id"]] = answer["payload"]
                trio.lowlevel.reschedule(self._waiting.pop(answer["id"]))

    async def _next(self) -> Any:
        while not self._is_whole():
            await self._more()
        start, end = self._place()
        message, self._buffer = self._buffer[start:end], self._buffer[end:]
        return json.loads(message)

    async def _more(self) -> None:
        await trio.lowlevel.wait_readable(self._stream.socket)
        data = os.read(self._stream.socket.fileno(), _CHUNK)
        assert data, "the server has closed"
        self._buffer += data

    def _is_whole(self) -> bool:
        return len(self._buffer) > max(_SIZES.values()) and len(self._buffer) >= self._place()[1]

    def _place(self) -> tuple[int, int]:
        length = self._buffer[1]
        start = _SIZES.get(length, 2)
        if length in _SIZES:
            length = int.from_bytes(self._buffer[2:start])
        return start, start + length

    async def request(self, method: str, params: Any) -> Any:
        request_id = str(next(self._ids))
        self._waiting[request_id] = trio.lowlevel.current_task()
        message = {"type": "req", "id": request_id, "method": method, "params": params}
        os.write(self._stream.socket.fileno(), frame(message))
        await trio.lowlevel.wait_task_rescheduled(_give_up)
        return self._answers.pop(request_id)

    async def burst(self, params: dict[str, int]) -> tuple[int, Any]:
        raise NotImplementedError("it reads no events")


@asynccontextmanager
async def open_session(job: Job) -> AsyncIterator[Session]:
    """Connect."""
    async with await trio.open_tcp_stream("127.0.0.1", job.port) as stream:
        session = _Session(stream)
        async with online(session):
            yield session


if __name__ == "__main__":
    serve_jobs(lambda job: trio.run(run, job, open_session, RUNTIME))
