"""A stand-in without sockets: hours pass in no time, and everything it can do can be met."""

from __future__ import annotations

import pytest
import trio

from butter_proto.errors import EndKind, FaultKind
from butter_proto.events import GatewayEvent, Offline, Online
from butter_proto.testing import StandInGateway
from butter_trio import State, connect
from butter_trio.testing import memory_dial
from tests.trio.scenario import COMMAND, UPGRADE, URL, read_to_the_end, until, virtual_time


@virtual_time
async def test_hours_online_pass_in_no_time() -> None:
    stand_in = StandInGateway(token="secret")
    async with connect(URL, token="secret", dial=memory_dial(stand_in)) as gateway:
        await trio.sleep(6 * 3600 + 1)
        assert gateway.state is State.ONLINE
        assert gateway.stats.attempts == 1
        assert gateway.stats.misses == 0
        assert gateway.stats.events == 6 * 120  # a tick every 30 s
        assert await gateway.request("echo", {"n": 1}) == {"n": 1}


@virtual_time
async def test_a_scripted_push_arrives_without_time_passing() -> None:
    stand_in = StandInGateway()
    async with (
        connect(URL, dial=memory_dial(stand_in)) as gateway,
        gateway.events("chat") as events,
    ):
        stand_in.push("chat", {"n": 1})
        event = await anext(events)
        assert isinstance(event, GatewayEvent)
        assert event.payload == {"n": 1}
        assert trio.current_time() == 0


@virtual_time
async def test_a_delayed_reply_takes_exactly_its_delay() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", "done", delay=7.5)
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        assert await gateway.request("slow") == "done"
        assert trio.current_time() == 7.5


@virtual_time
async def test_dials_are_refused_while_a_restart_is_down() -> None:
    stand_in = StandInGateway()
    dial = memory_dial(stand_in)
    async with connect(URL, dial=dial) as gateway:
        stand_in.restart("second", down=20, announce=False)
        await until(gateway, Offline)
        with pytest.raises(ConnectionRefusedError):
            await dial(COMMAND)
        await until(gateway, Online)
        assert trio.current_time() >= 20
        assert gateway.hello.boot_id == "second"


@virtual_time
async def test_a_stalled_stand_in_is_found_silent_and_found_again() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        stand_in.stall()
        assert await until(gateway, Offline) == 25  # two probes, 10 s apart, 5 s to answer
        assert gateway.last_ending is not None
        assert gateway.last_ending.kind is EndKind.SILENT_PEER
        stand_in.resume()
        await until(gateway, Online)


@pytest.mark.parametrize(
    ("reset", "kind"), [(False, EndKind.END_OF_STREAM), (True, EndKind.TRANSPORT_FAILED)]
)
def test_a_drop_ends_the_stream_with_or_without_a_reset(reset: bool, kind: EndKind) -> None:
    @virtual_time
    async def scenario() -> None:
        stand_in = StandInGateway()
        async with connect(URL, dial=memory_dial(stand_in)) as gateway:
            stand_in.drop(reset=reset)
            await until(gateway, Offline)
            assert gateway.last_ending is not None
            assert gateway.last_ending.kind is kind
            fault = gateway.last_ending.fault
            assert (fault is not None and fault.kind is FaultKind.OTHER) is reset

    scenario()


@virtual_time
async def test_two_connectors_share_one_dial() -> None:
    stand_in = StandInGateway()
    dial = memory_dial(stand_in)
    async with (
        connect(URL, dial=dial) as one,
        connect(URL, dial=dial) as two,
        one.events("chat") as ones,
        two.events("chat") as twos,
    ):
        await trio.sleep(100)
        stand_in.push("chat")
        await anext(ones)
        await anext(twos)
        assert (one.stats.attempts, two.stats.attempts) == (1, 1)


@virtual_time
async def test_leaving_closes_the_stand_ins_socket() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)):
        assert stand_in.online_peers == 1
    assert stand_in.online_peers == 0


@virtual_time
async def test_a_stream_reads_no_more_than_it_is_asked_for() -> None:
    stream = await memory_dial(StandInGateway())(COMMAND)
    await stream.send_all(UPGRADE)
    assert await stream.receive_some(4) == b"HTTP"
    assert await stream.receive_some(4) == b"/1.1"
    assert b"connect.challenge" in await stream.receive_some()


@virtual_time
async def test_a_closed_stream_can_neither_be_read_nor_written() -> None:
    stream = await memory_dial(StandInGateway())(COMMAND)
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")


@virtual_time
async def test_closing_a_stream_wakes_who_reads_it() -> None:
    stream = await memory_dial(StandInGateway())(COMMAND)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()


@virtual_time
async def test_a_stream_that_the_stand_in_closed_is_read_to_its_end_and_not_written() -> None:
    stand_in = StandInGateway()
    stand_in.refuse_upgrade_next(503, body=b"busy")
    stream = await memory_dial(stand_in)(COMMAND)
    await stream.send_all(UPGRADE)
    assert (await read_to_the_end(stream)).endswith(b"busy")
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"more")


@virtual_time
async def test_a_reset_loses_what_was_not_read() -> None:
    stand_in = StandInGateway()
    stream = await memory_dial(stand_in)(COMMAND)
    await stream.send_all(UPGRADE)
    await stream.receive_some(1)
    stand_in.drop(reset=True)
    await trio.sleep(1)
    with pytest.raises(trio.BrokenResourceError):
        await read_to_the_end(stream)
