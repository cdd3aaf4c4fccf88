"""Where a transport's inbound bytes may be cut: between two WebSocket messages.

Rules kept here:

* It only counts: nothing is kept of what came but a head, or the beginning of a frame's header.
* What is no HTTP, no 101 or no valid frame has no boundary any more.
"""

from __future__ import annotations

from typing import Final

import attrs

from butter_proto.websocket import HEAD_END, HTTP, INFORMATIONAL, MAX_HEAD

SWITCHED: Final = b" 101"
_HEADER: Final = 2
_LENGTH_16: Final = 126
_CONTROL: Final = 0x8
_FIN: Final = 0x80
_MASKED: Final = 0x80
_LONGEST_CONTROL: Final = 125
_KNOWN: Final = frozenset({0, 1, 2, 8, 9, 10})


@attrs.frozen
class FrameHeader:
    """The header of one frame (RFC 6455, 5.2)."""

    opcode: int
    fin: bool
    size: int
    """Of the header itself, in bytes."""
    length: int
    """Of the payload."""
    valid: bool

    @property
    def is_control(self) -> bool:
        """Whether it may stand inside a message."""
        return self.opcode >= _CONTROL


def frame_header(data: bytes | bytearray, place: int, *, inside: bool) -> FrameHeader | None:
    """Read the header at a place; None where it is not whole.

    ``inside`` says whether a message was begun and is not over. A server masks nothing and no
    extension was agreed on, so what has such bits is not valid.
    """
    if len(data) - place < _HEADER:
        return None
    first, length = data[place], data[place + 1] & ~_MASKED
    size = _HEADER + {_LENGTH_16: 2, _LENGTH_16 + 1: 8}.get(length, 0)
    if len(data) - place < size:
        return None
    if size > _HEADER:
        length = int.from_bytes(data[place + _HEADER : place + size])
    opcode, fin = first & 0x0F, bool(first & _FIN)
    valid = opcode in _KNOWN and not first & 0x70 and not data[place + 1] & _MASKED
    if opcode >= _CONTROL:
        valid = valid and fin and length <= _LONGEST_CONTROL
    else:
        valid = valid and inside == (opcode == 0)
    return FrameHeader(opcode, fin, size, length, valid)


class Boundaries:
    """Follows the inbound bytes of one transport."""

    __slots__ = ("_buffer", "_inside", "_is_open", "_is_over", "_to_skip")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_open = False
        self._is_over = False
        self._inside = False
        self._to_skip = 0

    @property
    def at_one(self) -> bool:
        """Whether all messages that were begun are over."""
        idle = not self._buffer and not self._inside and not self._to_skip
        return self._is_open and not self._is_over and idle

    def receive(self, data: bytes) -> None:
        """Follow what came."""
        skipped = min(self._to_skip, len(data))
        self._to_skip -= skipped
        self._buffer += data[skipped:]
        while not self._is_over and self._buffer and self._step():
            pass
        if self._is_over:
            self._buffer.clear()

    def _step(self) -> bool:
        """Pass over one head or frame; False where bytes are missing."""
        if not self._is_open:
            return self._pass_head()
        header = frame_header(self._buffer, 0, inside=self._inside)
        if header is None:
            return False
        self._is_over = not header.valid
        if not header.is_control:
            self._inside = not header.fin
        end = header.size + header.length
        self._to_skip = max(0, end - len(self._buffer))
        del self._buffer[:end]
        return True

    def _pass_head(self) -> bool:
        head = HEAD_END.search(self._buffer)
        self._is_over = not HTTP.startswith(self._buffer[: len(HTTP)])
        if head is None:
            self._is_over = self._is_over or len(self._buffer) > MAX_HEAD
            return False
        if not INFORMATIONAL.match(self._buffer):
            self._is_open = self._buffer[len(HTTP) + 1 :].startswith(SWITCHED)
            self._is_over = not self._is_open
        del self._buffer[: head.end()]
        return True
