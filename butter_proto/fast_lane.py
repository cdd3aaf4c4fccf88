"""The fast lane: the usual frame, read without wsproto.

Rules kept here:

* The usual frame is a whole message in one piece: final, text, no extension, unmasked, its length
  written in the fewest bytes and within the limit, its payload UTF-8 (RFC 6455, 5.2 and 8.1). All
  others are left where they are: wsproto says what they mean.
* Nothing is read twice, and nothing is kept: the caller owns the buffer.

Whether a frame is usual depends on nothing but its bytes, so cutting them differently changes
nothing (G3). That the lane says what wsproto says is held by the differential tests.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from butter_proto.link import LinkItem, Received
from butter_proto.outbox import LENGTH_16

_FINAL_TEXT: Final = 0x81
_SHORT, _MEDIUM, _LONG = 2, 4, 10
"""The sizes of a header that writes the length in 7, 16 and 64 bits."""
_LENGTH_64: Final = 127
_LEAST_LONG: Final = 0x10000
"""The mark of such a length, and the least there can be."""
_LARGE: Final = 4096
"""From here on copying costs more than a view."""


def _text(buffer: bytearray, start: int, stop: int) -> str:
    """Decode a part of the buffer. Raises UnicodeDecodeError."""
    with memoryview(buffer) as view, view[start:stop] as part:
        return str(part, "utf-8")


def take_usual_frames(  # noqa: C901 - every call less is felt here
    buffer: bytearray, largest: int, into: deque[LinkItem]
) -> tuple[int, int]:
    """Read usual frames from the buffer's beginning, and put their messages ``into`` the queue.

    ``largest`` is the most bytes that a message may have. Returns how many bytes were read, and
    how many must be there until there is more to do: of a usual frame that is not complete yet all
    of it; the least there can be, 2, before a frame that is not usual.
    """
    at, end = 0, len(buffer)
    while end - at >= _SHORT and buffer[at] == _FINAL_TEXT:
        length = buffer[at + 1]
        start = at + _SHORT
        if length == LENGTH_16:
            start = at + _MEDIUM
            if start > end:
                return at, _MEDIUM
            length = buffer[at + _SHORT] << 8 | buffer[at + _SHORT + 1]
            if length < LENGTH_16:
                break
        elif length > LENGTH_16:
            if length != _LENGTH_64:  # masked
                break
            start = at + _LONG
            if start > end:
                return at, _LONG
            length = int.from_bytes(buffer[at + _SHORT : start])
            if length < _LEAST_LONG:
                break
        stop = start + length
        if length > largest:
            break
        if stop > end:
            return at, stop - at
        try:
            text = buffer[start:stop].decode() if length < _LARGE else _text(buffer, start, stop)
        except UnicodeDecodeError:
            break
        into.append(Received(text, length))
        at = stop
    return at, _SHORT
