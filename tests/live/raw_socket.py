"""A raw client of the real gateway, without any of our machines: what is on the wire is what is seen.

It is for what a test has to see as a frame, and for what no connector of ours would send.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from butter_proto.device_auth import SignedPayload, device_id, prove

READ_WRITE = ("operator.read", "operator.write")


class Key:
    """A new device: a signer with a key of its own."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    @property
    def device_id(self) -> str:
        return device_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class Closed(Exception):
    """The gateway closed; the arguments are code and reason, or HTTP status and body."""


class RawSocket:
    """One WebSocket; `challenge` is the payload of its first event, a connect.challenge."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._text = ""
        self._frames: list[Any] = []
        self._closed: Closed | None = None
        self.challenge: dict[str, Any] = {}

    async def upgrade(self, host: str, headers: Mapping[str, str]) -> None:
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._stream.send_all(self._ws.send(Request(host, "/", extra_headers=extra)))
        self.challenge = (await self.frame())["payload"]

    async def frame(self) -> Any:
        """Return the next frame. Raises `Closed`, with what came before it already returned."""
        while not self._frames:
            if self._closed is not None:
                raise self._closed
            data = bytes(await self._stream.receive_some(64 * 1024))
            self._ws.receive_data(data or None)
            for event in self._ws.events():
                await self._read(event)
        return self._frames.pop(0)

    async def request(self, method: str, params: Mapping[str, Any], **extra: Any) -> Any:
        """Send a request and return its response; events before it are lost."""
        frame = {"type": "req", "id": method, "method": method, "params": params, **extra}
        await self._stream.send_all(self._ws.send(TextMessage(json.dumps(frame))))
        while (answer := await self.frame())["type"] != "res":
            pass
        return answer

    async def connect(self, params: Mapping[str, Any], key: Key | None = None) -> Any:
        """Send a connect request, signed by `key`, and return its response."""
        if key is None:
            return await self.request("connect", params)
        challenge = self.challenge
        device = prove(key, SignedPayload.V3, params, challenge["nonce"], challenge["ts"])
        return await self.request("connect", {**params, "device": device})

    async def closing(self) -> tuple[Any, ...]:
        """Return what the gateway closes with, past all the frames before it."""
        try:
            while True:
                await self.frame()
        except Closed as closed:
            return closed.args

    async def _read(self, event: Any) -> None:
        match event:
            case TextMessage():
                self._text += event.data
                if event.message_finished:
                    self._frames.append(json.loads(self._text))
                    self._text = ""
            case Ping():
                await self._stream.send_all(self._ws.send(event.response()))
            case CloseConnection():
                self._closed = Closed(int(event.code), event.reason)
            case RejectConnection():
                self._closed = Closed(event.status_code, b"")
            case RejectData():
                assert self._closed is not None
                self._closed = Closed(self._closed.args[0], self._closed.args[1] + event.data)
            case AcceptConnection():
                pass


@asynccontextmanager
async def raw_socket(
    url: str, *, trust: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[RawSocket]:
    """Dial, upgrade and read the challenge. Raises `Closed` where the upgrade is refused."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    stream: trio.abc.Stream = await trio.open_tcp_stream(address.hostname, address.port)
    if address.scheme == "wss":
        stream = trio.SSLStream(
            stream,
            trust or ssl.create_default_context(),
            server_hostname=address.hostname,
            https_compatible=True,
        )
    try:
        socket = RawSocket(stream)
        await socket.upgrade(address.netloc, headers or {})
        yield socket
    finally:
        await trio.aclose_forcefully(stream)


def connect_params(
    auth: Mapping[str, str] | None = None,
    *,
    scopes: Sequence[str] = READ_WRITE,
    role: str = "operator",
    **client: str,
) -> dict[str, Any]:
    """Return a connect request's params; `client` names are put in place of cli/cli on linux."""
    return {
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": {"id": "cli", "mode": "cli", "version": "1", "platform": "linux", **client},
        "role": role,
        "scopes": list(scopes),
        "auth": dict(auth or {}),
    }
