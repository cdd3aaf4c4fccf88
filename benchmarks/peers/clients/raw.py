"""No client at all: bytes made beforehand go out, and the bytes that come in are counted.

Rules kept here:

* Nothing is read but lengths: what it reaches is what this server, Python's sockets and the kernel
  can do, and no client on this machine can be faster than that by much.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from benchmarks.peers.clients.by_hand import CONNECT
from benchmarks.peers.clients.job import Job, Result, Stopwatch, check, serve_jobs
from benchmarks.peers.clients.workloads import PARAMS

_CHUNK = 1 << 18
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_SHORT, _LONG = 126, 65536


def frame(message: Any) -> bytes:
    """Write a message as a frame; its mask is 0, so that nothing has to be masked."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    size = len(payload)
    if size < _SHORT:
        header = struct.pack("!BB", 0x81, 0x80 | size)
    elif size < _LONG:
        header = struct.pack("!BBH", 0x81, 0x80 | 126, size)
    else:
        header = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
    return header + bytes(4) + payload


def _request(method: str, params: Any) -> bytes:
    return frame({"type": "req", "id": "raw", "method": method, "params": params})


class _Socket:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._socket.sendall(UPGRADE)
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more()
        del self._buffer[: end + 4]
        self.next_size()
        self.send(frame(CONNECT))
        self.next_size()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def next_size(self) -> int:
        """Read one frame and return its size, header included."""
        while len(self._buffer) < _HEADER[0] or len(self._buffer) < self._size():
            self._more()
        size = self._size()
        del self._buffer[:size]
        return size

    def skip(self, size: int) -> None:
        """Read so many bytes, and no more than came."""
        size -= len(self._buffer)
        self._buffer.clear()
        while size > 0:
            size -= len(self._socket.recv(_CHUNK))
        check(size, 0)

    def _size(self) -> int:
        length = self._buffer[1] & 127
        needed = _HEADER[max(0, length - 125)]
        if len(self._buffer) < needed:
            return needed
        return needed + (int.from_bytes(self._buffer[2:needed]) if needed > 2 else length)  # noqa: PLR2004

    def _more(self) -> None:
        data = self._socket.recv(_CHUNK)
        assert data
        self._buffer += data


_HEADER = (2, 4, 10)


def run(job: Job) -> Result:
    """Do one job."""
    if job.kind == "connects":
        watch = Stopwatch()
        for _ in range(job.count):
            _Socket(job.port).close()
        return watch.result(job.count)
    opened = _Socket(job.port)
    try:
        return _WITH_A_SOCKET[job.kind](job, opened)
    finally:
        opened.close()


def _requests(job: Job, opened: _Socket) -> Result:
    return _answered(_request("bench.echo", PARAMS), job.parallel, job.count, opened)


def _up(job: Job, opened: _Socket) -> Result:
    return _answered(_request("bench.size", {"text": "x" * job.size}), 1, job.count, opened)


def _down(job: Job, opened: _Socket) -> Result:
    return _answered(_request("bench.text", {"size": job.size}), 1, job.count, opened)


def _answered(request: bytes, parallel: int, count: int, opened: _Socket) -> Result:
    """Send ``parallel`` requests at a time and read their answers, all of one size."""
    opened.send(request)
    size = opened.next_size()
    many = request * parallel
    watch = Stopwatch()
    for _ in range(count // parallel):
        opened.send(many)
        opened.skip(size * parallel)
    return watch.result(count // parallel * parallel)


def _burst(job: Job, opened: _Socket) -> Result:
    ask = _request("bench.burst", {"count": job.count, "size": job.size})
    opened.send(_request("bench.burst", {"count": 1, "size": job.size}))
    opened.next_size()
    first = opened.next_size()  # its seq is 1: the others have more digits
    digits = sum(len(str(seq)) - 1 for seq in range(2, job.count + 2))
    watch = Stopwatch()
    opened.send(ask)
    opened.next_size()
    opened.skip(first * job.count + digits)
    return watch.result(job.count)


_WITH_A_SOCKET = {"requests": _requests, "burst": _burst, "up": _up, "down": _down}


if __name__ == "__main__":
    serve_jobs(run)
