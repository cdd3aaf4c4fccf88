"""The benchmark's server (server.c) as a process, and what it costs."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from butter_proto.events import Policy
from butter_proto.testing.admission import PROTOCOL
from butter_proto.testing.hello import EVENTS, SERVER_VERSION, health

_METHODS: Final = 466
_START_TIMEOUT: Final = 10.0


def hello() -> dict[str, Any]:
    """Build hello-ok's payload, as long as the real one (wire.md 3)."""
    policy = Policy(max_payload=26_214_400, max_buffered_bytes=52_428_800, tick_interval=30.0)
    return {
        "type": "hello-ok",
        "protocol": PROTOCOL,
        "server": {"version": SERVER_VERSION, "bootId": "bench", "connId": "bench"},
        "features": {
            "methods": [f"bench.some.method.{number}" for number in range(_METHODS)],
            "events": [*EVENTS, "bench"],
            "capabilities": [],
        },
        "snapshot": {
            "presence": [],
            "health": health(1),
            "stateVersion": {"presence": 1, "health": 1},
            "uptimeMs": 1,
        },
        "auth": {
            "method": "none",
            "role": "operator",
            "scopes": ["operator.read", "operator.write"],
        },
        "policy": {
            "maxPayload": policy.max_payload,
            "maxBufferedBytes": policy.max_buffered_bytes,
            "tickIntervalMs": round(policy.tick_interval * 1000),
        },
    }


@attrs.define
class Server:
    """One that runs."""

    port: int
    _account: socket.socket

    def cpu(self) -> float:
        """Return the CPU seconds that it has spent so far."""
        self._account.sendall(b"CPU\n")
        line = b""
        while not line.endswith(b"\n"):
            line += self._account.recv(64)
        return float(line)


@contextmanager
def running(executable: Path) -> Iterator[Server]:
    """Run the server for as long as the ``with`` lasts."""
    with tempfile.TemporaryDirectory() as folder:
        port, greeting = Path(folder) / "port", Path(folder) / "hello.json"
        greeting.write_text(json.dumps(hello(), separators=(",", ":")))
        process = subprocess.Popen([executable, port, greeting], stdin=subprocess.DEVNULL)
        try:
            number = _port_in(port, process)
            with socket.create_connection(("127.0.0.1", number)) as account:
                yield Server(number, account)
        finally:
            process.kill()
            process.wait()


def _port_in(file: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until the server has written its port."""
    deadline = time.monotonic() + _START_TIMEOUT
    while not (file.exists() and file.read_text().endswith("\n")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the benchmark's server did not start")
        time.sleep(0.01)
    return int(file.read_text())
