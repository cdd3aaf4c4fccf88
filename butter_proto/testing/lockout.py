"""How a gateway locks remote clients out that guess (wire.md 5).

Rules kept here:

* Ten failures of one credential class within 60 s lock that class for 300 s; other classes are not
  hit. All sockets of a stand-in come from one address.
"""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from typing import Final

FAILURES: Final = 10
"""So many are told what was wrong; the next one is locked out."""
WINDOW: Final = 60.0
"""Seconds in which they count."""
LOCKED: Final = 300.0
"""Seconds that the lock holds."""


class CredentialClass(Enum):
    """What was guessed."""

    SHARED = "token or password"
    DEVICE_TOKEN = "device token"  # noqa: S105 - a name, not a token
    BOOTSTRAP_TOKEN = "bootstrap token"  # noqa: S105


class Lockout:
    """The failures of one address. ``now`` is in seconds."""

    def __init__(self) -> None:
        self._failures: defaultdict[CredentialClass, list[float]] = defaultdict(list)
        self._ends: dict[CredentialClass, float] = {}

    def left(self, kind: CredentialClass, now: float) -> float:
        """Return for how many seconds a class is still locked; 0.0: it is not."""
        return max(0.0, self._ends.get(kind, now) - now)

    def fail(self, kind: CredentialClass, now: float) -> None:
        """Count a failure of a class that is not locked."""
        recent = [when for when in self._failures[kind] if now - when < WINDOW]
        recent.append(now)
        if len(recent) >= FAILURES:
            self._ends[kind] = now + LOCKED
            recent.clear()
        self._failures[kind] = recent
