"""The stability test of several gateways behind ``butter check URL URL ...``.

Rules kept here:

* Each gateway has the test of check.py, and so has the pool as a whole. It is ok only if all of
  them are: a pool that serves while one of its gateways is down is no pool to rely on.
* What happens on the way is told with the gateway's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs
import trio

from butter_proto import events
from butter_proto.errors import Ending, NotOnline
from butter_proto.events import Hello
from butter_proto.machine import State, Stats
from butter_proto.pool_gateway import GatewayHealth
from butter_trio.access import Access
from butter_trio.background import background
from butter_trio.check import Report, Run, refresh
from butter_trio.dial import Dial, dial_tcp
from butter_trio.pool import Pool
from butter_trio.streams import GatewayStream, StateStream
from butter_trio.words import notable, trouble


@attrs.frozen
class PoolReport:
    """The result; the fields are the keys of ``--json``."""

    ok: bool
    pool: Report
    """Of the pool as a whole: it is online while any gateway is."""
    gateways: dict[str, Report]
    primary: str | None
    """Who delivered the events at the end."""
    takeovers: int
    """How often another gateway took over."""
    reason: str | None
    """Why it is not ok, and what to do."""


class _Member:
    """What a `Run` reads, of one gateway of a pool."""

    def __init__(self, pool: Pool, name: str) -> None:
        self._pool = pool
        self._name = name

    @property
    def _health(self) -> GatewayHealth:
        return next(health for health in self._pool.health() if health.name == self._name)

    @property
    def state(self) -> State:
        return self._health.state

    @property
    def stats(self) -> Stats:
        return self._health.stats

    @property
    def last_ending(self) -> Ending | None:
        return self._health.last_ending

    @property
    def hello(self) -> Hello:
        hello = self._health.hello
        if hello is None:
            raise NotOnline("there was no hello yet")
        return hello


class PoolRun:
    """One test of a pool while it runs."""

    def __init__(self, pool: Pool, duration: float) -> None:
        self.whole = Run(pool, duration)
        self.each = {
            health.name: Run(_Member(pool, health.name), duration) for health in pool.health()
        }
        self._pool = pool
        self._takeovers = 0

    async def until_settled(self) -> None:
        """Wait until each gateway was online, or may not be tried again."""
        for run in self.each.values():
            await run.first_settled.wait()

    def on_state(self, event: events.StateEvent) -> None:
        """Count a change of the pool as a whole."""
        took_over = isinstance(event, events.Online) and self.whole.is_online
        self._takeovers += took_over
        if not took_over:
            self.whole.on_state(event)

    def on_gateway(self, name: str, event: events.Event) -> None:
        """Count what a gateway told of itself."""
        run = self.each[name]
        if isinstance(event, events.StateEvent):
            run.on_state(event)
        elif isinstance(event, events.RoundTrip):
            run.round_trips.append(event.seconds)
            self.whole.round_trips.append(event.seconds)

    def report(self) -> PoolReport:
        """Say how it went up to now."""
        whole = self.whole.report()
        each = {name: run.report() for name, run in self.each.items()}
        reasons = [f"{name}: {report.reason}" for name, report in each.items() if report.reason]
        reasons += [f"the pool as a whole: {whole.reason}"] if whole.reason else []
        return PoolReport(
            ok=not reasons,
            pool=whole,
            gateways=each,
            primary=self._pool.primary,
            takeovers=self._takeovers,
            reason="; ".join(reasons) or None,
        )


async def check_pool(
    urls: Sequence[str],
    access: Access,
    duration: float,
    *,
    show: Callable[[Run], None],
    warn: Callable[[str], None],
    dial: Dial = dial_tcp,
) -> PoolReport:
    """Run the test. ``show`` is called four times a second, ``warn`` with what went wrong.

    Raises what `check.check` raises.
    """
    async with access.connect_pool(urls, wait=False, dial=dial) as pool:
        run = PoolRun(pool, duration)
        async with (
            pool.states() as states,
            pool.from_gateways() as gateways,
            background(partial(_follow_states, states, run, pool, warn)),
            background(partial(_follow_gateways, gateways, run, warn)),
            background(partial(refresh, run.whole, show)),
        ):
            with trio.move_on_at(run.whole.handshake_by):
                await run.until_settled()
            with trio.move_on_after(duration):
                await run.whole.gave_up.wait()
            return run.report()


async def _follow_states(
    states: StateStream, run: PoolRun, pool: Pool, warn: Callable[[str], None]
) -> None:
    async for event in states:
        run.on_state(event)
        if isinstance(event, events.Online) and event.resync:
            warn(f"{pool.primary or 'nobody'} delivers the events now")


async def _follow_gateways(
    gateways: GatewayStream, run: PoolRun, warn: Callable[[str], None]
) -> None:
    async for told in gateways:
        event = told.event
        run.on_gateway(told.gateway, event)
        text = trouble(event) if isinstance(event, events.StateEvent) else None
        if isinstance(event, events.Notice):
            text = notable(event)
        if text is not None:
            warn(f"{told.gateway}: {text}")
