"""The I/O loop at a gateway: dials that fail in every way, writes that stall or break, TLS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from butter_proto.errors import EndKind, FaultKind
from butter_proto.events import GatewayEvent, Online, Retrying
from butter_proto.machine import OpenTransport
from butter_proto.settings import KeepaliveSettings, Timeouts
from butter_proto.testing import StandInGateway
from butter_threads import GaveUp, RequestTimeout, connect
from butter_threads.serve import serve
from tests.dial_faults import dial_faults
from tests.threads.io_scenario import (
    PATIENCE,
    SOON,
    URL,
    Relay,
    behind_tls,
    certificate,
    connector,
    dial_url,
    nothing_left_open,
    presenting,
    running,
    trusting,
    until,
)


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    with nothing_left_open():
        yield


# --- dials ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "kind"), [*dial_faults(), (SystemExit("no"), FaultKind.OTHER)])
def test_whatever_a_dial_raises_is_named_and_tried_again(
    error: BaseException, kind: FaultKind
) -> None:
    dials = []
    with serve(StandInGateway()) as url:
        good = dial_url(url)

        def dial(command: OpenTransport) -> socket.socket:
            dials.append(command)
            if len(dials) == 1:
                raise error
            return good(command)

        with connect(URL, dial=dial, wait=False, settings=SOON) as gateway:
            if kind is FaultKind.CERTIFICATE:  # one that was never good
                with pytest.raises(GaveUp):
                    gateway.wait_online(PATIENCE)
            else:
                gateway.wait_online(PATIENCE)
            assert gateway.last_ending is not None
            assert gateway.last_ending.kind is EndKind.TRANSPORT_FAILED
            assert gateway.last_ending.fault is not None
            assert gateway.last_ending.fault.kind is kind


@pytest.mark.parametrize("what", ["a closed socket", "nothing"])
def test_a_dial_that_returns_no_open_socket_is_tried_again(what: str) -> None:
    dials = []
    with serve(StandInGateway()) as url:
        good = dial_url(url)

        def dial(command: OpenTransport) -> Any:
            dials.append(command)
            if len(dials) > 1:
                return good(command)
            if what == "nothing":
                return None
            useless = socket.socket()
            useless.close()
            return useless

        with connect(URL, dial=dial, settings=SOON, timeout=PATIENCE) as gateway:
            assert gateway.last_ending is not None
            assert gateway.last_ending.kind is EndKind.TRANSPORT_FAILED


@pytest.mark.parametrize("brings", ["a socket", "a fault", "nothing"])
def test_a_dial_that_hangs_is_given_up_and_what_it_brings_later_is_not_seen(brings: str) -> None:
    go_on = threading.Event()
    dials: list[OpenTransport] = []
    near, far = socket.socketpair()
    settings = attrs.evolve(SOON, timeouts=Timeouts(open=0.05))

    def dial(command: OpenTransport) -> Any:
        dials.append(command)
        if len(dials) > 1:
            return good(command)
        go_on.wait(PATIENCE)
        if brings == "a fault":
            near.close()
            raise OSError("late")
        if brings == "nothing":
            near.close()
            return None
        return near

    with serve(StandInGateway()) as url, far:
        good = dial_url(url)
        with connect(URL, dial=dial, settings=settings, timeout=PATIENCE) as gateway:
            assert gateway.last_ending is not None
            assert gateway.last_ending.kind is EndKind.OPEN_TIMEOUT
            go_on.set()
            far.settimeout(PATIENCE)
            assert far.recv(1) == b"", "closed without a byte"
            assert gateway.request("echo", "on") == "on"
            assert gateway.stats.disconnects == 0


def test_leaving_does_not_wait_for_a_dial() -> None:
    dialling, go_on = threading.Event(), threading.Event()
    near, far = socket.socketpair()

    def dial(_: OpenTransport) -> socket.socket:
        dialling.set()
        go_on.wait(PATIENCE)
        return near

    with connect(URL, dial=dial, wait=False):
        assert dialling.wait(PATIENCE)
    go_on.set()
    with far:
        far.settimeout(PATIENCE)
        assert far.recv(1) == b"", "what it brings after the end is closed"


def test_a_dial_for_which_there_is_no_thread_is_a_local_fault_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[threading.Thread] = []
    start = threading.Thread.start

    def refuse_once(thread: threading.Thread) -> None:
        if ": dial " in thread.name and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    with (
        serve(StandInGateway()) as url,
        connect(URL, dial=dial_url(url), settings=SOON, timeout=PATIENCE) as gateway,
    ):
        assert gateway.last_ending is not None
        assert gateway.last_ending.fault is not None
        assert gateway.last_ending.fault.kind is FaultKind.LOCAL


def test_where_there_is_no_io_thread_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        connect(URL)


# --- reads and writes -----------------------------------------------------------------------


def test_a_refusal_that_is_unread_when_a_write_fails_is_still_read() -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"

    def dial(_: OpenTransport) -> socket.socket:
        near, far = socket.socketpair()
        far.sendall(refusal)
        far.close()
        return near

    with running(connector(), dial) as run:
        ending = run.until(Retrying).ending
    assert ending.http_status == 503
    assert ending.retry_after == 7


def test_a_write_that_fails_with_nothing_to_read_ends_the_connection() -> None:
    def dial(_: OpenTransport) -> socket.socket:
        near, far = socket.socketpair()
        far.close()
        return near

    with running(connector(), dial) as run:
        ending = run.until(Retrying).ending
    assert ending.kind in (EndKind.TRANSPORT_FAILED, EndKind.END_OF_STREAM)
    assert ending.transport_opened


def test_a_blocked_write_holds_back_no_event_and_no_deadline() -> None:
    stand_in = StandInGateway()
    text = "x" * 4_000_000
    with (
        serve(stand_in) as url,
        Relay(url) as relay,
        connect(URL, dial=relay, settings=SOON, timeout=PATIENCE) as gateway,
        gateway.events("chat", timeout=PATIENCE) as events,
    ):
        relay.hold_back()
        large = gateway.submit("echo", text)
        with pytest.raises(RequestTimeout):
            gateway.request("health", timeout=0.05)
        stand_in.push("chat", "through")
        event = next(events)
        assert isinstance(event, GatewayEvent)
        assert not large.done()
        relay.let_through()
        assert large.result(PATIENCE) == text


def test_a_gateway_that_takes_nothing_any_more_is_found_gone() -> None:
    settings = attrs.evolve(
        SOON, keepalive=KeepaliveSettings(interval=0.05, timeout=0.05, misses=2)
    )
    with (
        serve(StandInGateway()) as url,
        Relay(url) as relay,
        connect(URL, dial=relay, settings=settings, timeout=PATIENCE) as gateway,
    ):
        relay.hold_back()
        large = gateway.submit("echo", "x" * 4_000_000)
        ending = until(gateway, Retrying).ending
        assert ending.kind is EndKind.SILENT_PEER
        assert large.exception(PATIENCE) is not None


def test_large_messages_pass_tls_and_small_buffers_whole_in_both_directions() -> None:
    stand_in = StandInGateway()
    text = "x" * 3_000_000
    with (
        serve(stand_in) as plain,
        behind_tls(plain, presenting(certificate())) as url,
        Relay(url) as relay,
        connect(
            "wss://gateway.local",
            dial=relay,
            ssl_context=trusting(),
            settings=SOON,
            timeout=PATIENCE,
        ) as gateway,
        gateway.events("chat", timeout=PATIENCE) as events,
    ):
        echo = gateway.submit("echo", text)
        for number in range(200):
            stand_in.push("chat", [number, "y" * 10_000])
        received = [next(events) for _ in range(200)]
        assert [e.payload[0] for e in received if isinstance(e, GatewayEvent)] == [*range(200)]
        assert echo.result(PATIENCE) == text


def test_many_connections_after_each_other_leave_nothing_open() -> None:
    with serve(StandInGateway()) as url:
        for _ in range(10):
            with running(connector(), dial_url(url)) as run:
                run.until(Online)
