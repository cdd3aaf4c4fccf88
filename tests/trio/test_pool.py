"""A pool on trio, in virtual time: when another gateway takes over, and what cancelling takes back."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio

from butter_proto.errors import LocalProtocolError, RequestMayHaveExecuted, RequestNotSent
from butter_proto.events import EventsMissed, FromGateway, GatewayEvent, MissReason, Stopped
from butter_proto.machine import OpenTransport, State
from butter_proto.pool_gateway import PoolGateway
from butter_proto.request_options import Offline
from butter_proto.testing import StandInGateway
from butter_trio import Gateway, Pool, connect, connect_pool
from butter_trio.dial import Dial
from butter_trio.testing import memory_dial
from tests.trio.scenario import URL, Oops, virtual_time

CLOSED: Final = 0.1
"""Seconds in which a close is known: nothing in it waits for a deadline."""
SILENT: Final = 25.0
"""Seconds in which a silent peer is gone (design.md, Keepalive)."""


class Gateways:
    """Stand-ins by their names; a pool dials them by their hosts."""

    def __init__(self, *names: str) -> None:
        self._stand_ins = {name: StandInGateway(seed=n) for n, name in enumerate(names, 1)}
        self._dials: dict[str, Dial] = {
            name: memory_dial(stand_in) for name, stand_in in self._stand_ins.items()
        }

    def __getitem__(self, name: str) -> StandInGateway:
        return self._stand_ins[name]

    def of(self, *names: str) -> list[PoolGateway]:
        return [PoolGateway(f"ws://{name}.local", name=name) for name in names]

    async def dial(self, command: OpenTransport) -> trio.abc.Stream:
        stream: trio.abc.Stream = await self._dials[command.host.partition(".")[0]](command)
        return stream

    @asynccontextmanager
    async def pool(self, *names: str, **options: Any) -> AsyncIterator[Pool]:
        """Connect a pool, and wait until all of it is online."""
        async with connect_pool(self.of(*names), dial=self.dial, **options) as pool:
            async for _ in pool.from_gateways():
                if all(one.state is State.ONLINE for one in pool.health()):
                    break
            yield pool


async def ask_in_vain(pool: Pool) -> None:
    with pytest.raises(RequestMayHaveExecuted):
        await pool.request("slow", gateway="b", timeout=None)


@pytest.mark.parametrize(
    ("how", "within"), [("drop", CLOSED), ("close", CLOSED), ("stall", SILENT)]
)
@virtual_time
async def test_another_gateway_takes_over_in_time(how: str, within: float) -> None:
    gateways = Gateways("a", "b")
    async with gateways.pool("a", "b") as pool, pool.events("chat") as events:
        assert pool.primary is not None
        begun = trio.current_time()
        fallen = gateways[pool.primary]
        {"drop": fallen.drop, "close": lambda: fallen.close(1012), "stall": fallen.stall}[how]()
        assert await anext(events) == EventsMissed(MissReason.PRIMARY_CHANGED)
        assert trio.current_time() - begun <= within
        gateways[pool.primary].push("chat", 1)
        event = await anext(events)
        assert isinstance(event, GatewayEvent)
        assert event.payload == 1


@virtual_time
async def test_a_removal_that_is_cancelled_goes_on_without_its_caller() -> None:
    gateways = Gateways("a", "b")
    gateways["b"].reply("slow", delay=math.inf)
    async with gateways.pool("a", "b") as pool, trio.open_nursery() as nursery:
        nursery.start_soon(ask_in_vain, pool)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(5) as scope:
            await pool.remove("b", drain=60)
        assert scope.cancelled_caught
        assert [one.leaving for one in pool.health()] == [False, True]
        async for told in pool.from_gateways():
            if told == FromGateway("b", Stopped()):
                break
        assert [one.name for one in pool.health()] == ["a"]


@virtual_time
async def test_who_waits_for_a_removal_waits_for_no_other_gateway_of_that_name() -> None:
    gateways = Gateways("a", "b")
    gone = trio.Event()

    async def remove() -> None:
        await pool.remove("b")
        gone.set()

    async with gateways.pool("a", "b") as pool, trio.open_nursery() as nursery:
        nursery.start_soon(remove)
        async for told in pool.from_gateways():  # woken before the one that removes it
            if told.gateway == "b" and not any(one.name == "b" for one in pool.health()):
                break
        assert await pool.add(gateways.of("b")[0]) == "b"
        with trio.fail_after(60):
            await gone.wait()
        assert [one.name for one in pool.health()] == ["a", "b"]


@virtual_time
async def test_a_gateway_whose_way_in_is_cancelled_was_never_taken_in() -> None:
    gateways = Gateways("a", "b")
    async with gateways.pool("a") as pool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.add(gateways.of("b")[0])
        assert scope.cancelled_caught
        assert [one.name for one in pool.health()] == ["a"]


@virtual_time
async def test_leaving_a_pool_by_an_exception_lets_a_removal_end() -> None:
    gateways = Gateways("a", "b")
    gateways["b"].reply("slow", delay=math.inf)
    gone = trio.Event()

    async def remove(pool: Pool) -> None:
        await pool.remove("b", drain=3600)
        gone.set()

    async def leave(nursery: trio.Nursery) -> None:
        async with gateways.pool("a", "b") as pool:
            nursery.start_soon(ask_in_vain, pool)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(remove, pool)
            await trio.testing.wait_all_tasks_blocked()
            assert not gone.is_set()
            raise Oops

    async with trio.open_nursery() as nursery:
        with pytest.raises(Oops):
            await leave(nursery)
        with trio.fail_after(5):
            await gone.wait()


@virtual_time
async def test_cancelling_takes_a_queued_request_back() -> None:
    stand_in = StandInGateway()
    stand_in.stall()
    async with connect(URL, dial=memory_dial(stand_in), wait=False) as gateway:
        with trio.move_on_after(5) as scope:
            await gateway.request("echo", 1, offline=Offline.QUEUE)
        assert scope.cancelled_caught
        assert gateway.queued() == ()
        stand_in.resume()
        await gateway.wait_online()
        assert await gateway.request("echo", 2) == 2
    assert [one.params for one in stand_in.received if one.method == "echo"] == [2]


@virtual_time
async def test_the_hook_may_not_wait_for_the_queue_which_waits_for_it() -> None:
    told: list[str] = []

    async def hook(gateway: Gateway) -> None:
        try:
            await gateway.request("echo", offline=Offline.QUEUE, timeout=None)
        except LocalProtocolError as error:
            told.append(str(error))

    begun = trio.current_time()
    async with connect(URL, dial=memory_dial(StandInGateway()), on_online=hook) as gateway:
        assert trio.current_time() - begun < 1
        assert await gateway.request("echo", 1, offline=Offline.QUEUE) == 1
    assert "wait for its own end" in told[0]


@virtual_time
async def test_what_is_queued_when_the_block_is_left_was_not_sent() -> None:
    stand_in = StandInGateway()
    stand_in.stall()
    outcomes: list[BaseException] = []

    async def ask() -> None:
        with pytest.raises(RequestNotSent) as caught:
            await gateway.request("echo", offline=Offline.QUEUE, timeout=None)
        outcomes.append(caught.value)

    async with (
        trio.open_nursery() as nursery,
        connect(URL, dial=memory_dial(stand_in), wait=False) as gateway,
    ):
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert len(gateway.queued()) == 1
    assert len(outcomes) == 1
