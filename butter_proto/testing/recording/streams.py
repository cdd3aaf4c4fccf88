"""What a recording keeps of a transport's inbound bytes: as many, with the same effect.

Rules kept here:

* The bytes of a transport are looked at as one stream: a secret may have been cut by two reads.
* HTTP heads keep their lines, the status, and the names and values that say nothing of anybody. A
  refusal's body keeps its chunks (RFC 9112, 7.1). Frames keep their headers; messages.py says what
  of each message.
* Whatever comes after the last thing that could be read is blank: it is not read by a machine.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

from butter_proto.reconnect import is_known_reason
from butter_proto.testing.recording.boundaries import SWITCHED, frame_header
from butter_proto.testing.recording.fillers import Fillers
from butter_proto.testing.recording.messages import Messages, blank_text
from butter_proto.websocket import HEAD_END, HTTP, INFORMATIONAL

_CLOSE: Final = 8
PONG: Final = 10
_CODE: Final = 2
_ASCII: Final = 0x80
_OPEN_HEADERS: Final = frozenset(
    {
        *(b"connection", b"content-length", b"content-type", b"date", b"retry-after"),
        *(b"sec-websocket-accept", b"transfer-encoding", b"upgrade"),
    }
)
_READ: Final = b"sec-websocket-"
"""What names begin with that the upgrade looks for, whatever the value."""
_CHUNKED: Final = re.compile(rb"\ntransfer-encoding:[^\n]*chunked", re.IGNORECASE)
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*\r?\n")
_PLAIN: Final = bytes(
    ord("x") if chr(byte).isalnum() and byte < _ASCII else 0xFF if byte >= _ASCII else byte
    for byte in range(256)
)
"""Letters and digits hidden; what a parser may stumble over stays what it is."""
_LINES: Final = bytes(byte if byte in b"\r\n" else ord(" ") for byte in range(256))
_NO_CHUNK: Final = bytes(byte if byte in b"\r\n" else ord("z") for byte in range(256))


class Streams:
    """Cleans the inbound bytes of transports. ``ids`` are those that the machine drew."""

    def __init__(self, messages: Messages, fillers: Fillers, ids: Container[str]) -> None:
        self._messages = messages
        self._fillers = fillers
        self._ids = ids

    def clean(self, stream: bytes) -> bytes:
        """Return a stream of as many bytes with the same effect."""
        head, place = self._heads(stream)
        if place is None:
            return head.ljust(len(stream))
        cleaned = bytearray(head + b" " * (len(stream) - place))
        frames = _Frames(stream, place)
        for message in frames.messages():
            parts = [stream[start:end] for start, end in message]
            whole = self._messages.clean(b"".join(parts))
            _put(cleaned, message, whole)
        for start, end in frames.headers:
            cleaned[start:end] = stream[start:end]
        for opcode, start, end in frames.controls:
            cleaned[start:end] = self.control(opcode, stream[start:end])
        left = b"".join(stream[start:end] for start, end in frames.unfinished)
        _put(cleaned, frames.unfinished, _unfinished(left))
        return bytes(cleaned)

    def control(self, opcode: int, payload: bytes) -> bytes:
        """Clean the payload of a control frame."""
        if opcode == _CLOSE:
            return payload[:_CODE] + self._reason(payload[_CODE:])
        kept = opcode == PONG and payload.decode(errors="replace") in self._ids
        return payload if kept else b" " * len(payload)

    def _reason(self, reason: bytes) -> bytes:
        try:
            text = str(reason, "utf-8")
        except UnicodeDecodeError as error:
            return blank_text(len(reason), error)
        if not is_known_reason(text):
            return blank_text(len(reason))
        return self._fillers.text(text).encode().ljust(len(reason))

    def _heads(self, stream: bytes) -> tuple[bytes, int | None]:
        """Clean what is HTTP; return it, and where the frames begin if any do."""
        cleaned, place = b"", 0
        while True:
            begin = stream[place : place + len(HTTP)]
            if not HTTP.startswith(begin):
                return cleaned + _common(begin), None
            end = HEAD_END.search(stream, place)
            if end is None:  # it is never read
                return cleaned + begin + stream[place + len(begin) :].translate(_LINES), None
            head = stream[place : end.end()]
            cleaned += self._head(head)
            place = end.end()
            if INFORMATIONAL.match(head):
                continue
            if head[len(HTTP) + 1 :].startswith(SWITCHED):
                return cleaned, place
            body = stream[place:]
            return cleaned + (_chunks(body) if _CHUNKED.search(head) else b" " * len(body)), None

    def _head(self, head: bytes) -> bytes:
        first, *others = self._fillers.data(head).split(b"\n")
        return b"\n".join([_first(first), *map(_header, others)])


class _Frames:
    """Where the frames of a stream, and the parts of its messages, begin and end."""

    def __init__(self, stream: bytes, place: int | None) -> None:
        self._place = len(stream) if place is None else place
        self._stream = stream
        self.headers: list[tuple[int, int]] = []
        self.controls: list[tuple[int, int, int]] = []
        self.unfinished: list[tuple[int, int]] = []
        """The parts of a message that is not whole."""

    def messages(self) -> list[list[tuple[int, int]]]:
        """Return the places of the parts of each whole message."""
        found: list[list[tuple[int, int]]] = []
        stream, place = self._stream, self._place
        inside = False
        while (header := frame_header(stream, place, inside=inside)) is not None:
            start = place + header.size
            end = start + header.length
            self.headers.append((place, start))
            if not header.valid or end > len(stream):
                break
            place = end
            if header.is_control:
                self.controls.append((header.opcode, start, end))
                continue
            inside = not header.fin
            self.unfinished.append((start, end))
            if header.fin:
                found.append(self.unfinished)
                self.unfinished = []
        else:
            self.headers.append((place, len(stream)))  # a part of one
        return found


def _put(cleaned: bytearray, parts: list[tuple[int, int]], data: bytes) -> None:
    for start, end in parts:
        cleaned[start:end] = data[: end - start]
        data = data[end - start :]


def _unfinished(data: bytes) -> bytes:
    """Blank what is no message yet; what can be no text stays so."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return blank_text(len(data), error)
    return blank_text(len(data))


def _first(line: bytes) -> bytes:
    """Hide what a status line says behind its code."""
    version, _, rest = line.partition(b" ")
    status, space, phrase = rest.partition(b" ")
    return line if not space else b" ".join((version, status, phrase.translate(_PLAIN)))


def _header(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    if not colon or line[:1] in b" \t":  # what is folded goes on with a value
        return line.translate(_PLAIN)
    if name.lower() in _OPEN_HEADERS:
        return line
    known = name.lower().startswith(_READ)
    return (name if known else name.translate(_PLAIN)) + colon + value.translate(_PLAIN)


def _common(begin: bytes) -> bytes:
    """Return how much of a beginning could have been HTTP."""
    size = next(size for size in range(len(begin), -1, -1) if HTTP.startswith(begin[:size]))
    return begin[:size]


def _chunks(body: bytes) -> bytes:
    """Blank a chunked body; its sizes stay, and so does what is no chunk."""
    cleaned, place = b"", 0
    while (chunk := _CHUNK.match(body, place)) is not None:
        cleaned += chunk[0]
        place = chunk.end()
        size = int(chunk[1], 16)
        if size == 0:
            return cleaned + body[place:].translate(_PLAIN)
        data = body[place : place + size]
        cleaned += b" " * len(data)
        place += len(data)
        end = re.compile(rb"\r?\n").match(body, place)
        if end is None:
            break
        cleaned += end[0]
        place = end.end()
    return cleaned + body[place:].translate(_NO_CHUNK)
