"""Two real gateways that serve as one, of which the primary falls in the middle of many requests.

Pools of both adapters meet the same fall. What the gateways have executed, as they count it
themselves, must be what was told of the requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio

from butter_proto.errors import NotOnline, RequestFailed, RequestRefused
from butter_proto.events import MissReason, Offline, Online
from butter_proto.request_options import Offline as WhileOffline
from butter_proto.request_options import PoolOptions
from butter_proto.settings import ReconnectSettings

from .executions import Ledger
from .feed import Heard, feeding
from .real_gateway import RealGateway
from .restarts import restarted
from .scenario import ADAPTERS, ADMIN, Pool, connected, pooled, scenario, timeline

pytestmark = pytest.mark.live

Gateways = dict[str, RealGateway]

CALLERS: Final = 16
"""Of each pool."""
REQUESTS: Final = 500
"""Of each pool."""
SETTINGS: Final = attrs.evolve(ADMIN, reconnect=ReconnectSettings(stable_after=3.0))
"""The better gateway takes over again soon after its return."""
OPTIONS: Final[tuple[PoolOptions, ...]] = (
    {},
    {"offline": WhileOffline.QUEUE, "retry_unavailable": True},
    {"spread": True},
)
"""How every third request is made."""
WITHIN: Final = {"SIGKILL": 1.0, "SIGTERM": 1.0, "SIGSTOP": 25.0 + 0.5}
"""Seconds to the failover: from the close, or from the last byte of a silent gateway.

The half second is a busy machine's. After SIGUSR2 the gateway closes only when all is answered.
"""
CHANGED: Final = MissReason.PRIMARY_CHANGED


@attrs.define(eq=False)
class Watched:
    """A pool, what it hears of the feed, and its callers."""

    over: str
    pool: Pool
    heard: Heard
    failures: list[tuple[PoolOptions, RequestFailed | NotOnline]] = attrs.field(factory=list)

    async def until_whole(self) -> None:
        """Wait until every gateway is online and the best one is primary."""
        online: set[str] = set()
        async with self.pool.from_gateways() as told, self.pool.states() as states:
            async for of_one in told:
                if isinstance(of_one.event, Online):
                    online.add(of_one.gateway)
                if len(online) == len(self.pool.health()):
                    break
            async for _ in states:
                if self.pool.primary == "first":
                    break

    async def call(self, ledger: Ledger, numbers: Iterator[int]) -> None:
        for number in numbers:
            options = OPTIONS[number % len(OPTIONS)]
            failure = await ledger.ask(self.pool.request, f"{self.over} {number}", **options)
            if failure is not None:
                self.failures.append((options, failure))

    def assert_asked_again(self) -> None:
        """Where the caller wants it no refusal is told that the gateway would take back."""
        for options, failure in self.failures:
            if options.get("retry_unavailable") and isinstance(failure, RequestRefused):
                assert failure.error is not None
                assert not failure.error.retryable


@asynccontextmanager
async def watched(gateways: Gateways, over: str) -> AsyncIterator[Watched]:
    async with pooled(gateways, SETTINGS, over=over) as pool:
        one = Watched(over, pool, Heard())
        await one.until_whole()
        async with pool.events("chat") as events, trio.open_nursery() as nursery:
            nursery.start_soon(one.heard.follow, events)
            yield one
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", WITHIN)
@scenario(150, once=True)
async def test_the_other_gateway_takes_over_and_what_was_executed_is_what_was_told(
    two_gateways: Gateways, way: str, record_property: Any
) -> None:
    course = ("first", CHANGED, "second", CHANGED, "first")
    ledger = Ledger(way)
    first = two_gateways["first"]
    await ledger.open(*two_gateways.values())

    async def fall() -> None:
        """Return when the gateway is there again."""
        if way != "SIGSTOP":
            await restarted(first, way)
            return
        with first.suspended():
            for one in pools:
                await one.heard.until(*course[:3])

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(feeding(two_gateways))
        witness = await stack.enter_async_context(connected(first, over="trio"))
        states = await stack.enter_async_context(timeline(witness))
        pools = [await stack.enter_async_context(watched(two_gateways, over)) for over in ADAPTERS]
        async with trio.open_nursery() as nursery:
            for one in pools:
                numbers = iter(range(REQUESTS))
                for _ in range(CALLERS):
                    nursery.start_soon(one.call, ledger, numbers)
            await ledger.until_told(REQUESTS * len(pools) // 3)
            signalled_at = trio.current_time()
            nursery.start_soon(fall)
            closed_at = signalled_at if way == "SIGSTOP" else (await states.until(Offline))[0]
            for one in pools:
                nursery.start_soon(one.heard.until, *course)

    executed = {of: await ledger.executed(gateway) for of, gateway in two_gateways.items()}
    record_property(f"{way}: told", dict(Counter(ledger.told.values())))
    record_property(f"{way}: executed", {of: rows.total() for of, rows in executed.items()})
    record_property(f"{way} to the close, s", f"{closed_at - signalled_at:.3f}")
    assert len(ledger.told) == REQUESTS * len(pools)
    assert "not accepted" not in ledger.told.values()
    ledger.check(executed["first"] + executed["second"])
    for one in pools:
        told_at, resumed_at = one.heard.first_loss()
        record_property(f"{way}: failover over {one.over}, s", f"{told_at - closed_at:.3f}")
        record_property(f"{way}: next event over {one.over}, s", f"{resumed_at - closed_at:.3f}")
        assert told_at - closed_at < WITHIN[way]
        assert tuple(one.heard.course()) == course
        one.heard.assert_without_a_gap()
        one.assert_asked_again()
