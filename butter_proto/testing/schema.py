"""Checks of closed JSON objects, with faults in the gateway's words (wire.md 1, 2, 8 and 10).

Rules kept here:

* An object names every key it may have; any other key is a fault.
* All faults are told, not the first one alone; of missing keys only the first (wire.md 6).
* A check returns its fault as text, or None. Nothing here raises, whatever the JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs

Check = Callable[[object], str | None]


@attrs.frozen
class ClosedObject:
    """The keys of a JSON object; each has a check or is a closed object itself."""

    fields: Mapping[str, Check | ClosedObject]
    required: tuple[str, ...] = ()

    def faults(self, value: object, where: str = "") -> Iterator[str]:
        """Yield what is wrong with a value that stands at the JSON pointer ``where``."""
        at = f"at {where}: " if where else ""
        if not isinstance(value, dict):
            yield f"{at}must be object"
            return
        missing = next((key for key in self.required if key not in value), None)
        if missing is not None:
            yield f"{at}must have required property '{missing}'"
        for key in value:
            if key not in self.fields:
                yield f"{at or 'at root: '}unexpected property '{key}'"
        for key, check in self.fields.items():
            if key not in value:
                continue
            if isinstance(check, ClosedObject):
                yield from check.faults(value[key], f"{where}/{key}")
            elif (fault := check(value[key])) is not None:
                yield f"at {where}/{key}: {fault}"


def anything(_: object) -> None:
    """Accept any JSON."""


def text(value: object) -> str | None:
    """Ask for a string; it may be empty."""
    return None if isinstance(value, str) else "must be string"


def full_text(value: object) -> str | None:
    """Ask for a string that is not empty."""
    return "must NOT have fewer than 1 characters" if value == "" else text(value)


def short_text(limit: int) -> Check:
    """Make a check for a string of at most ``limit`` characters."""

    def check(value: object) -> str | None:
        if isinstance(value, str) and len(value) > limit:
            return f"must NOT have more than {limit} characters"
        return text(value)

    return check


def positive(value: object) -> str | None:
    """Ask for an integer of at least 1."""
    if type(value) is not int:
        return "must be integer"
    return None if value >= 1 else "must be >= 1"


def texts(value: object) -> str | None:
    """Ask for a list of strings."""
    if not isinstance(value, list):
        return "must be array"
    return None if all(isinstance(item, str) for item in value) else "must be array of strings"


def one_of(*allowed: str) -> Check:
    """Make a check for one of some strings."""
    wrong = "must be equal to one of the allowed values"
    return lambda value: None if value in allowed else wrong


def constant(expected: str | int) -> Check:
    """Make a check for one value, of the same type."""
    wrong = "must be equal to constant"
    return lambda value: None if (type(value), value) == (type(expected), expected) else wrong
