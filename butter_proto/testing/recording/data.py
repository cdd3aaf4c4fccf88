"""Bytes as JSON, and back; how much a stranger's file may ask to be made up.

Rules kept here:

* A run of blanks is its number, so what was left out takes no room.
* What a stranger wrote is believed nowhere: `BadRecording` says what is wrong.
"""

from __future__ import annotations

from typing import Any, Final

from butter_proto.errors import ButterError

LONGEST_FILLER: Final = 64 * 1024 * 1024
"""The largest run of blanks that is believed, in bytes."""
_RUN: Final = 40
"""Blanks in a row that are written as their number."""


def data_to_json(data: bytes) -> list[str | int]:
    """Write bytes as texts of one character a byte, and numbers of blanks."""
    parts: list[str | int] = []
    text, place = data.decode("latin-1"), 0
    while place < len(text):
        blank = text.find(" " * _RUN, place)
        if blank < 0:
            parts.append(text[place:])
            break
        if blank > place:
            parts.append(text[place:blank])
        place = len(text) - len(text[blank:].lstrip(" "))
        parts.append(place - blank)
    return parts


def data_from_json(value: Any, budget: Budget) -> bytes:
    """Read them. Raises `BadRecording`."""
    if not isinstance(value, list):
        raise BadRecording("data is a list of texts and numbers")
    parts: list[bytes] = []
    for part in value:
        if isinstance(part, str):
            budget.take(len(part))
            try:
                parts.append(part.encode("latin-1"))
            except UnicodeEncodeError:
                raise BadRecording("data has one character a byte") from None
        else:
            parts.append(b" " * budget.take(part))
    return b"".join(parts)


class BadRecording(ButterError):
    """A file that is no recording, or one that asks for too much."""


class Budget:
    """How much a recording may still ask to be made up."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: Any) -> int:
        """Return a size that may be made. Raises `BadRecording`."""
        if type(size) is not int or not 0 <= size <= LONGEST_FILLER:
            raise BadRecording(f"a size is a whole number in 0..{LONGEST_FILLER}")
        self._left -= size
        if self._left < 0:
            raise BadRecording("it has more data than a recording may have")
        return size


def object_of(value: Any) -> dict[str, Any]:
    """Return what is an object. Raises `BadRecording`."""
    if not isinstance(value, dict):
        raise BadRecording("it is no object")
    return value
