"""The stand-in on a real port: what is scripted is done at once, and dials are refused when down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from butter_proto.errors import EndKind
from butter_proto.events import GatewayEvent, Offline, Online
from butter_proto.settings import MIB
from butter_proto.testing import StandInGateway
from butter_threads import GaveUp, RequestMayHaveExecuted, State, connect
from butter_threads.serve import serve
from tests.threads.io_scenario import (
    PATIENCE,
    SOON,
    nothing_left_open,
    open_socket,
    read_to_the_end,
    reset,
    until,
)
from tests.threads.scenario import Parallel
from tests.threads.scenario import until as until_true

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: gateway.local\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    with nothing_left_open():
        yield


def upgraded(url: str) -> socket.socket:
    """Open a raw socket that has its WebSocket."""
    opened = open_socket(url)
    opened.sendall(UPGRADE)
    assert opened.recv(65536).startswith(b"HTTP/1.1 101 ")
    return opened


def test_a_client_connects_to_the_url_and_is_answered() -> None:
    with (
        serve(StandInGateway(token="secret")) as url,
        connect(url, token="secret", timeout=PATIENCE) as gateway,
    ):
        assert url.startswith("ws://127.0.0.1:")
        assert gateway.request("echo", {"n": 1}) == {"n": 1}


def test_ipv6_is_served_where_the_machine_has_it() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve(StandInGateway(), host="::1") as url, connect(url, timeout=PATIENCE) as gateway:
        assert url.startswith("ws://[::1]:")
        gateway.request("health")


def test_a_push_arrives_at_once_from_this_thread_and_from_another() -> None:
    stand_in = StandInGateway()
    with (
        serve(stand_in) as url,
        connect(url, timeout=PATIENCE) as gateway,
        gateway.events("chat", timeout=5) as events,
    ):
        stand_in.push("chat", 1)
        Parallel(lambda: stand_in.push("chat", 2)).join()
        for n in (1, 2):
            event = next(events)
            assert isinstance(event, GatewayEvent)
            assert event.payload == n


def test_a_drop_ends_the_stream() -> None:
    stand_in = StandInGateway()
    with serve(stand_in) as url, connect(url, timeout=PATIENCE) as gateway:
        stand_in.drop()
        assert until(gateway, Offline).ending.kind is EndKind.END_OF_STREAM


def test_a_drop_with_reset_resets_the_socket() -> None:
    stand_in = StandInGateway()
    with serve(stand_in) as url, upgraded(url) as opened:
        stand_in.drop(reset=True)
        with pytest.raises(ConnectionResetError):
            read_to_the_end(opened)


def test_while_a_restart_is_down_dials_are_refused_and_the_port_stays() -> None:
    stand_in = StandInGateway()
    with serve(stand_in) as url, connect(url, settings=SOON, timeout=PATIENCE) as gateway:
        stand_in.restart("second", down=0.2, expected=None)
        until(gateway, Offline)
        with pytest.raises(ConnectionRefusedError):
            open_socket(url)
        until(gateway, Online)
        assert gateway.hello.boot_id == "second"


def test_a_client_that_dials_while_a_restart_begins_is_not_the_end_of_the_server() -> None:
    """The door is closed by what another socket says, in the same turn in which somebody knocks."""
    stand_in = StandInGateway()
    in_reply, go_on = threading.Event(), threading.Event()

    def block(_: object) -> None:
        in_reply.set()
        go_on.wait(PATIENCE)

    stand_in.reply("block", block)
    stand_in.reply("restart", lambda _: stand_in.restart("second", down=0.05, expected=None))
    with (
        serve(stand_in) as url,
        connect(url, settings=SOON, timeout=PATIENCE) as one,
        connect(url, settings=SOON, timeout=PATIENCE) as two,
    ):
        blocked = one.submit("block")
        assert in_reply.wait(PATIENCE)
        restarted = two.submit("restart")
        until_true(lambda: two.stats.messages_sent == 2)  # both wait when the turn begins
        with open_socket(url):
            go_on.set()
            for future in (blocked, restarted):
                future.exception(PATIENCE)
            until_true(lambda: [one.hello.boot_id, two.hello.boot_id] == ["second"] * 2)


def test_a_refusal_is_read_before_the_close() -> None:
    with serve(StandInGateway(token="secret")) as url:
        with pytest.raises(GaveUp) as caught:
            connect(url, token="wrong", timeout=PATIENCE)
        assert caught.value.ending is not None
        assert caught.value.ending.kind is EndKind.CONNECT_REFUSED


def test_a_large_event_arrives_whole_before_the_close_behind_it() -> None:
    stand_in = StandInGateway()
    with (
        serve(stand_in) as url,
        connect(url, timeout=PATIENCE) as gateway,
        gateway.events("big", timeout=PATIENCE) as events,
    ):
        stand_in.push("big", "x" * (8 * MIB))
        stand_in.close(1012, "service restart")
        event = next(events)
        assert isinstance(event, GatewayEvent)
        assert len(event.payload) == 8 * MIB


def test_a_client_that_vanishes_gives_its_place_back() -> None:
    with serve(StandInGateway(max_unauthenticated=1)) as url:
        reset(upgraded(url))
        with connect(url, settings=SOON, timeout=PATIENCE) as gateway:
            gateway.request("health")


def test_a_client_that_vanishes_from_a_stalled_stand_in_may_be_dropped_too() -> None:
    stand_in = StandInGateway()
    with serve(stand_in) as url:
        lost, dropped = upgraded(url), upgraded(url)
        stand_in.stall()
        reset(lost)
        with open_socket(url):
            until_true(lambda: stand_in.connections == 3)  # the reset was read before
        stand_in.drop()
        with dropped:
            read_to_the_end(dropped)
        stand_in.resume()
        with connect(url, timeout=PATIENCE) as gateway:
            gateway.request("health")
            assert stand_in.online_peers == 1


def test_a_client_that_goes_away_in_the_middle_of_an_event_does_no_harm() -> None:
    stand_in = StandInGateway()
    with serve(stand_in) as url:
        with (
            connect(url, timeout=PATIENCE) as gateway,
            gateway.events("small", timeout=PATIENCE) as events,
        ):
            stand_in.push("small")
            stand_in.push("big", "x" * (32 * MIB))
            next(events)
            gateway.close(abort=True)
        with connect(url, timeout=PATIENCE) as gateway:
            gateway.request("health")
            assert stand_in.online_peers == 1


def test_the_end_closes_every_socket_and_the_port() -> None:
    stand_in = StandInGateway()
    before = stand_in.wake
    with serve(stand_in) as url:
        opened = upgraded(url)
    with opened:
        read_to_the_end(opened)
    with pytest.raises(ConnectionRefusedError):
        open_socket(url)
    assert stand_in.wake == before


def test_a_stand_in_may_be_served_again() -> None:
    stand_in = StandInGateway()
    for _ in range(2):
        with ExitStack() as gateways:
            with serve(stand_in) as url:
                for n in (1, 2):
                    gateway = gateways.enter_context(connect(url, timeout=PATIENCE))
                    assert gateway.request("echo", n) == n
                    assert stand_in.online_peers == n
            assert stand_in.online_peers == 0


def test_a_port_that_is_taken_is_a_plain_error() -> None:
    with (
        serve(StandInGateway()) as url,
        pytest.raises(OSError, match="in use"),
        serve(StandInGateway(), port=urlsplit(url).port or 0),
    ):
        pass


def test_what_the_body_raises_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), serve(StandInGateway()):
        raise ZeroDivisionError


def test_what_a_reply_function_raises_comes_out_at_the_end() -> None:
    stand_in = StandInGateway()
    stand_in.reply("divide", lambda params: 1 / params)
    with pytest.raises(ZeroDivisionError), serve(stand_in) as url:
        ask_to_divide_by_zero(url)


def ask_to_divide_by_zero(url: str) -> None:
    with connect(url, timeout=PATIENCE) as gateway, pytest.raises(RequestMayHaveExecuted):
        gateway.request("divide", 0)


def test_a_stalled_stand_in_still_accepts_and_answers_when_resumed() -> None:
    stand_in = StandInGateway()
    stand_in.stall()
    with serve(stand_in) as url, connect(url, wait=False) as gateway:
        until_true(lambda: stand_in.connections == 1)
        assert gateway.state is State.CONNECTING
        stand_in.resume()
        gateway.wait_online(PATIENCE)
