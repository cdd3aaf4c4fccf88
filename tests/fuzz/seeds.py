"""Writes inputs made of real conversations: ``python -m tests.fuzz.seeds FOLDER``.

A connector talks with the stand-in gateway, and what passes between them is written down: the
gateway's side for `bytes` and `differential`, the client's for `stand_in`, each message for `frames`.
Lines of recordings are for `recording`.
``python -m tests.fuzz --all --corpus FOLDER --merge`` then takes what adds coverage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha1
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final

from butter_proto import Connector, Dialect, GatewayError, Limits, Settings
from butter_proto.frames import DEEPEST
from butter_proto.machine import OpenTransport, State
from butter_proto.testing import StandInGateway
from tests.fuzz.bytes import FRAMINGS, KINDS, PHASES
from tests.fuzz.recording import NAMES, recorded
from tests.proto.gateway_side import TOKEN, close, frame, length_of, text
from tests.proto.operations import BEGIN, URL, Ids, new_machine
from tests.proto.strategies import HTTP_ANSWERS, REFUSALS

SIZES: Final = (0, 7)
SHORT: Final = 126
"""Bytes of a frame whose length is one byte."""
_LONG: Final = b'{"type":"event","event":"' + b"x" * 1500 + b'"}'
TOO_LONG: Final = frame(1, _LONG[:800], fin=False) + frame(0, _LONG[800:])
"""For the last of `KINDS`, though none of its fragments is."""
PROXY_ANSWERS: Final = (
    b"HTTP/1.1 200 Connection established\r\n\r\n",
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\nno",
    b"HTTP/1.0 100 Continue\r\n\r\nHTTP/1.1 502 \xff\r\nContent-Length: 3\r\n\r\nbad",
)
FRAMES: Final = (
    *(close(code, "bye") for code in (1000, 1012, 4001)),
    frame(8),
    frame(8, b"\x03\xe8\xff"),
    frame(9, b"ping") + frame(10, b"pong"),
    frame(2, b"{}"),
    frame(1, b'{"type":"po', fin=False) + frame(9) + frame(0, b'ng"}'),
    frame(1, b"\xc3\xa9\xed\xa0\x80"),
    frame(1, b"[NaN]" * 300),
)
ODD_VALUES: Final = (
    *("true", "null", "-1", "1.5", "9007199254740992", "1e308", "1e309", "NaN", '""', '"\\ud800"'),
    *("[" * depth + "]" * depth for depth in (DEEPEST - 1, DEEPEST, 1900)),
    "1" * 4301,
)
ODD_FRAMES: Final = (
    '{"type":"event","event":"a","seq":%s,"stateVersion":{}}',
    '{"type":"event","event":"a","payload":%s}',
    '{"type":"res","id":"1","error":{"code":%s,"retryAfterMs":5}}',
    '{"type":"res","id":"1","error":{"code":"X","retryAfterMs":%s}}',
    '{"jsonrpc":"2.0","id":"1","result":null,"error":%s}',
)
Exchange = list[tuple[bool, bytes]]
"""What was said, in order; True for what the gateway said."""


def conversation(settings: Settings, new: Callable[..., Connector]) -> Exchange:
    """Let a connector go online, make some requests, hear an event, and be closed by its gateway."""
    legacy = settings.dialect is Dialect.OPENBUTTER_V1
    stand_in = StandInGateway(token=TOKEN, legacy=legacy, json_rpc=settings.json_rpc)
    stand_in.reply("refused", GatewayError("UNAVAILABLE", "busy", {"reason": "x"}, retryable=True))
    stand_in.reply("slow", {"done": True}, delay=2.0, interim={"status": "accepted"})
    machine = new(settings)
    said: Exchange = []
    now = BEGIN

    def settle() -> None:
        while (command := machine.next_command()) is not None:
            if isinstance(command, OpenTransport):
                stand_in.accept(command.id, now)
                machine.transport_opened(command.id, now)
        for _ in range(20):
            while data := machine.data_to_send(1):
                said.append((False, data))
                stand_in.receive_data(1, data, now)
            while data := stand_in.data_to_send(1):
                said.append((True, data))
                machine.receive_data(1, data, now)
            machine.token_stored(1, True, now)

    machine.start(now)
    settle()
    assert machine.state is State.ONLINE, machine.last_ending
    for method in ("echo", "refused", "slow", "unknown"):
        machine.request(method, {"text": "é"}, now=now, final=True)
    machine.probe(now)
    settle()
    stand_in.push("chat", {"text": "hello"}, seq_gap=1)
    for seconds in (3.0, 7.0, 25.0):
        now += seconds
        for one in (stand_in, machine):
            one.handle_timeout(now)
        settle()
    stand_in.restart()
    stand_in.handle_timeout(now)
    settle()
    return said


def with_plain_masks(settings: Settings) -> Connector:
    """Make a connector whose masks are zero, so that its frames can be read, and changed."""
    return Connector(URL, settings, random=Random(7).random, entropy=bytes, next_request_id=Ids())


def masked(data: bytes) -> bytes:
    """Give a short server's frame the zero mask of a client."""
    return bytes([data[0], data[1] | 0x80]) + bytes(4) + data[2:]


