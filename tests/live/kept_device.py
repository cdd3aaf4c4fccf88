"""A device in files, as `butter_proto.storage` keeps it, and a process of its own that uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from butter_proto.device import DeviceToken, TokenKey
from butter_proto.device_auth import device_id
from butter_proto.secret import Secret
from butter_proto.storage import FileTokenStore, open_device

from .real_gateway import RealGateway

TOP: Final = Path(__file__).parents[2]

_BEGIN: Final = """\
import json, sys
{imports}
from butter_proto.device_auth import device_id
from butter_proto.storage import open_device

url, folder = sys.argv[1:]
token = sys.stdin.readline().strip() or None
device = open_device(folder)

def say(hello):
    said = [device_id(device.signer.public_key), hello.auth_method, hello.scopes]
    print(json.dumps(said), flush=True)

"""
_PROGRAMS: Final[Mapping[str, str]] = {
    "threads": _BEGIN.format(imports="import butter_threads")
    + """\
with butter_threads.connect(url, token=token, device=device) as gateway:
    say(gateway.hello)
    sys.stdin.read()
    gateway.request("health")
""",
    "trio": _BEGIN.format(imports="import butter_trio, trio")
    + """\
async def main():
    async with butter_trio.connect(url, token=token, device=device) as gateway:
        say(gateway.hello)
        await trio.to_thread.run_sync(sys.stdin.read)
        await gateway.request("health")

trio.run(main)
""",
}
"""For each adapter: connect, say so, and stay until the standard input ends."""


class KeptDevice:
    """A device that is kept in ``folder``; made where there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.device = open_device(folder)
        self.store = FileTokenStore(folder)

    @property
    def device_id(self) -> str:
        """What the gateway calls it."""
        return device_id(self.device.signer.public_key)

    @property
    def token(self) -> DeviceToken | None:
        """The one token in its file, read now; None where there is none."""
        kept = self.store.kept()
        assert len(kept) <= 1
        return self.store.load(kept[0].key) if kept else None

    def spoil_token(self, text: str) -> None:
        """Put a token into the file that no gateway gave, in place of the one there."""
        [kept] = self.store.kept()
        self.store.save(kept.key, DeviceToken(Secret(text), kept.scopes))


class SlowStore:
    """A store whose disk takes its time before a token is in the file."""

    TIME: Final = 0.5
    """Seconds: longer than it takes to tell and to look."""

    def __init__(self, store: FileTokenStore) -> None:
        self._store = store

    def load(self, key: TokenKey) -> DeviceToken | None:
        return self._store.load(key)

    def save(self, key: TokenKey, token: DeviceToken, replaces: Secret | None = None) -> None:
        time.sleep(self.TIME)
        self._store.save(key, token, replaces)

    def forget(self, key: TokenKey, token: Secret) -> None:
        self._store.forget(key, token)


@asynccontextmanager
async def connected_process(
    over: str, gateway: RealGateway, folder: Path, *, token: str | None = None
) -> AsyncIterator[tuple[str, str, list[str]]]:
    """Run a process that is online with the device in ``folder`` while the ``async with`` lasts.

    Gives its device id, and the method and the scopes of its hello. It must end well.
    """
    process: trio.Process = await trio.lowlevel.open_process(
        [sys.executable, "-W", "error", "-c", _PROGRAMS[over], gateway.url, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdin.send_all(f"{token or ''}\n".encode())
        said = b""
        while not said.endswith(b"\n") and (data := await process.stdout.receive_some()):
            said += data
        assert said, "it ended before it was online"
        told: Any = tuple(json.loads(said))
        yield told
        await process.stdin.aclose()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await trio.aclose_forcefully(process.stdout)
