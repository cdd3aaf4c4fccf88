"""How far a connection came on its way in, seen by its trace.

Rules kept here:

* What a trace cannot tell is told by the ending: an answer that came may still be a wrong one.
"""

from __future__ import annotations

import time
from typing import Any, Final

import attrs

from butter_proto.errors import Ending, EndKind
from butter_trio.findings import Step

_WRONG_CLOCK: Final = 60.0
"""Seconds between two clocks above which it is told."""
_STEP_OF: Final = {
    EndKind.UPGRADE_REFUSED: Step.UPGRADE,
    EndKind.NOT_WEBSOCKET: Step.UPGRADE,
    EndKind.CHALLENGE_INVALID: Step.CHALLENGE,
}
"""The endings that name their step; another one is where the connection had come to."""


@attrs.define
class Progress:
    """How far one connection came. Times are on trio's clock, None: never."""

    transport_id: int = 0
    began: float = 0.0
    upgraded: float | None = None
    challenged: float | None = None
    server: str | None = None
    """What the answer to the upgrade names as the server."""
    ahead: float | None = None
    """By how many seconds the gateway's clock is ahead of this machine's."""

    def received(self, told: Any, now: float) -> None:
        """Take note of what came."""
        match told:
            case [first, *headers]:
                named = (header.partition(": ") for header in headers)
                self.server = next((v for n, _, v in named if n.lower() == "server"), None)
                if first.split()[1:2] == ["101"]:
                    self.upgraded = now
            case {"event": "connect.challenge", "payload": payload}:
                self.challenged = now
                match payload:
                    case {"ts": int(ts)}:
                        self.ahead = ts / 1000 - time.time()

    def step_of(self, ending: Ending) -> Step:
        """Return the step at which it ended."""
        if ending.kind in _STEP_OF:
            return _STEP_OF[ending.kind]
        if self.upgraded is None:
            return Step.UPGRADE
        return Step.CHALLENGE if self.challenged is None else Step.CONNECT

    @property
    def notes_on_clock(self) -> tuple[str, ...]:
        """What to say of the two clocks."""
        ahead = self.ahead
        if ahead is None or abs(ahead) < _WRONG_CLOCK:
            return ()
        where = "ahead of" if ahead > 0 else "behind"
        text = f"the gateway's clock is {abs(ahead):.0f} s {where} this machine's; "
        return (text + "that does no harm, for a device signs the gateway's time",)
