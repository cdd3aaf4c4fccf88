"""The gateway's side of one transport, as bytes: what it reads, and what it may say.

Rules kept here:

* It reads with wsproto, so what the machine sends must be right, and ends with its Close frame.
* It says anything at any time; a speech only knows what would be the right thing to say.
* Where a host speaks WebSocket, that host stands between: it writes each message as one frame
  (`written`), and hands over what it reads without a look at it (`inputs_of`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import wsproto
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from butter_proto import Framing, machine

TOKEN: Final = "QQ-token-QQ"
PASSWORD: Final = f"{TOKEN}-QQ-tail-QQ"
DEVICE_TOKEN: Final = "QQ-device-QQ"
OTHER_DEVICE_TOKEN: Final = "QQ-other-device-QQ"
RECOVERY: Final = "QQ-recovery-QQ"
SURFACE: Final = "http://127.0.0.1/QQ-surface-QQ"
PAYLOAD: Final = "PP-payload-PP"
_WRONG_UPGRADE: Final = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


SERVERS: Final[dict[Framing, type[wsproto.WSConnection | Connection]]] = {
    Framing.BYTES: wsproto.WSConnection,
    Framing.MESSAGES: Connection,  # the host has done the upgrade
}


class Ids(Protocol):
    """Where the machine's ids come from."""

    @property
    def following(self) -> str:
        """The id that is drawn next."""


class Peer:
    """What came over one transport."""

    def __init__(self, ids: Ids, framing: Framing = Framing.BYTES) -> None:
        self.upgrade = _WRONG_UPGRADE
        """The answer to the upgrade request; a wrong one before that came."""
        self.messages: list[dict[str, Any]] = []
        """Every message that came whole, the connect request included."""
        self.texts: list[str] = []
        """Every message of which anything came, as far as it came."""
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.closed = False
        self.phase = 0
        """How many steps of the handshake were said."""
        self.seq = 0
        self._ids = ids
        self._ws = SERVERS[framing](wsproto.ConnectionType.SERVER)
        self._inside = False

    def read(self, data: bytes) -> None:
        """Take in what the machine sent."""
        assert not self.closed, "bytes after the Close frame"
        head, frames = sent_frames(data)
        assert all(first & 0xF != 8 for first, _ in frames[:-1]), "frames after the Close frame"
        for part in (head, data[len(head) :]):  # wsproto loses what comes behind a request
            self._ws.receive_data(part)
            for event in self._ws.events():
                self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Request():
                assert isinstance(self._ws, wsproto.WSConnection)
                self.upgrade = self._ws.send(AcceptConnection())
            case TextMessage():
                self._read_text(event)
            case Ping():
                self.pings.append(bytes(event.payload))
            case Pong():
                self.pongs.append(bytes(event.payload))
            case CloseConnection():
                assert self._ws.state is ConnectionState.REMOTE_CLOSING, event
                self.closed = True

    def _read_text(self, event: TextMessage) -> None:
        if self._inside:
            self.texts[-1] += event.data
        else:
            self.texts.append(event.data)
        self._inside = not event.message_finished
        if event.message_finished:
            self.messages.append(json.loads(self.texts[-1]))

    @property
    def connect_id(self) -> str:
        """The id of the connect request; before that came, the id that it would have."""
        for message in self.messages:
            if message["method"] == "connect":
                return str(message["id"])
        return self._ids.following

    def request_id(self, which: int) -> str:
        """The id of a request after connect, counted from the last one."""
        asked = [str(one["id"]) for one in self.messages if one["method"] != "connect"]
        return asked[-1 - which % len(asked)] if asked else self._ids.following


