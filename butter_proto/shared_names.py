"""The names that a hello lists, kept once for all connections that are told the same ones.

They are most of a hello's memory, and a gateway tells them anew on each connection.

Rules kept here:

* Strings are shared, lists are not: what an application does to its hello changes no other one.
* What is remembered is bounded, so a peer that always lists other names costs no more.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

MOST_LISTS: Final = 8
"""How many lists are remembered."""
LARGEST_LIST: Final = 64 * 1024
"""The most characters of a list that is remembered."""


class SharedNames:
    """The lists that were seen last."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: deque[list[str]] = deque(maxlen=MOST_LISTS)

    def shared(self, names: list[Any]) -> list[Any]:
        """Return a list equal to ``names``, of the strings of an earlier one if there was one."""
        for known in [*self._known]:  # a copy: another thread may add one meanwhile
            if known == names:
                return [*known]
        if all(type(name) is str for name in names) and sum(map(len, names)) <= LARGEST_LIST:
            self._known.append([*names])
        return names
