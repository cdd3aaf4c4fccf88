"""A device on trio: no thread where the store is memory, and none that cancellation waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from butter_proto.device import MemoryStore
from butter_proto.events import DeviceTokenIssued, DeviceTokenNotStored, Online, PairingRequired
from butter_proto.testing import StandInGateway
from butter_trio import Device, State, connect
from butter_trio.testing import memory_dial
from tests.adapters.devices import Gate, Key, Store, device, issued
from tests.trio.scenario import URL, until, virtual_time

HERE = "ws://127.0.0.1"
TOKEN = "the-gateways-token"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@virtual_time
async def test_memory_needs_no_thread_and_no_time() -> None:
    stand_in, store = StandInGateway(token=TOKEN), MemoryStore()
    dial, before = memory_dial(stand_in), threading.active_count()
    key = Key()
    async with connect(HERE, token=TOKEN, device=Device(key, store), dial=dial):
        assert trio.current_time() == 0
        [kept] = store._tokens.values()
        assert kept.token.reveal() == issued(stand_in)
    async with connect(HERE, device=Device(key, store), dial=dial) as gateway:
        assert gateway.hello.auth_method == "device-token"
    assert threading.active_count() == before


@virtual_time
async def test_a_device_is_approved_in_the_middle_of_the_slow_poll() -> None:
    stand_in = StandInGateway(token=TOKEN, remote=True)
    dial = memory_dial(stand_in)
    own = Device(Key())
    async with connect(URL, token=TOKEN, device=own, dial=dial, wait=False) as gateway:
        required = await anext(gateway.notices())
        assert isinstance(required, PairingRequired)
        assert required.request_id is not None
        await trio.sleep(100)
        assert gateway.state is State.WAITING
        assert gateway.stats.attempts == 7  # one in 15 s
        stand_in.approve(required.request_id)
        assert await until(gateway, Online) == 105


def test_a_store_that_takes_too_long_delays_online_by_five_seconds(gate: Gate) -> None:
    async def scenario() -> None:
        dial, slow = memory_dial(StandInGateway(token=TOKEN)), device(Store(before_save=gate))
        async with connect(HERE, token=TOKEN, device=slow, dial=dial, wait=False) as gateway:
            notices = gateway.notices()
            assert isinstance(await anext(notices), DeviceTokenIssued)
            assert await anext(notices) == DeviceTokenNotStored(timed_out=True)
            assert trio.current_time() == 5
            assert gateway.state is State.ONLINE

    # no deadline around it: the clock jumps to the next one while the store's thread works
    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_store_that_cannot_be_read_in_time_is_left_by_cancellation(gate: Gate) -> None:
    @virtual_time
    async def scenario() -> None:
        stand_in, store = StandInGateway(), Store(before_load=gate)
        with trio.move_on_after(3) as scope:
            async with connect(HERE, device=device(store), dial=memory_dial(stand_in)):
                raise AssertionError
        assert scope.cancelled_caught
        assert trio.current_time() == 3
        assert stand_in.connections == 0

    scenario()