def messages(data: bytes) -> Iterator[bytes]:
    """Yield the payloads of a gateway's text frames."""
    while data:
        start, size = length_of(data)
        if data[0] == 0x81:
            yield data[start : start + size]
        data = data[start + size :]


def conversations() -> Iterator[tuple[str, bytes]]:
    """Yield both sides of a conversation in each dialect, and its messages."""
    for number, settings in enumerate(KINDS):
        if settings.identity is not None or settings.limits != Limits():
            continue  # its signatures prove nothing to a stand-in, or its hello is too large
        by_gateway = side(True, conversation(settings, new_machine))
        by_client = side(False, conversation(settings, with_plain_masks))
        frames = by_gateway.partition(b"\r\n\r\n")[2]
        yield from (("frames", message) for message in messages(frames))
        for size in SIZES:
            for framing in range(len(FRAMINGS)):
                yield from heard(bytes([framing, 0, number, size]) + by_gateway)
            yield "stand_in", bytes([min(number, 2), 0, size]) + by_client


def side(gateway: bool, exchange: Exchange) -> bytes:
    return b"".join(data for by_gateway, data in exchange if by_gateway is gateway)


def heard(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what a connector is to hear."""
    yield "bytes", data
    yield "differential", bytes([0, 2, 1]) + data


def single_frames() -> Iterator[tuple[str, bytes]]:
    """Yield frames that come alone, in each phase."""
    for phase in PHASES:
        for framing in range(len(FRAMINGS)):
            for data in FRAMES:
                yield from heard(bytes([framing, phase, 0, 0]) + data)
            yield "bytes", bytes([framing, phase, len(KINDS) - 1, 0]) + TOO_LONG
    for data in FRAMES:
        if len(data) < SHORT:
            yield "stand_in", bytes([0, 2, 0]) + masked(data)
    for refusal in REFUSALS:
        message = {"type": "res", "id": "1", "ok": False, "error": refusal}
        yield "frames", json.dumps(message).encode()
        for framing in range(len(FRAMINGS)):
            yield "bytes", bytes([framing, 2, 0, 0]) + text(message)


def odd_values() -> Iterator[tuple[str, bytes]]:
    """Yield frames with values that no gateway should send, where a value is looked at."""
    for value in ODD_VALUES:
        for pattern in ODD_FRAMES:
            yield "frames", (pattern % value).encode()


def http_answers() -> Iterator[tuple[str, bytes]]:
    """Yield answers to an upgrade request and to CONNECT."""
    for answer in HTTP_ANSWERS:
        yield from heard(bytes(4) + answer)
    for answer in (*HTTP_ANSWERS, *PROXY_ANSWERS):
        yield "bytes", b"P" + answer


def draws() -> Iterator[tuple[str, bytes]]:
    """Yield bytes for hypothesis to choose by: any are as good as others to begin with."""
    for target, kinds in (("operations", 2), ("differential", 4)):
        random = Random(kinds)
        for place in range(20):
            yield target, bytes([place % kinds]) + random.randbytes(random.choice([40, 200, 400]))


def recordings() -> Iterator[tuple[str, bytes]]:
    """Yield the first line of each input in each recording, in its place, and some cuts."""
    for number, name in enumerate(NAMES[1:], 1):
        lines = recorded(name)
        calls = {json.loads(line).get("call"): place for place, line in [*enumerate(lines)][::-1]}
        for place in calls.values():
            yield "recording", bytes([number, place, place + 1]) + lines[place].encode()
        for inputs in (0, 1):
            cut = {"cut": {"inputs": inputs, "attempts": inputs, "seconds": 60}, "carried": []}
            yield "recording", bytes([number, 3, 4]) + json.dumps(cut).encode()


def write(found: Iterable[tuple[str, bytes]], folder: Path) -> None:
    """Write each input to a file that is named by its content."""
    for target, data in found:
        (folder / target).mkdir(parents=True, exist_ok=True)
        (folder / target / sha1(data).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    every = chain(
        conversations(), single_frames(), odd_values(), http_answers(), draws(), recordings()
    )
    write(every, Path(sys.argv[1]))
