"""Silence of the real gateway: when it is none, and how fast a real one is found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import pytest
import trio

from butter_proto.errors import EndKind, RequestMayHaveExecuted
from butter_proto.events import GatewayEvent, Offline, Online, Retrying, RoundTrip
from butter_proto.settings import KeepaliveSettings, Probe, Settings, Timeouts

from .real_gateway import RealGateway
from .scenario import ADAPTERS, Client, connected, scenario, timeline

pytestmark = pytest.mark.live

SILENCE = 92.0
"""Seconds; over the 75 for which a missing pong is forgiven (wire.md 6); no probe is due at 92."""
FOUND_WITHIN = 26.0
"""Seconds: two probes 10 apart, 5 to answer, 1 of grace for a busy machine."""
WITH_EACH_PROBE = (Probe.PING, Probe.HEALTH)

_T = TypeVar("_T")


async def each(items: AsyncIterator[_T], take: Callable[[_T], None]) -> None:
    async for item in items:
        take(item)


@asynccontextmanager
async def connected_with_each(
    gateway: RealGateway, settings_for: Callable[[Probe], Settings]
) -> AsyncIterator[dict[str, Client]]:
    """Connect with each adapter and each probe; yield the clients by the names of these."""
    async with AsyncExitStack() as stack:
        yield {
            f"{probe.name} of {over}": await stack.enter_async_context(
                connected(gateway, settings_for(probe), over=over)
            )
            for over in ADAPTERS
            for probe in WITH_EACH_PROBE
        }


@scenario(SILENCE + 30)
async def test_90_silent_seconds_are_survived_with_every_kind_of_probe(
    gateway: RealGateway, record_property: Any
) -> None:
    """The application asks nothing; ticks come every 30 s, and the gateway's pings are answered."""

    async def stay_silent(probe: Probe) -> None:
        settings = Settings(keepalive=KeepaliveSettings(probe=probe))
        events: list[Any] = []
        notices: list[Any] = []
        async with connected(gateway, settings) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(each, client.events(), events.append)
                nursery.start_soon(each, client.notices(), notices.append)
                await trio.sleep(SILENCE)
                nursery.cancel_scope.cancel()
            stats = client.stats
            assert (stats.attempts, stats.disconnects, stats.misses) == (1, 0, 0)
            assert stats.probes == (0 if probe is Probe.NONE else 9)

            assert all(isinstance(event, GatewayEvent) for event in events)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert [event.name for event in events].count("tick") in (2, 3, 4)

            seconds = [notice.seconds for notice in notices if isinstance(notice, RoundTrip)]
            assert len(seconds) == stats.probes
            if seconds:
                slowest = f"{1000 * max(seconds):.1f} ms"
                record_property(f"slowest round trip by {probe.name} in {SILENCE:g} s", slowest)
            assert (await client.request("health"))["ok"] is True

    async with trio.open_nursery() as nursery:
        for probe in (Probe.PING, Probe.HEALTH, Probe.NONE):
            nursery.start_soon(stay_silent, probe)


@scenario(120, once=True)
async def test_a_stopped_gateway_is_found_within_26_seconds_and_comes_back(
    gateway: RealGateway, record_property: Any
) -> None:
    """SIGSTOP: the kernel still accepts connections, but nothing answers. Then SIGCONT.

    A pending request without a deadline masks nothing (lesson 22), and attempts that are not
    answered do not end the attempts (lesson 12).
    """

    async def lose_and_regain(name: str, client: Client) -> None:
        async with timeline(client) as watched:
            with pytest.raises(RequestMayHaveExecuted):
                await client.request("health", timeout=None)
            failed_after = trio.current_time() - stopped_at
            lost_at, offline = await watched.until(Offline)
            assert offline.ending.kind is EndKind.SILENT_PEER
            detection = lost_at - stopped_at
            record_property(f"SIGSTOP found by {name} after, s", f"{detection:.2f}")
            assert detection < FOUND_WITHIN
            assert failed_after == pytest.approx(detection, abs=0.5)

            _, retrying = await watched.until(Retrying)
            assert retrying.ending.kind is EndKind.SILENT_PEER
            _, retrying = await watched.until(Retrying)
            assert retrying.ending.kind is EndKind.OPEN_TIMEOUT
            lost.release()
            back_at, online = await watched.until(Online)
            record_property(f"SIGCONT to online by {name}, s", f"{back_at - continued_at:.2f}")
            assert online.resync
            assert not online.boot_changed
            assert (await client.request("health"))["ok"] is True
            assert client.stats.disconnects == 1
            watched.assert_hints_honoured()

    def quick_to_dial(probe: Probe) -> Settings:
        return Settings(keepalive=KeepaliveSettings(probe=probe), timeouts=Timeouts(open=2.0))

    lost = trio.Semaphore(0)
    async with (
        connected_with_each(gateway, quick_to_dial) as clients,
        trio.open_nursery() as nursery,
    ):
        with gateway.suspended():
            stopped_at = trio.current_time()
            for name, client in clients.items():
                nursery.start_soon(lose_and_regain, name, client)
            for _ in clients:
                await lost.acquire()
        continued_at = trio.current_time()


@scenario(60, once=True)
async def test_a_short_stall_is_no_disconnect(gateway: RealGateway) -> None:
    """3.5 s, and a probe every 3 s with 2 s to answer: one is missed at most, two would be gone."""

    async def endure(client: Client) -> None:
        assert (await client.request("health"))["ok"] is True
        await trio.sleep(3.5)
        assert (client.stats.attempts, client.stats.disconnects) == (1, 0)

    def alert(probe: Probe) -> Settings:
        return Settings(keepalive=KeepaliveSettings(interval=3.0, timeout=2.0, probe=probe))

    async with (
        connected_with_each(gateway, alert) as clients,
        trio.open_nursery() as nursery,
    ):
        with gateway.suspended():
            for client in clients.values():
                nursery.start_soon(endure, client)
            await trio.sleep(3.5)
