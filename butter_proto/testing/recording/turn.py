"""One turn of a recorded machine: an input, what it drew by chance, and what was pulled after it.

Rules kept here:

* A turn holds all that is needed to take it again: the input with its time, the draws, and the
  pulls, in their order; when bytes were pulled decides what was sent (design.md, G4).
* The decisions seen stand with the pulls that showed them, so a reader needs no machine.
* In memory a turn has its secrets. They are taken out when it is written (lines.py).
* Its size is that of its objects, all that a caller gave included; what all turns share (names of
  arguments and decisions) is not counted.
"""

from __future__ import annotations

from enum import Enum
from sys import getsizeof
from typing import Any, Final

import attrs

from butter_proto.credentials import Credentials
from butter_proto.device import DeviceToken
from butter_proto.errors import TransportFault
from butter_proto.secret import Secret

_KEPT: Final = 100
"""What a `Reel` and Python need for each turn beside its own objects, in bytes: measured."""


class Draw(Enum):
    """What a machine is given by chance, or by somebody else than its driver."""

    RANDOM = "random"
    """A float of ``random``."""
    ENTROPY = "entropy"
    """Bytes for a nonce or an idempotency key. Masks are not kept: none decides anything."""
    REQUEST_ID = "id"
    TRANSPORT_ID = "transport"
    SIGNATURE = "signature"
    """Whether the signer gave one: its size, or None where it raised."""


Decision = list[Any]
"""A pull that gave something: its kind, then what is told of it (decisions.py)."""


@attrs.define(eq=False, repr=False)
class Turn:
    """One input and what followed until the next one."""

    name: str
    """The method that was called."""
    at: float
    """Its ``now``, as it was given."""
    arguments: dict[str, Any]
    """The others by their names, as far as they were given."""
    draws: list[tuple[Draw, Any]] = attrs.field(factory=list)
    did: list[Decision] = attrs.field(factory=list)
    returned: Any = None
    raised: str | None = None
    """The name of the exception's class."""
    drained: bool = False
    """Whether events and commands were pulled until there was none."""
    opens: bool = False
    """Whether an attempt to connect begins with it."""
    settles: bool = False
    """Whether an attempt came to Online, or to its end."""

    @property
    def transport_id(self) -> int | None:
        """The transport that it is an input of."""
        found = self.arguments.get("transport_id")
        return found if isinstance(found, int) else None

    @property
    def received(self) -> int:
        """How much a transport brought, in bytes or characters."""
        data = self.arguments.get("data", self.arguments.get("message"))
        return len(data) if isinstance(data, str | bytes) else 0

    @property
    def size(self) -> int:
        """How much memory it takes, in bytes."""
        own = sum(map(getsizeof, (self, self.arguments, self.draws, self.did)))
        given = sum(map(_size_of, self.arguments.values())) + _size_of(self.returned)
        given += _size_of_json(self.arguments.get("params"))
        drawn = sum(getsizeof(draw) + getsizeof(draw[1]) for draw in self.draws)
        return _KEPT + own + given + drawn + sum(map(_size_of_decision, self.did))


def _size_of(value: Any) -> int:
    """Return how much memory an argument takes, in bytes; of what no input is given, 0."""
    match value:
        case str() | bytes() | int() | float():
            return getsizeof(value)
        case Secret():
            return getsizeof(value) + getsizeof(value.reveal())
        case DeviceToken() | Credentials() | TransportFault():
            parts = attrs.astuple(value, recurse=False)
            return getsizeof(value) + sum(map(_size_of, parts))
    return 0


def _size_of_json(value: Any) -> int:
    """Return how much memory a value that was read from JSON takes, in bytes."""
    size, left = 0, [value]
    while left:
        one = left.pop()
        size += getsizeof(one)
        if isinstance(one, dict):
            left += (*one, *one.values())
        elif isinstance(one, list):
            left += one
    return size


def _size_of_decision(decision: Decision) -> int:
    told = decision[-1]
    fields = told.values() if isinstance(told, dict) else ()
    return sum(map(getsizeof, (decision, told, *fields)))


@attrs.frozen
class Missing:
    """What was left out at one place of a recording."""

    inputs: int = 0
    bytes: int = 0
    """What transports brought in them."""
    seconds: float = 0.0
    """Between the input before the cut and the last one that is missing."""
    attempts: int = 0
    """Attempts to connect that are missing from their beginning."""

    def __add__(self, other: Missing) -> Missing:
        return Missing(
            self.inputs + other.inputs,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
            self.attempts + other.attempts,
        )

    @classmethod
    def of(cls, turn: Turn) -> Missing:
        """Return what is missing without a turn, but for the time."""
        return cls(1, turn.received)


@attrs.frozen
class Cut:
    """A place where turns were left out, with those of them that go on having an effect."""

    missing: Missing
    carried: tuple[Turn, ...] = ()
    """Requests without an outcome, and the last word on credentials and the like; oldest first."""