def sent_frames(data: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Split what a client sent: an upgrade request, and each frame's first byte and payload."""
    head = data[: data.find(b"\r\n\r\n") + 4] if data.startswith(b"GET ") else b""
    data = data[len(head) :]
    frames = []
    while data:
        start, size = length_of(data)
        key, masked = data[start : start + 4], data[start + 4 : start + 4 + size]
        mask = (key * (size // 4 + 1))[:size]
        plain = int.from_bytes(masked) ^ int.from_bytes(mask)
        frames.append((data[0], plain.to_bytes(size)))
        data = data[start + 4 + size :]
    return head, frames


def length_of(data: bytes) -> tuple[int, int]:
    """Return where the length in a frame's header ends, and the length."""
    short = data[1] & 0x7F
    start = {126: 4, 127: 10}.get(short, 2)
    return start, int.from_bytes(data[2:start]) if start > 2 else short


def written(message: machine.Message) -> bytes:
    """Write a message as the frame of a client whose mask is zero."""
    match message:
        case machine.Text(text):
            plain = frame(1, text.encode())
        case machine.Ping(payload):
            plain = frame(9, payload)
        case machine.Close(code, reason):
            plain = close(code, reason)
    start, _ = length_of(plain)
    return bytes([plain[0], plain[1] | 0x80]) + plain[2:start] + bytes(4) + plain[start:]


def inputs_of(framing: Framing, data: bytes) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the inputs, by name and with their arguments, that bytes of the gateway become."""
    if framing is Framing.BYTES:
        if data:
            yield "receive_data", (data,)
        return
    if data.startswith(b"HTTP/"):
        data = data.partition(b"\r\n\r\n")[2]
    while len(data) > 1:
        start, size = length_of(data)
        payload = data[start : start + size]
        text = payload.decode(errors="surrogateescape")
        match data[0] & 0xF:
            case 8:
                code = int.from_bytes(payload[:2]) if payload else None
                reason = payload[2:].decode(errors="surrogateescape")
                yield "transport_closed", (code, reason)
            case 10:
                yield "receive_pong", (payload,)
            case 2:
                yield "receive_message", (payload,)
            case opcode if opcode != 9:  # it answers pings by itself
                yield "receive_message", (text,)
        data = data[start + size :]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Write a server's frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 65536:
        length = b"\x7e" + size.to_bytes(2)
    else:
        length = b"\x7f" + size.to_bytes(8)
    return bytes([fin << 7 | opcode]) + length + payload


def text(message: Any) -> bytes:
    """Write a message as one text frame."""
    return frame(1, json.dumps(message).encode())


def event(name: str, payload: Any = None, **fields: Any) -> bytes:
    """Write an event."""
    return text({"type": "event", "event": name, "payload": payload, **fields})


def response(request_id: str, payload: Any = None, error: Any = None) -> bytes:
    """Write the answer to a request."""
    message = {"type": "res", "id": request_id, "ok": error is None, "payload": payload}
    return text(message if error is None else {**message, "error": error})


def close(code: int, reason: str = "") -> bytes:
    """Write a Close frame."""
    return frame(8, code.to_bytes(2) + reason.encode())


def hello_ok(
    max_payload: int | None = None, boot_id: str = "boot-1", device_token: str = DEVICE_TOKEN
) -> dict[str, Any]:
    """Build a hello with everything secret that a hello may hold (wire.md 3)."""
    policy = {"tickIntervalMs": 30_000, "maxBufferedBytes": 52_428_800}
    return {
        "type": "hello-ok",
        "protocol": 4,
        "server": {"version": "2026.9.6", "bootId": boot_id, "connId": "a connection"},
        "snapshot": {"health": PAYLOAD},
        "pluginSurfaceUrls": {"canvas": SURFACE},
        "auth": {
            "method": "token",
            "role": "operator",
            "scopes": ["operator.read"],
            "deviceToken": device_token,
            "recoveryScope": RECOVERY,
        },
        "policy": policy if max_payload is None else {**policy, "maxPayload": max_payload},
    }


# --- speeches: from what was read to bytes -------------------------------------------------------

Speech = Callable[[Peer], bytes]


def upgraded(peer: Peer) -> bytes:
    return peer.upgrade


def challenged(_: Peer, nonce: Any = "a nonce") -> bytes:
    return event("connect.challenge", {"nonce": nonce, "ts": 1_795_397_784_915})


def welcomed(
    peer: Peer,
    max_payload: int | None = None,
    boot_id: str = "boot-1",
    device_token: str = DEVICE_TOKEN,
) -> bytes:
    return response(peer.connect_id, hello_ok(max_payload, boot_id, device_token))


def refused(peer: Peer, error: Any) -> bytes:
    return response(peer.connect_id, error=error)


def answered(peer: Peer, which: int, payload: Any = None, error: Any = None) -> bytes:
    return response(peer.request_id(which), payload, error)


def pushed(peer: Peer, name: str, payload: Any = None, gap: int = 0) -> bytes:
    peer.seq += 1 + gap
    return event(name, payload, seq=peer.seq, stateVersion={"health": peer.seq})


def ponged(peer: Peer) -> bytes:
    return frame(10, peer.pings[-1] if peer.pings else b"")


def said(_: Peer, data: bytes) -> bytes:
    return data
