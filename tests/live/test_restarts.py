"""The real gateway goes away in three ways and comes back, while requests never stop.

Each is watched by one connector of each adapter with the default backoff, which carry the
requests, and by newcomers that knock as fast as the hints allow, so that they meet every phase of
an end and a start (wire.md 7).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio

from butter_proto.errors import Ending, NotOnline, RequestFailed
from butter_proto.events import Offline, Online

from .real_gateway import RealGateway
from .restarts import restarted
from .scenario import ADAPTERS, IMPATIENT, Client, Timeline, connected, scenario, timeline

pytestmark = pytest.mark.live

CALLERS: Final = 8
NEWCOMERS: Final = 4
"""Of each adapter: enough to meet the 503, with which the upgrade is answered for a moment only."""


@attrs.frozen
class Restart:
    """What one way to go and come back must look like from here."""

    endings: frozenset[str]
    """How the connection that was online ends: one of these."""
    hinted: bool
    """Whether the gateway says before when it will be back."""
    phases: frozenset[str]
    """What newcomers meet before they are online."""


STARTING: Final = frozenset({"connection refused", "startup-sidecars"})
RESTARTS: Final = {
    "SIGKILL": Restart(
        frozenset({"the stream ended", "connection reset"}), hinted=False, phases=STARTING
    ),
    "SIGTERM": Restart(frozenset({"close 1012"}), hinted=False, phases=STARTING | {"HTTP 503"}),
    "SIGUSR2": Restart(frozenset({"close 1012"}), hinted=True, phases=STARTING | {"HTTP 503"}),
}


def phase_of(ending: Ending) -> str:
    """Name what an attempt met, in the words of `Restart`."""
    if ending.http_status is not None:
        return f"HTTP {ending.http_status}"
    if ending.close_code is not None:
        return f"close {ending.close_code}"
    if ending.fault is not None:
        return ending.fault.kind.value
    if ending.error is not None:
        return ending.error.detail_reason or str(ending.error)
    return ending.kind.value


class Load:
    """Callers that ask one request after another, none with a deadline that could hide a loss."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._enough = False
        self.asked = 0
        self.outcomes: Counter[str] = Counter()

    def stop(self) -> None:
        """Let each caller end after its outcome."""
        self._enough = True

    async def call(self) -> None:
        while not self._enough:
            self.asked += 1
            try:
                await self._client.request("health", timeout=None)
            except NotOnline:
                self.outcomes["not accepted"] += 1
                await trio.sleep(0.05)
            except RequestFailed as failure:
                self.outcomes[failure.delivery.value] += 1
            else:
                self.outcomes["replied"] += 1


@attrs.define(eq=False)
class Enduring:
    """A connector that is online, with its load, and what it was told at the restart."""

    over: str
    client: Client
    watched: Timeline
    load: Load
    replied_before: int = 0
    offline: Offline | None = None
    online: Online | None = None

    async def come_back(self) -> None:
        """Follow the connector through the restart."""
        _, self.offline = await self.watched.until(Offline)
        _, self.online = await self.watched.until(Online)


@asynccontextmanager
async def enduring(gateway: RealGateway, over: str) -> AsyncIterator[Enduring]:
    async with connected(gateway, over=over) as client, timeline(client) as watched:
        yield Enduring(over, client, watched, Load(client))


@pytest.mark.parametrize("name", RESTARTS)
@scenario(150, once=True)
async def test_a_restart_ends_online_again_with_an_outcome_for_every_request(
    gateway: RealGateway, name: str, record_property: Any
) -> None:
    restart = RESTARTS[name]
    phases: Counter[str] = Counter()

    def record(what: str) -> None:
        record_property(f"{name} to {what}, s", f"{trio.current_time() - began:.2f}")

    async def act() -> None:
        await restarted(gateway, name)
        record("the gateway's ready")

    async def knock(over: str) -> None:
        """Connect anew, again and again, until that took more than one attempt."""
        met: list[str] = []
        while not met:
            async with (
                connected(gateway, IMPATIENT, over=over, wait=False) as client,
                timeline(client) as watched,
            ):
                await watched.until(Online)
                watched.assert_hints_honoured()
                met = [phase_of(retry.ending) for retry in watched.retries]
            await trio.sleep(0.05)
        if not phases:
            record("a newcomer online")
        phases.update(met)

    async def come_back(one: Enduring) -> None:
        await one.come_back()
        record(f"online with the default backoff over {one.over}")

    async with AsyncExitStack() as stack:
        all_of_them = [
            await stack.enter_async_context(enduring(gateway, over)) for over in ADAPTERS
        ]
        async with trio.open_nursery() as callers:
            for one in all_of_them:
                for _ in range(CALLERS):
                    callers.start_soon(one.load.call)
            await trio.sleep(0.5)
            for one in all_of_them:
                one.replied_before = one.load.outcomes["replied"]

            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(act)
                for over in ADAPTERS:
                    for _ in range(NEWCOMERS):
                        nursery.start_soon(knock, over)
                for one in all_of_them:
                    nursery.start_soon(come_back, one)
            await trio.sleep(0.5)
            for one in all_of_them:
                one.load.stop()
            await trio.sleep(1.0)
            without_outcome = [one.load.asked - one.load.outcomes.total() for one in all_of_them]
            callers.cancel_scope.cancel()

    assert restart.phases <= set(phases)
    record_property(f"{name}: newcomers met", dict(phases))
    assert without_outcome == [0] * len(all_of_them)
    for one in all_of_them:
        assert one.offline is not None
        assert phase_of(one.offline.ending) in restart.endings
        assert (one.offline.ending.retry_after is not None) == restart.hinted
        assert one.online is not None
        assert one.online.resync
        assert one.online.boot_changed
        one.watched.assert_hints_honoured()

        outcomes = one.load.outcomes
        assert one.replied_before > 0
        assert outcomes["replied"] > one.replied_before
        if name == "SIGKILL":
            assert 0 < outcomes["may have executed"] <= CALLERS
        assert one.client.stats.disconnects == 1
        record_property(f"{name}: outcomes over {one.over}", dict(outcomes))
