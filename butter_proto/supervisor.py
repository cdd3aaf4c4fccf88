"""What a connector remembers of its endings, and what the next one therefore means.

Rules kept here:

* The backoff starts over only after ``stable_after`` seconds online, never at TCP open, at the
  upgrade or at a hello (lessons 1).
* Endings come here as they were, before redaction, and are not told from here.
* A pairing request is told once, and again only when its id changes (lessons 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from butter_proto.errors import Ending
from butter_proto.events import PairingRequired
from butter_proto.frames import text_or_none
from butter_proto.reconnect import PAIRING_REQUIRED, Action, Attempts, Decision, decide
from butter_proto.settings import ReconnectSettings

_NO_PAIRING: Final = ""
"""No pairing was told: an id is never empty, and may be missing."""


class Supervisor:
    """Counts attempts and endings, and asks `reconnect.decide`."""

    __slots__ = (
        "_certificate_seen_good",
        "_equal",
        "_failures",
        "_floor",
        "_last",
        "_pairing_request",
        "_polls",
        "_random",
        "_settings",
        "_tried",
    )

    def __init__(self, settings: ReconnectSettings, random: Callable[[], float]) -> None:
        self._settings = settings
        self._random = random
        self._failures = 0
        self._tried = 0
        self._polls = 0
        self._equal = 0
        self._floor = -math.inf
        self._certificate_seen_good = False
        self._pairing_request: str | None = _NO_PAIRING
        self._last: Ending | None = None

    @property
    def next_attempt(self) -> int:
        """The number of the next attempt, from 1 since the last stable time online."""
        return self._tried + self._polls + 1

    def earliest(self, now: float) -> float:
        """Return when an attempt may begin that the application asks for at ``now``."""
        return max(now, self._floor)

    def start_over(self) -> None:
        """Forget the failures: the application says that something has changed."""
        self._failures = self._tried = self._polls = self._equal = 0

    def on_certificate_accepted(self) -> None:
        """Take note that TLS succeeded: a later certificate fault may pass."""
        self._certificate_seen_good = True

    def on_online(self) -> None:
        """Take note of Online: refusals in a row, and a pairing, are over."""
        self._equal = 0
        self._pairing_request = _NO_PAIRING

    def on_ending(
        self,
        ending: Ending,
        now: float,
        online_since: float | None,
        *,
        told: Ending | None = None,
        can_repair: bool = False,
    ) -> Decision:
        """Count an ending and decide what follows; the advice has its words from ``told``.

        ``can_repair`` says whether another credential may be tried.
        """
        if online_since is not None and now - online_since >= self._settings.stable_after:
            self._failures = self._tried = self._polls = 0
        else:
            self._tried += 1
        self._failures += 1
        repeated = self._last is not None and _answer(ending) == _answer(self._last)
        self._equal = self._equal + 1 if repeated else 1
        self._last = ending
        attempts = Attempts(
            self._failures,
            self._equal,
            self._certificate_seen_good,
            can_repair,
            tried=self._tried,
        )
        decision = decide(ending, attempts, self._settings, self._random, told=told)
        if decision.action is Action.WAIT:  # an answer as good as any: nothing has failed
            self._polls += self._tried
            self._failures = self._tried = 0
        self._floor = now + decision.floor
        return decision

    def is_new_pairing(self, ending: Ending) -> bool:
        """Tell whether this ending is a pairing request that was not told yet."""
        error = ending.error
        if error is None or error.detail_code != PAIRING_REQUIRED:
            return False
        request_id = text_or_none(error.detail("requestId"))
        if request_id == self._pairing_request:
            return False
        self._pairing_request = request_id
        return True


def pairing_of(ending: Ending) -> PairingRequired:
    """Read the pairing request of an ending that has one."""
    error = ending.error
    assert error is not None
    return PairingRequired(
        text_or_none(error.detail("requestId")),
        text_or_none(error.detail("deviceId")),
        error.detail_reason,
        text_or_none(error.detail("remediationHint")),
    )


def _answer(ending: Ending) -> tuple[object, ...]:
    """Return what makes two endings the same answer."""
    error = ending.error
    key = (error.code, error.detail_code, error.detail_reason) if error is not None else None
    return ending.kind, ending.http_status, key
