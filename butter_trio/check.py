"""The stability test behind ``butter check``: connect, stay connected, and count.

Rules kept here:

* It is ok only if the handshake came within `HANDSHAKE_LIMIT` of the first attempt and nothing
  dropped for ``duration`` seconds from then on.
* A drop is reconnected and the test goes on, so that the report says whether it came back. It ends
  early where trying again is no use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import attrs
import trio

from butter_proto import events
from butter_proto.errors import Ending
from butter_proto.machine import State, Stats
from butter_proto.settings import KeepaliveSettings
from butter_trio.access import Access
from butter_trio.background import background
from butter_trio.dial import Dial, dial_tcp
from butter_trio.streams import NoticeStream, StateStream
from butter_trio.words import NO_ANSWER, explain, milliseconds, notable, trouble

HANDSHAKE_LIMIT: Final = 15.0
"""Seconds from the first attempt to the first hello."""
MAX_DROPS: Final = 1000
"""How many drops a report lists, the first ones; ``disconnects`` counts them all."""
_PROBES: Final = 6
"""How many probes a test has where `_SHORTEST_INTERVAL` allows it."""
_SHORTEST_INTERVAL: Final = 0.5
"""Seconds; a faster keepalive would call a busy machine a silent gateway."""
_REFRESH: Final = 0.25
"""Seconds between two calls of ``show``."""


@attrs.frozen
class RoundTrips:
    """Round-trip times of the probes in milliseconds; None where none was answered."""

    p50: float | None
    p99: float | None
    max: float | None


@attrs.frozen
class Drop:
    """One loss of the connection."""

    at_s: float
    """From the first hello."""
    offline_s: float | None
    """Until the next hello; None where the test ended before it."""
    ending: str
    """The name of its `EndKind`."""
    text: str
    """What happened."""


@attrs.frozen
class Report:
    """The result; the fields are the keys of ``--json``."""

    ok: bool
    handshake_ms: float | None
    """From the beginning of the first attempt to the first hello."""
    online_s: float
    online_at_end: bool
    disconnects: int
    reconnects: int
    drops: tuple[Drop, ...]
    """The first `MAX_DROPS`, oldest first."""
    events: int
    """Events of the gateway that came, ticks included."""
    probes: int
    missed: int
    rtt_ms: RoundTrips
    server_version: str | None
    protocol: int | None
    reason: str | None
    """Why it is not ok, and what to do."""


def keepalive_for(duration: float) -> KeepaliveSettings:
    """Return the default keepalive, faster where a test would else see fewer than six probes.

    60 s and more: a probe every 10 s with 5 s to answer. Shorter: one every ``duration / 6``, but
    not faster than every 0.5 s.
    """
    default = KeepaliveSettings()
    interval = min(default.interval, max(_SHORTEST_INTERVAL, duration / _PROBES))
    return KeepaliveSettings(interval, min(default.timeout, interval))


class Watched(Protocol):
    """What a test reads of a gateway, or of a pool."""

    @property
    def state(self) -> State:
        """Where it is."""

    @property
    def stats(self) -> Stats:
        """Its counters."""

    @property
    def last_ending(self) -> Ending | None:
        """How the last connection ended, if one did."""

    @property
    def hello(self) -> events.Hello:
        """The last hello."""


class Run:
    """One test while it runs."""

    def __init__(self, gateway: Watched, duration: float) -> None:
        self.gateway = gateway
        self.duration = duration
        self.round_trips: list[float] = []
        """Seconds, oldest first."""
        self.first_settled = trio.Event()
        """Set once the first hello came, or trying again is no use."""
        self.gave_up = trio.Event()
        self._started = trio.current_time()
        self._first_online: float | None = None
        self._online_since: float | None = None
        self._online_before = 0.0
        self._first_loss: Ending | None = None
        self._drops: list[Drop] = []
        self._final: events.GaveUp | None = None

    @property
    def is_online(self) -> bool:
        """True between Online and Offline."""
        return self._online_since is not None

    @property
    def elapsed(self) -> float:
        """Seconds since the first hello, at most ``duration``; 0 before."""
        if self._first_online is None:
            return 0.0
        return min(trio.current_time() - self._first_online, self.duration)

    @property
    def handshake_by(self) -> float:
        """When the first hello is due, on trio's clock."""
        return self._started + HANDSHAKE_LIMIT

    @property
    def ends_at(self) -> float:
        """When the test is over, on trio's clock; before the first hello: long ago."""
        return -math.inf if self._first_online is None else self._first_online + self.duration

    def on_state(self, event: events.StateEvent) -> None:
        """Count a change of state."""
        now = trio.current_time()
        match event:
            case events.Online():
                self._online_since = now
                if self._first_online is None:
                    self._first_online = now
                    self.first_settled.set()
                self._note_return(now - self._first_online)
            case events.Offline():
                self._first_loss = self._first_loss or event.ending
                if self._online_since is not None:
                    self._online_before += now - self._online_since
                    self._online_since = None
                self._note_drop(event.ending)
            case events.GaveUp():
                self._final = event
                self.first_settled.set()
                self.gave_up.set()

    def report(self) -> Report:
        """Say how it went up to now."""
        now = trio.current_time()
        stats = self.gateway.stats
        hello = self.gateway.hello if self._first_online is not None else None
        reason = self._reason()
        since = self._online_since
        handshake = None if self._first_online is None else self._first_online - self._started
        return Report(
            ok=reason is None,
            handshake_ms=None if handshake is None else milliseconds(handshake),
            online_s=round(self._online_before + (0.0 if since is None else now - since), 3),
            online_at_end=since is not None,
            disconnects=stats.disconnects,
            reconnects=stats.reconnects,
            drops=tuple(self._drops),
            events=stats.events,
            probes=stats.probes,
            missed=stats.misses,
            rtt_ms=RoundTrips(*(percentile(self.round_trips, share) for share in (0.5, 0.99, 1))),
            server_version=None if hello is None else hello.server_version,
            protocol=None if hello is None else hello.protocol,
            reason=reason,
        )

    def _note_drop(self, ending: Ending) -> None:
        if len(self._drops) < MAX_DROPS and self._first_online is not None:
            at = trio.current_time() - self._first_online
            self._drops.append(Drop(round(at, 3), None, ending.kind.name, str(ending)))

    def _note_return(self, at: float) -> None:
        if self._drops and self._drops[-1].offline_s is None:
            drop = self._drops[-1]
            self._drops[-1] = attrs.evolve(drop, offline_s=round(at - drop.at_s, 3))

    def _reason(self) -> str | None:
        if self._final is not None:
            return f"{self._final.ending}. {self._final.advice}"
        if self._first_online is None:
            last = self.gateway.last_ending or NO_ANSWER
            return f"no handshake within {HANDSHAKE_LIMIT:g} s: {explain(last)}"
        if self._first_loss is not None:
            return f"the connection was lost: {explain(self._first_loss)}"
        return None


