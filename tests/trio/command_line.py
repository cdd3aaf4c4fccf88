"""The ``butter`` command as its tests run it: processes of its own, and a stand-in beside them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import trio

from butter_proto.testing import StandInGateway
from butter_trio.serve import serve
from butter_trio.words import PASSWORD_VARIABLE, TOKEN_VARIABLE

TOP = Path(__file__).parents[2]


@contextlib.contextmanager
def served(stand_in: StandInGateway) -> Iterator[str]:
    """Serve a stand-in from a thread of its own; yields its URL."""
    started = threading.Event()
    urls: list[str] = []
    stops: list[Callable[[], None]] = []

    async def main() -> None:
        async with serve(stand_in) as url:
            token, scope = trio.lowlevel.current_trio_token(), trio.CancelScope()
            urls.append(url)
            stops.append(lambda: token.run_sync_soon(scope.cancel))
            started.set()
            with scope:
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert started.wait(10)
    try:
        yield urls[0]
    finally:
        stops[0]()
        thread.join(10)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "butter_trio.cli", *arguments]


def environment(token: str = "") -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(TOP), TOKEN_VARIABLE: token, PASSWORD_VARIABLE: ""}


def butter(*arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(token),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextlib.contextmanager
def started(*arguments: str, token: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start ``butter``; it is killed at the end if it still runs."""
    with subprocess.Popen(
        command(*arguments),
        env=environment(token),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def ends_cleanly(process: subprocess.Popen[str]) -> bool:
    """Tell whether Ctrl-C ends it with 130 and without a traceback."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    return process.returncode == 130 and "Traceback" not in errors
