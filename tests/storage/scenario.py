"""What the tests of storage share: a second process, and what is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from butter_proto.device import DeviceToken, TokenKey
from butter_proto.secret import Secret

TOP: Final = Path(__file__).parents[2]
KEY: Final = TokenKey("ws://127.0.0.1:18789", "d" * 64, "cli", "operator")
OTHER_KEY: Final = TokenKey("wss://gateway.example:443", "d" * 64, "cli", "operator")
FIRST: Final = DeviceToken(Secret("first-secret"), ("operator.read", "operator.write"))
SECOND: Final = DeviceToken(Secret("second-secret"), ())

needs_modes = pytest.mark.skipif(os.name != "posix", reason="files have no modes here")


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a fresh interpreter, killed at the end if it still runs."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def line_of(running: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


def tell(running: subprocess.Popen[str]) -> None:
    """Let a process go on that waits for a line."""
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file belong to another user than this process."""
    if os.geteuid() == 0:
        os.chown(path, 1, 1)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
