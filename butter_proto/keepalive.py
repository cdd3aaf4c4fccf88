"""When to probe, what counts as alive, and when the peer is gone.

Rules kept here (design.md, Keepalive):

* Probe k is due k intervals after Online, whatever the traffic; where another is still awaited
  then, it is asked when that one is judged. Its time to answer runs from when its bytes were handed
  out; one that is still in the outbox is a miss only if nothing at all was handed out since it was
  due.
* Any inbound byte since a probe was handed out means alive, and sets the misses to 0.
* So a peer is found gone at most ``misses * interval + timeout`` after the last inbound byte or
  the last chunk the socket took, plus the driver's lateness. Chunks alone are no life: the bound
  of the socket's own buffer is the driver's to keep small.
* A verdict that comes more than `LATE` after its time may have unread bytes behind it: then the
  peer is asked once more and judged by what comes from now on, once between two inbound bytes.
* The tick watchdog (silence over two tick intervals) always runs (G10).
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from butter_proto.counters import Counters
from butter_proto.outbox import Outgoing
from butter_proto.settings import KeepaliveSettings, Probe
from butter_proto.timers import LATEST, Timers

LATE: Final = 0.1
"""Seconds of lateness above which a verdict is given a second look."""
_TICKS_OF_SILENCE: Final = 2


class KeepaliveTimer(Enum):
    """The names of this file in the table of deadlines."""

    PROBE = "a probe is due"
    VERDICT = "a probe's time to answer is over"
    SILENCE = "the tick watchdog"


class Verdict(Enum):
    """What the owner must do now."""

    FINE = "nothing"
    ASK = "send a probe and tell with asked()"
    GONE = "drop the connection: the peer is silent"


class Keepalive:
    """The keepalive of one connection, from its hello on."""

    __slots__ = (
        "_answered",
        "_asked_at",
        "_counters",
        "_forced",
        "_handed_out_at",
        "_heard_at",
        "_in_a_row",
        "_look_until",
        "_next",
        "_owed",
        "_probe",
        "_probing",
        "_settings",
        "_silence",
        "_timers",
    )

    def __init__(
        self,
        settings: KeepaliveSettings,
        tick_interval: float,
        timers: Timers[Any],
        counters: Counters,
        now: float,
    ) -> None:
        self._settings = settings
        self._timers = timers
        self._counters = counters
        self._silence = _TICKS_OF_SILENCE * tick_interval
        self._probing = settings.probe is not Probe.NONE
        self._probe: Outgoing | None = None
        self._asked_at = now
        self._answered = True
        self._forced = False
        self._owed = False
        self._heard_at = now
        self._handed_out_at = -LATEST
        self._look_until: float | None = None
        self._in_a_row = 0
        self._next = now + settings.interval
        if self._probing:
            timers.set(KeepaliveTimer.PROBE, self._next)
        timers.set(KeepaliveTimer.SILENCE, now + self._silence)

    def heard(self, now: float) -> None:
        """Take note of an inbound byte."""
        self._heard_at = now
        self._in_a_row = 0
        self._look_until = None

    def handed_out(self, now: float) -> None:
        """Take note that the socket took a chunk."""
        self._handed_out_at = now

    def asked(self, probe: Outgoing, now: float) -> None:
        """Take note of the probe that was queued after ASK."""
        self._probe = probe
        self._asked_at = now
        self._answered = False
        self._owed = False
        self._timers.set(KeepaliveTimer.VERDICT, now + self._settings.timeout)

    def answered(self, now: float) -> float | None:
        """Return the round-trip time when the outstanding probe's own answer came."""
        probe = self._probe
        if probe is None or self._answered or probe.handed_out_at is None:
            return None
        self._answered = True
        return now - probe.handed_out_at

    def ask_now(self, now: float) -> Verdict:
        """Ask whether to probe at once, out of turn; a probe asked so is not replaced."""
        if not self._probing or (self._forced and self._outstanding):
            return Verdict.FINE
        self._forced = True
        return self._ask(now)

    def on_timer(self, timer: KeepaliveTimer, due: float, now: float) -> Verdict:
        """Say what a due timer of this file means.

        ``due`` is when the wake-up was due that found it: the earliest deadline, of whatever, that
        was due by ``now``. If that is late, all verdicts of this wake-up are.
        """
        match timer:
            case KeepaliveTimer.PROBE:
                return self._on_probe_due(now)
            case KeepaliveTimer.VERDICT:
                return self._on_verdict(due, now)
            case _:
                return self._on_silence(due, now)

    @property
    def _outstanding(self) -> bool:
        return KeepaliveTimer.VERDICT in self._timers

    def _on_probe_due(self, now: float) -> Verdict:
        interval = self._settings.interval
        due = self._next
        self._next += interval * max(1, (now - self._next) // interval + 1)
        self._timers.set(KeepaliveTimer.PROBE, self._next)
        if self._outstanding:
            self._owed = due > self._asked_at
            return Verdict.FINE
        return self._ask(now)

    def _on_verdict(self, due: float, now: float) -> Verdict:
        assert self._probe is not None
        asked_at = self._probe.handed_out_at
        if asked_at is None:
            asked_at = self._asked_at
            if self._handed_out_at > asked_at:
                return self._judged(now)
        elif asked_at + self._settings.timeout > now:  # it left late: its time is not over
            self._timers.set(KeepaliveTimer.VERDICT, asked_at + self._settings.timeout)
            return Verdict.FINE
        if self._heard_at >= asked_at:
            return self._judged(now)
        if self._late(due, now):
            return self._ask(now)
        self._counters.misses += 1
        self._in_a_row += 1
        return Verdict.GONE if self._in_a_row >= self._settings.misses else self._judged(now)

    def _on_silence(self, due: float, now: float) -> Verdict:
        if self._heard_at + self._silence > now:
            self._timers.set(KeepaliveTimer.SILENCE, self._heard_at + self._silence)
            return Verdict.FINE
        if not self._late(due, now):
            return Verdict.GONE
        self._timers.set(KeepaliveTimer.SILENCE, now + self._settings.timeout)
        if self._outstanding or not self._probing:
            return Verdict.FINE
        return self._ask(now)

    def _ask(self, now: float) -> Verdict:
        """Ask anew; a probe that is still in the outbox stands for the new one too."""
        if self._probe is None or self._probe.handed_out_at is not None:
            return Verdict.ASK
        self.asked(self._probe, now)
        return Verdict.FINE

    def _late(self, due: float, now: float) -> bool:
        """Grant a second look, one between two inbound bytes, that lasts one timeout."""
        if now - due <= LATE:
            return False
        if self._look_until is None:
            self._look_until = now + self._settings.timeout
        return now < self._look_until

    def _judged(self, now: float) -> Verdict:
        """Ask the probe that came due meanwhile, if one did."""
        self._forced = False
        return self._ask(now) if self._owed else Verdict.FINE