def percentile(seconds: list[float], share: float) -> float | None:
    """Return the value in milliseconds that ``share`` of all are at most (nearest rank)."""
    if not seconds:
        return None
    return milliseconds(sorted(seconds)[math.ceil(share * len(seconds)) - 1])


async def check(
    url: str,
    access: Access,
    duration: float,
    *,
    show: Callable[[Run], None],
    warn: Callable[[str], None],
    dial: Dial = dial_tcp,
) -> Report:
    """Run the test. ``show`` is called four times a second, ``warn`` with what went wrong.

    Raises `InvalidSettings` for what cannot work, and `StoreError` where the device's tokens
    cannot be read; everything else is in the report.
    """
    async with access.connect(url, wait=False, dial=dial) as gateway:
        run = Run(gateway, duration)
        async with (
            gateway.states() as states,
            gateway.notices() as notices,
            background(partial(_follow_states, states, run, warn)),
            background(partial(_follow_notices, notices, run, warn)),
            background(partial(refresh, run, show)),
        ):
            with trio.move_on_at(run.handshake_by):
                await run.first_settled.wait()
            with trio.move_on_at(run.ends_at):
                await run.gave_up.wait()
            return run.report()


async def _follow_states(states: StateStream, run: Run, warn: Callable[[str], None]) -> None:
    async for event in states:
        run.on_state(event)
        if (text := trouble(event)) is not None:
            warn(text)


async def _follow_notices(notices: NoticeStream, run: Run, warn: Callable[[str], None]) -> None:
    async for notice in notices:
        if isinstance(notice, events.RoundTrip):
            run.round_trips.append(notice.seconds)
        elif (text := notable(notice)) is not None:
            warn(text)


async def refresh(run: Run, show: Callable[[Run], None]) -> None:
    """Show a test for as long as it runs."""
    while True:
        show(run)
        await trio.sleep(_REFRESH)
