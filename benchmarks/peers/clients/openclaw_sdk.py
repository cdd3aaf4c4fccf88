"""`openclaw-sdk`, as it is. It connects only with a device, so it is given one in its HOME.

It limits messages to 1 MiB (the default of `websockets`), so larger ones do not come through.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from openclaw_sdk.gateway.protocol import ProtocolGateway

from benchmarks.peers.clients.job import Job, serve_jobs
from benchmarks.peers.clients.on_asyncio import RUNTIME
from benchmarks.peers.clients.workloads import Session, run

_TOKEN = "bench"  # noqa: S105 - the server asks for none


@attrs.frozen
class _Session:
    gateway: ProtocolGateway

    async def request(self, method: str, params: Any) -> Any:
        return await self.gateway.call(method, params)

    async def burst(self, params: dict[str, int]) -> tuple[int, Any]:
        taken = 0
        events = await self.gateway.subscribe(["bench"])
        await self.gateway.call("bench.burst", params)
        async for event in events:
            taken += 1
            if taken == params["count"]:
                return taken, event.data["payload"]
        raise AssertionError("the events ended")


@asynccontextmanager
async def _open(job: Job) -> AsyncIterator[Session]:
    gateway = ProtocolGateway(job.url, _TOKEN)
    await gateway.connect()
    try:
        yield _Session(gateway)
    finally:
        await gateway.close()


def _make_device(home: Path) -> None:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    folder = home / ".openclaw" / "identity"
    folder.mkdir(parents=True)
    device = {
        "deviceId": "bench",
        "privateKeyPem": private.decode(),
        "publicKeyPem": public.decode(),
    }
    token = {"token": _TOKEN, "role": "operator", "scopes": ["operator.read"]}
    (folder / "device.json").write_text(json.dumps(device))
    (folder / "device-auth.json").write_text(json.dumps({"tokens": {"operator": token}}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        _make_device(Path(folder))
        serve_jobs(lambda job: asyncio.run(run(job, _open, RUNTIME)))
