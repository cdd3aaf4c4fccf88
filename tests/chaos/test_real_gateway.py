"""The same against the real gateway, which counts itself what it has executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count, product
from typing import Any, Final

import attrs
import pytest
import trio

from butter_proto.events import Online
from butter_proto.machine import State
from tests.chaos.faults import PHASES, TABLE, Fault, Treatment
from tests.chaos.proxy import Proxy
from tests.chaos.test_faults import TOLD, TOUGH
from tests.live.executions import Ledger
from tests.live.real_gateway import RealGateway
from tests.live.scenario import ADMIN, Client, adapter, connected, scenario, timeline

pytestmark = pytest.mark.chaos

SETTINGS: Final = attrs.evolve(
    TOUGH,
    identity=ADMIN.identity,
    timeouts=attrs.evolve(TOUGH.timeouts, open=3.0, challenge=3.0, hello=3.0),
)
FATAL: Final = tuple(TOLD)
BORNE: Final = ("one byte at a time", "delay")
PHASED: Final = ("upgrade", "challenge", "hello")
HURT_AGAIN: Final = ("reset", "over down", "half-open", "garbage down")
"""What a line meets in each of its phases, that follows a cut."""
LARGE: Final = 20 * 1024 * 1024
"""Bytes; the gateway takes 25 MiB."""
MEANWHILE: Final = 3
"""Probes that are due in the 32 seconds that so much takes at least on the slow line."""
EACH: Final = 20
"""Requests in flight around each hurt."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[RealGateway]:
    with RealGateway() as gateway:
        yield gateway


@scenario(150)
async def test_the_real_gateway_did_what_was_told_whatever_happened_to_the_line(
    gateway: RealGateway, record_property: Any
) -> None:
    ledger = Ledger(f"chaos-{adapter()}")
    await ledger.open(gateway)
    proxy = Proxy(gateway.url)
    marks = (f"row {number}" for number in count())

    async def busy(client: Client, name: str) -> None:
        """Hurt the line while requests are under way; return when all of them are settled."""
        told = len(ledger.told)
        async with trio.open_nursery() as nursery:
            for _ in range(EACH):
                nursery.start_soon(ledger.ask, client.request, next(marks))
            await ledger.until_told(told + 3)
            proxy.strike(TABLE[name])

    async with (
        proxy.serving(),
        connected(gateway, SETTINGS, url=proxy.url) as client,
        timeline(client) as line,
    ):
        drops = 0
        for name in BORNE:
            await busy(client, name)
            proxy.heal()
        for phase, name in (*((None, name) for name in FATAL), *product(PHASED, HURT_AGAIN)):
            if phase is not None:
                proxy.meet(attrs.evolve(TABLE[name], at=PHASES[phase]))
            await busy(client, name if phase is None else "cut")
            await line.until(Online)
            drops += 1
            assert client.stats.disconnects == drops, (phase, name)
            assert await ledger.ask(client.request, next(marks)) is None
        assert client.state is State.ONLINE
        assert client.stats.attempts == 1 + drops + len(PHASED) * len(HURT_AGAIN)
    ledger.check(await ledger.executed(gateway))
    record_property("told", dict(Counter(ledger.told.values())))


@scenario(150)
async def test_a_large_frame_on_a_slow_line_takes_its_time_and_is_answered(
    gateway: RealGateway, record_property: Any
) -> None:
    """With the keepalive as it is by default: some probes are due while it goes up."""
    proxy = Proxy(gateway.url)
    async with proxy.serving(), connected(gateway, url=proxy.url) as client:
        proxy.strike(Fault(up=Treatment(size=64 * 1024, pause=0.1)))
        began = trio.current_time()
        health = await client.request("health", {"fill": "x" * LARGE}, timeout=120.0)
        assert health["ok"] is True
        assert client.stats.probes >= MEANWHILE
        assert client.stats.disconnects == 0
        record_property("seconds for 20 MiB", round(trio.current_time() - began, 1))
        record_property("probes missed meanwhile", client.stats.misses)
