"""Two real gateways, of which one is hurt in the middle of many requests.

What both have executed, as they count it themselves, is what was told of the requests.
"""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from typing import Any, Final

import pytest
import trio

from .executions import Ledger
from .feed import Heard, feeding
from .real_gateway import RealGateway
from .restarts import WAYS, restarted
from .scenario import ADMIN, connected, scenario

pytestmark = pytest.mark.live

Gateways = dict[str, RealGateway]

CALLERS: Final = 16
REQUESTS: Final = 500


@pytest.mark.parametrize("name", WAYS)
@scenario(120, once=True)
async def test_what_was_executed_is_what_was_told_when_a_gateway_goes_away(
    two_gateways: Gateways, name: str, record_property: Any
) -> None:
    ledger = Ledger(name)
    marks = iter([f"{name} {n}" for n in range(REQUESTS)])
    first, second = two_gateways.values()
    await ledger.open(first, second)
    heard = Heard()

    async def call(*clients: Any) -> None:
        for client, mark in zip(cycle(clients), marks, strict=False):
            await ledger.ask(client.request, mark)

    async with (
        feeding(two_gateways),
        connected(first, ADMIN, over="trio") as to_be_hurt,
        connected(second, ADMIN, over="threads") as unhurt,
        unhurt.events("chat") as events,
        trio.open_nursery() as listening,
    ):
        listening.start_soon(heard.follow, events)
        async with trio.open_nursery() as callers:
            for _ in range(CALLERS):
                callers.start_soon(call, to_be_hurt, unhurt)
            await ledger.until_told(REQUESTS // 3)
            await restarted(first, name)
        listening.cancel_scope.cancel()

    executed = {gateway: await ledger.executed(gateway) for gateway in two_gateways.values()}
    record_property(f"{name}: told", dict(Counter(ledger.told.values())))
    record_property(f"{name}: executed", [rows.total() for rows in executed.values()])
    assert len(ledger.told) == REQUESTS
    ledger.check(executed[first] + executed[second])
    assert heard.course() == ["second"]
    heard.assert_without_a_gap()
