"""What waits to leave on one WebSocket, and the frames it leaves as (RFC 6455, section 5).

Rules kept here:

* A frame is never cut: ``take`` returns whole frames, at most 64 KiB together. So a message is
  either untouched, and can be withdrawn, or its first frame was handed out.
* Control frames overtake messages at every frame boundary, so that pings and pongs pass a large
  upload; messages above one chunk leave as fragments.
* After the Close frame nothing leaves (RFC 6455, 5.5.1); messages not yet begun are dropped.
* One queue, two ways of leaving: ``take`` gives frames, ``next_message`` whole messages for a host
  that writes the frames itself. Of one outbox only one of them is used.

wsproto could write these frames, but it draws its masks from the system (ours are injected, so a
recording can be replayed) and masks byte by byte.
"""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from butter_proto.counters import Counters
from butter_proto.machine import CHUNK, Close, Message, Ping, Text

_CONTINUATION, _TEXT = 0x0, 0x1
CLOSE, PING, PONG = 0x8, 0x9, 0xA
_FIN: Final = 0x80
_MASKED: Final = 0x80
LENGTH_16: Final = 126
"""This length in a header means that 16 bits follow, the next one 64 (RFC 6455, 5.2)."""
_LARGEST_HEADER: Final = 8
"""A masked frame of up to 65,535 bytes has a header of at most 8."""
_FRAGMENT: Final = CHUNK - _LARGEST_HEADER
_MAX_REASON: Final = 123
BAD_DATA: Final = 1007  # the close code for a message that cannot be (RFC 6455, 7.4.1)
MAX_PONGS: Final = 1000
"""Pongs that may wait; above it the newest replaces the last (RFC 6455, 5.5.3 allows it)."""


class Outgoing:
    """One thing that waits for the wire.

    ``handed_out_at`` is None until its first byte was taken, then that time in seconds.
    """

    __slots__ = ("handed_out_at", "offset", "opcode", "payload")

    def __init__(self, opcode: int | None, payload: bytes) -> None:
        self.opcode = opcode
        self.payload = payload
        self.offset = 0
        self.handed_out_at: float | None = None


class Outbox:
    """The outbound half of a WebSocket link."""

    __slots__ = ("_closed", "_control", "_counters", "_entropy", "_messages")

    def __init__(self, entropy: Callable[[int], bytes], counters: Counters) -> None:
        self._entropy = entropy
        self._counters = counters
        self._control: deque[Outgoing] = deque()
        self._messages: OrderedDict[Outgoing, None] = OrderedDict()
        self._closed = False

    def raw(self, data: bytes) -> None:
        """Queue bytes that are no frame: the upgrade request, at most 64 KiB."""
        self._control.append(Outgoing(None, data))

    def text(self, payload: bytes) -> Outgoing:
        """Queue a text message."""
        item = Outgoing(_TEXT, payload)
        if not self._closed:
            self._messages[item] = None
        return item

    def ping(self, payload: bytes) -> Outgoing:
        """Queue a ping."""
        return self._queue(PING, payload)

    def pong(self, payload: bytes) -> None:
        """Queue the answer to a ping."""
        if len(self._control) >= MAX_PONGS and self._control[-1].opcode == PONG:
            self._control.pop()
        self._queue(PONG, payload)

    def close(self, code: int | None, reason: str) -> None:
        """Queue the Close frame and drop the messages; only the first call counts."""
        payload = b""
        if code is not None:
            payload = struct.pack("!H", code) + clipped_reason(reason).encode()
        self._queue(CLOSE, payload)
        self._messages.clear()
        self._closed = True

    @property
    def closed(self) -> bool:
        """True once a Close frame was queued."""
        return self._closed

    def withdraw(self, item: Outgoing) -> None:
        """Take back a message of which nothing was handed out."""
        assert item.handed_out_at is None
        self._messages.pop(item, None)

    def take(self, now: float) -> bytes:
        """Return whole frames, at most 64 KiB; ``b""``: nothing waits. Taken is handed out."""
        if not self._messages and not self._control:
            return b""
        frames: list[bytes] = []
        room = CHUNK
        while (frame := self._next_frame(room, now)) is not None:
            frames.append(frame)
            room -= len(frame)
        self._counters.bytes_sent += CHUNK - room
        return b"".join(frames)

    def next_message(self, now: float) -> Message | None:
        """Return the next thing whole; None: nothing waits. Returned is handed out."""
        if self._control:
            item = self._control.popleft()
        elif self._messages:
            item, _ = self._messages.popitem(last=False)
            self._counters.messages_sent += 1
            self._counters.bytes_sent += len(item.payload)
        else:
            return None
        item.handed_out_at = now
        payload, item.payload = item.payload, b""
        if item.opcode == _TEXT:
            return Text(payload.decode())
        if item.opcode == PING:
            return Ping(payload)
        (code,) = struct.unpack_from("!H", payload)
        return Close(code, payload[2:].decode())

    def _queue(self, opcode: int, payload: bytes) -> Outgoing:
        item = Outgoing(opcode, payload)
        if not self._closed:
            self._control.append(item)
        return item

    def _next_frame(self, room: int, now: float) -> bytes | None:
        """Build the next frame if it fits into ``room`` bytes."""
        if self._control:
            return self._control_frame(room, now)
        if self._messages:
            return self._message_frame(next(iter(self._messages)), room, now)
        return None

    def _control_frame(self, room: int, now: float) -> bytes | None:
        item = self._control[0]
        payload = item.payload
        if len(payload) + _LARGEST_HEADER > room and room < CHUNK:
            return None
        self._control.popleft()
        item.handed_out_at = now
        opcode = item.opcode
        return payload if opcode is None else self._frame(_FIN | opcode, payload)

    def _message_frame(self, item: Outgoing, room: int, now: float) -> bytes | None:
        offset = item.offset
        payload = item.payload
        left = len(payload) - offset
        size = min(left, _FRAGMENT)
        if size + _LARGEST_HEADER > room:
            return None
        first = _TEXT if offset == 0 else _CONTINUATION
        item.offset = offset + size
        if item.handed_out_at is None:
            item.handed_out_at = now
            self._counters.messages_sent += 1
        if size == left:
            del self._messages[item]
            item.payload = b""  # an abandoned request keeps its place, not its bytes
            first |= _FIN
        return self._frame(first, payload[offset : offset + size])

    def _frame(self, first: int, payload: bytes) -> bytes:
        length = len(payload)
        if length < LENGTH_16:
            header = bytes((first, _MASKED | length))
        else:
            header = struct.pack("!BBH", first, _MASKED | LENGTH_16, length)
        key = self._entropy(4)
        return header + key + _masked(payload, key)


def clipped_reason(reason: str) -> str:
    """Return what a Close frame can hold of a reason: 123 bytes of UTF-8 (RFC 6455, 5.5)."""
    data = reason[:_MAX_REASON].encode(errors="replace")
    return data[:_MAX_REASON].decode(errors="ignore")


def _masked(payload: bytes, key: bytes) -> bytes:
    """Apply the mask (RFC 6455, 5.3) as one XOR of two integers."""
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")
    return masked.to_bytes(size, "little")
