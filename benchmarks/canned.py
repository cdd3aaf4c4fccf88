"""A gateway of canned frames, with the real content, and a machine that is online with it.

Rules kept here:

* It is written for speed: what is measured with it is the machine, pulled as a driver does.
"""

from __future__ import annotations

import json
import re
import struct
from random import Random
from typing import Any, Final

from wsproto.utilities import generate_accept_token

from butter_proto import Connector, Pool, State
from butter_proto.machine import CHUNK, OpenTransport
from butter_proto.outbox import LENGTH_16
from butter_proto.settings import Settings

_KEY: Final = re.compile(rb"Sec-WebSocket-Key: (\S+)", re.IGNORECASE)
_LENGTH_64_FROM: Final = 0x10000
_TEXT: Final = 0x81


def frame(first: int, payload: bytes) -> bytes:
    """Write an unmasked frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < LENGTH_16:
        return bytes((first, size)) + payload
    if size < _LENGTH_64_FROM:
        return struct.pack("!BBH", first, LENGTH_16, size) + payload
    return struct.pack("!BBQ", first, LENGTH_16 + 1, size) + payload


def text(message: dict[str, Any]) -> bytes:
    """Write a message as a text frame."""
    return frame(0x81, json.dumps(message).encode())


def upgraded(key: bytes) -> bytes:
    """Answer the upgrade."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + generate_accept_token(key) + b"\r\n\r\n"
    )


def hello(request_id: str) -> bytes:
    """Answer connect."""
    return text({"type": "res", "id": request_id, "ok": True, "payload": _HELLO})


CHALLENGE: Final = text(
    {"type": "event", "event": "connect.challenge", "payload": {"nonce": "n", "ts": 1}}
)
_HELLO: Final = {
    "type": "hello-ok",
    "protocol": 4,
    "server": {"version": "2026.9.6", "bootId": "boot", "connId": "connection"},
    "features": {"methods": ["health"], "events": ["tick"]},
    "auth": {"method": "none", "role": "operator", "scopes": ["operator.read", "operator.write"]},
    "policy": {"maxPayload": 26214400, "maxBufferedBytes": 52428800, "tickIntervalMs": 30000},
}


def event(number: int, size: int) -> bytes:
    """Write an event's JSON with so many characters of text; ``number`` is its seq."""
    payload = {"text": "x" * size}
    message = {"type": "event", "event": "bench", "payload": payload, "seq": number}
    return json.dumps(message, separators=(",", ":")).encode()


def stream_of(count: int, size: int, first: int = 1) -> bytes:
    """Write so many events as frames, as they come on one connection; ``first`` is their seq."""
    return b"".join(frame(_TEXT, event(number, size)) for number in range(first, first + count))


def answer(request_id: str, payload: Any) -> bytes:
    """Write an answer as a frame."""
    message = {"type": "res", "id": request_id, "ok": True, "payload": payload}
    return frame(_TEXT, json.dumps(message, separators=(",", ":")).encode())


def new_connector(settings: Settings | None = None) -> Connector:
    """Return one that was not started."""
    random = Random(1)  # noqa: S311 - nonces and masks
    return Connector(
        "ws://gateway.local:18789/", settings, random=random.random, entropy=random.randbytes
    )


def online(settings: Settings | None = None) -> tuple[Connector, int]:
    """Return a Connector that is online, and its transport's id; it has drawn one request id."""
    machine = new_connector(settings)
    machine.start(0.0)
    return machine, greet(machine, "1")


def greet(machine: Connector | Pool, connect_id: str, now: float = 0.0) -> int:
    """Open the next transport and answer until hello; return its id."""
    command = machine.next_command()
    assert isinstance(command, OpenTransport)
    machine.transport_opened(command.id, now)
    key = _KEY.search(machine.data_to_send(command.id))
    assert key is not None
    machine.receive_data(command.id, upgraded(key[1]) + CHALLENGE, now)
    assert machine.data_to_send(command.id)
    machine.receive_data(command.id, hello(connect_id), now)
    while machine.next_event() is not None:
        pass
    return command.id


def is_online(machine: Connector) -> bool:
    """Tell whether it is."""
    return machine.state is State.ONLINE


def feed(machine: Connector | Pool, transport_id: int, data: bytes, piece: int = CHUNK) -> int:
    """Let bytes arrive in pieces and pull as a driver does; return how many events were told."""
    told = 0
    receive, pull_bytes, pull = machine.receive_data, machine.data_to_send, machine.next_event
    for start in range(0, len(data), piece):
        receive(transport_id, data[start : start + piece], 0.0)
        while machine.next_command() is not None:
            pass
        pull_bytes(transport_id)
        while pull() is not None:
            told += 1
    return told
