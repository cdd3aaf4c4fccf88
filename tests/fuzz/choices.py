"""The first bytes of an input as choices; the rest of it is what a machine is fed.

Rules kept here:

* Each choice takes one byte; where none is left it is 0. So every input means something, and a
  change of one byte changes one thing.
* What a byte means may only grow at the end of a table: the files in git keep their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Choices:
    """Choices of one input, read from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        """Return the next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def one_of(self, table: Sequence[_T]) -> _T:
        return table[self.number() % len(table)]

    def rest(self) -> bytes:
        """Return what no choice was read from."""
        return self._data[self._at :]


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut bytes into pieces of this size; 0 leaves them whole."""
    step = size or max(1, len(data))
    return [data[start : start + step] for start in range(0, len(data), step)]
