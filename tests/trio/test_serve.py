"""The stand-in on a real port: what is scripted is done at once, and dials are refused when down."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
import trio

from butter_proto.errors import EndKind
from butter_proto.events import GatewayEvent, Offline, Online
from butter_proto.settings import MIB, ReconnectSettings, Settings
from butter_proto.testing import StandInGateway
from butter_trio import GaveUp, State, connect
from butter_trio.serve import serve
from tests.trio.scenario import UPGRADE, read_to_the_end, real_time, until


async def dial(url: str) -> trio.SocketStream:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return await trio.open_tcp_stream(parts.hostname, parts.port)


async def upgraded(url: str) -> trio.SocketStream:
    """Open a raw socket that has its WebSocket."""
    stream = await dial(url)
    await stream.send_all(UPGRADE)
    await stream.receive_some()
    return stream


@real_time
async def test_a_client_connects_to_the_url_and_is_answered() -> None:
    async with (
        serve(StandInGateway(token="secret")) as url,
        connect(url, token="secret") as gateway,
    ):
        assert url.startswith("ws://127.0.0.1:")
        assert await gateway.request("echo", {"n": 1}) == {"n": 1}


@real_time
async def test_ipv6_is_served_where_the_machine_has_it() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with serve(StandInGateway(), host="::1") as url, connect(url) as gateway:
        assert url.startswith("ws://[::1]:")
        await gateway.request("health")


@real_time
async def test_a_push_arrives_at_once_from_this_thread_and_from_another() -> None:
    stand_in = StandInGateway()
    async with serve(stand_in) as url, connect(url) as gateway, gateway.events("chat") as events:
        with trio.fail_after(5):
            stand_in.push("chat", 1)
            await trio.to_thread.run_sync(stand_in.push, "chat", 2)
            for n in (1, 2):
                event = await anext(events)
                assert isinstance(event, GatewayEvent)
                assert event.payload == n


@real_time
async def test_a_drop_ends_the_stream() -> None:
    stand_in = StandInGateway()
    async with serve(stand_in) as url, connect(url) as gateway:
        stand_in.drop()
        await until(gateway, Offline)
        assert gateway.last_ending is not None
        assert gateway.last_ending.kind is EndKind.END_OF_STREAM


@real_time
async def test_a_drop_with_reset_resets_the_socket() -> None:
    stand_in = StandInGateway()
    async with serve(stand_in) as url, await upgraded(url) as stream:
        stand_in.drop(reset=True)
        with pytest.raises(trio.BrokenResourceError):
            await read_to_the_end(stream)


@real_time
async def test_while_a_restart_is_down_dials_are_refused_and_the_port_stays() -> None:
    stand_in = StandInGateway()
    soon = Settings(reconnect=ReconnectSettings(base=0.1, cap=0.1, minimum=0.1))
    async with serve(stand_in) as url, connect(url, settings=soon) as gateway:
        stand_in.restart("second", down=0.2, expected=None)
        await until(gateway, Offline)
        with pytest.raises(OSError, match="failed"):
            await dial(url)
        await until(gateway, Online)
        assert gateway.hello.boot_id == "second"


@real_time
async def test_a_refusal_is_read_before_the_close() -> None:
    async with serve(StandInGateway(token="secret")) as url:
        with pytest.raises(GaveUp) as caught:
            async with connect(url, token="wrong"):
                pass
        assert caught.value.ending is not None
        assert caught.value.ending.kind is EndKind.CONNECT_REFUSED


@real_time
async def test_a_large_event_arrives_whole_before_the_close_behind_it() -> None:
    stand_in = StandInGateway()
    async with serve(stand_in) as url, connect(url) as gateway, gateway.events("big") as events:
        stand_in.push("big", "x" * (8 * MIB))
        stand_in.close(1012, "service restart")
        event = await anext(events)
        assert isinstance(event, GatewayEvent)
        assert len(event.payload) == 8 * MIB


@real_time
async def test_a_client_that_vanishes_gives_its_place_back() -> None:
    async with serve(StandInGateway(max_unauthenticated=1)) as url:
        stream = await upgraded(url)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()
        async with connect(url) as gateway:
            await gateway.request("health")


@real_time
async def test_a_client_that_goes_away_in_the_middle_of_an_event_does_no_harm() -> None:
    stand_in = StandInGateway()
    async with serve(stand_in) as url:
        with trio.CancelScope() as scope:
            async with connect(url) as gateway, gateway.events("small") as events:
                stand_in.push("small")
                stand_in.push("big", "x" * (32 * MIB))
                await anext(events)
                scope.cancel()
        async with connect(url) as gateway:
            await gateway.request("health")
            assert stand_in.online_peers == 1


@real_time
async def test_the_end_closes_every_socket_and_the_port() -> None:
    stand_in = StandInGateway()
    before = stand_in.wake
    async with serve(stand_in) as url:
        stream = await upgraded(url)
    async with stream:
        await read_to_the_end(stream)
    with pytest.raises(OSError, match="failed"):
        await dial(url)
    assert stand_in.wake == before


@real_time
async def test_a_port_that_is_taken_is_a_plain_error() -> None:
    async with serve(StandInGateway()) as url:
        with pytest.raises(OSError, match="in use"):
            async with serve(StandInGateway(), port=urlsplit(url).port or 0):
                pass


@real_time
async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with serve(StandInGateway()):
            raise ZeroDivisionError


@real_time
async def test_a_stalled_stand_in_still_accepts_and_answers_when_resumed() -> None:
    stand_in = StandInGateway()
    stand_in.stall()
    async with serve(stand_in) as url, connect(url, wait=False) as gateway:
        await trio.sleep(0.05)
        assert gateway.state is State.CONNECTING
        stand_in.resume()
        await gateway.wait_online(5)
