"""What came out otherwise than it did when it was recorded, and what of that a cut explains.

Rules kept here:

* Decisions are compared queue by queue: in which order a driver looks at commands and events is its
  own affair. Of each queue the first that differs is told, as it was then and as it is now.
* After a cut, what hangs on the missing part does not count (`_explained`).
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from butter_proto.testing.recording import decisions
from butter_proto.testing.recording.turn import Decision

NOTHING: Final = "nothing"
_QUEUES: Final = (
    *(decisions.EVENT, decisions.COMMAND),
    *(decisions.SENT, decisions.MESSAGE, decisions.DUE),
)
"""What a reader asks for first is first."""
_HANGS_ON_TIME: Final = frozenset(
    {
        *("RoundTrip", "ClockLate", "EventsMissed", "PairingRequired"),
        *("DeviceTokenIssued", "DeviceTokenNotStored"),
    }
)
"""Events that come, or do not, by what was before."""
_HANGS_ON_BEFORE: Final = frozenset({"attempt", "delay", "retry_after", "resync", "boot_changed"})
"""What else is counted from before."""
_NEXT: Final = frozenset({"Retrying", "GaveUp"})
"""Which of them it is hangs on how often it was tried."""


@attrs.frozen
class Difference:
    """A decision that was another one then, both in words; "nothing" where there was none."""

    then: str
    now: str

    def __str__(self) -> str:
        return f"then {self.then}; now {self.now}"


@attrs.frozen
class Outcome:
    """What came of an input: what a call gave back, and what was pulled after it."""

    returned: Any
    raised: str | None
    did: list[Decision]


def between(then: Outcome, now: Outcome) -> tuple[Difference, ...]:
    """Return what differs; empty: nothing."""
    if then.raised != now.raised:
        return (Difference(_raised(then), _raised(now)),)
    if then.returned != now.returned:
        return (Difference(f"it returned {then.returned}", f"it returned {now.returned}"),)
    return _of_decisions(then.did, now.did)


def without_cut(then: Outcome, now: Outcome, known: set[str]) -> tuple[Difference, ...]:
    """Return what differs and is not explained by a cut, after which these requests are known."""
    if then.raised != now.raised:
        return (Difference(_raised(then), _raised(now)),)
    return _of_decisions(_explained(then.did, known), _explained(now.did, known))


def _raised(outcome: Outcome) -> str:
    return f"it raised {outcome.raised or NOTHING}"


def _of_decisions(then: list[Decision], now: list[Decision]) -> tuple[Difference, ...]:
    found: list[Difference] = []
    for kind in _QUEUES:
        was = [one for one in then if one[0] == kind]
        is_now = [one for one in now if one[0] == kind]
        if was != is_now:
            found.append(_first(was, is_now))
    return tuple(found)


def _first(was: list[Decision], now: list[Decision]) -> Difference:
    place = next(
        (n for n, (one, two) in enumerate(zip(was, now, strict=False)) if one != two),
        min(len(was), len(now)),
    )
    one, two = was[place : place + 1], now[place : place + 1]
    told = Difference(_words(one), _words(two))
    if told.then == told.now:  # two times may look the same
        told = Difference(_words(one, exact=True), _words(two, exact=True))
    return told


def _words(found: list[Decision], *, exact: bool = False) -> str:
    return decisions.in_words(found[0], exact=exact) if found else NOTHING


def _explained(did: list[Decision], known: set[str]) -> list[Decision]:
    """Return the decisions without what hangs on a missing part."""
    left: list[Decision] = []
    for one in did:
        match one:
            case [decisions.EVENT, str(name), {**told}]:
                if name in _HANGS_ON_TIME or told.get("request", "") not in {"", *known}:
                    continue
                rest = {key: told[key] for key in told if key not in _HANGS_ON_BEFORE}
                left.append([decisions.EVENT, "" if name in _NEXT else name, rest])
            case [decisions.COMMAND, *_]:
                left.append(one)
    return left
