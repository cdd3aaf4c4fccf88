"""Dialling with real sockets: which address wins, what a failure is called, and TLS."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from butter_proto.errors import EndKind, FaultKind
from butter_proto.events import GaveUp, Retrying
from butter_proto.faults import fault_of
from butter_proto.machine import OpenTransport
from butter_proto.settings import Timeouts
from butter_threads import dial as dialling
from butter_threads.dial import LIMIT, STAGGER, dial_tcp, open_peer
from tests.threads.io_scenario import (
    COMMAND,
    PATIENCE,
    SOON,
    certificate,
    connector,
    free_port,
    listening,
    nothing_left_open,
    presenting,
    reset,
    running,
    saturated,
    trusting,
)

Resolve = Callable[[list[tuple[Any, ...]]], None]
NOWHERE = ("255.255.255.255", 9)
"""A dial to the broadcast address fails before it begins."""


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Return a function that says what every name resolves to from now on."""

    def addresses(found: list[tuple[Any, ...]]) -> None:
        answer = [
            (socket.AF_INET6 if ":" in address[0] else socket.AF_INET, 1, 6, "", address)
            for address in found
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)

    return addresses


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    with nothing_left_open():
        yield


# --- which address --------------------------------------------------------------------------


def test_a_name_that_does_not_exist_is_a_dns_fault() -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - fault_of tells which
        dial_tcp(attrs.evolve(COMMAND, host="nowhere.invalid"))
    assert fault_of(caught.value).kind is FaultKind.DNS


def test_nothing_that_listens_is_told_as_refused() -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        dial_tcp(attrs.evolve(COMMAND, host="127.0.0.1", port=free_port()))
    assert fault_of(caught.value).kind is FaultKind.REFUSED


def test_the_socket_is_connected_and_does_not_delay_small_frames() -> None:
    with listening() as listener:
        port = listener.getsockname()[1]
        with dial_tcp(attrs.evolve(COMMAND, host="127.0.0.1", port=port)) as dialled:
            assert dialled.getpeername() == listener.getsockname()
            assert dialled.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next address is not tried by itself: who finds it in time was told of a failure."""
    monkeypatch.setattr(dialling, "STAGGER", LIMIT)


@pytest.mark.usefixtures("patient")
def test_an_address_that_refuses_gives_way_to_the_next_at_once(resolve: Resolve) -> None:
    with listening() as listener:
        resolve([("127.0.0.1", free_port()), listener.getsockname()])
        began = time.monotonic()
        with dial_tcp(COMMAND) as dialled:
            assert dialled.getpeername() == listener.getsockname()
        assert time.monotonic() - began < LIMIT / 2


@pytest.mark.usefixtures("patient")
def test_an_address_that_fails_before_it_begins_costs_no_time(resolve: Resolve) -> None:
    with listening() as listener:
        resolve([NOWHERE, NOWHERE, listener.getsockname()])
        began = time.monotonic()
        with dial_tcp(COMMAND) as dialled:
            assert dialled.getpeername() == listener.getsockname()
        assert time.monotonic() - began < LIMIT / 2


@pytest.mark.usefixtures("patient")
def test_a_network_that_is_unreachable_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - fault_of tells which
        dial_tcp(attrs.evolve(COMMAND, host=NOWHERE[0]))
    assert fault_of(caught.value).kind is FaultKind.UNREACHABLE
    assert time.monotonic() - began < LIMIT / 2


def test_an_address_that_hangs_is_overtaken_by_the_next(resolve: Resolve) -> None:
    with saturated() as hanging, listening() as listener:
        resolve([hanging, listener.getsockname()])
        began = time.monotonic()
        with dial_tcp(COMMAND) as dialled:
            assert dialled.getpeername() == listener.getsockname()
        assert STAGGER <= time.monotonic() - began < LIMIT / 2


def test_while_one_hangs_the_next_that_fails_is_followed_at_once(resolve: Resolve) -> None:
    with saturated() as hanging, listening() as listener:
        resolve([hanging, NOWHERE, ("127.0.0.1", free_port()), listener.getsockname()])
        began = time.monotonic()
        with dial_tcp(COMMAND) as dialled:
            assert dialled.getpeername() == listener.getsockname()
        assert time.monotonic() - began < LIMIT / 2


def test_when_all_hang_it_ends_at_the_limit(resolve: Resolve) -> None:
    with saturated() as hanging:
        resolve([hanging, hanging])
        with pytest.raises(TimeoutError, match=r"no answer in 0\.5 s") as caught:
            dial_tcp(COMMAND, limit=0.5)
    assert fault_of(caught.value).kind is FaultKind.UNREACHABLE


def test_when_all_fail_every_failure_is_told(resolve: Resolve) -> None:
    refusing = [("127.0.0.1", free_port()), ("127.0.0.1", free_port())]
    resolve([*refusing, NOWHERE])
    with pytest.raises(OSError, match="all addresses failed") as caught:
        dial_tcp(COMMAND)
    causes = caught.value.__cause__
    assert isinstance(causes, ExceptionGroup)
    found = [error.errno for error in causes.exceptions if isinstance(error, OSError)]
    assert Counter(found) == {errno.ECONNREFUSED: 2, errno.ENETUNREACH: 1}
    assert fault_of(caught.value).kind in (FaultKind.REFUSED, FaultKind.UNREACHABLE)


def test_families_take_turns_in_the_order_of_the_resolver() -> None:
    found = [(6, "a"), (6, "b"), (6, "c"), (4, "d"), (4, "e")]
    in_turn = dialling._families_in_turn(found)
    assert [name for _, name in in_turn] == ["a", "d", "b", "e", "c"]
    assert list(dialling._families_in_turn(found[3:])) == found[3:]


def test_a_family_that_the_machine_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = 45  # no family of any system that runs this test
    with listening() as listener:
        found = [
            (lacking, 1, 6, "", ("x", 1)),
            (socket.AF_INET, 1, 6, "", listener.getsockname()),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with dial_tcp(COMMAND) as dialled:
            assert dialled.getpeername() == listener.getsockname()
    found.pop()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - fault_of tells which
        dial_tcp(COMMAND)
    assert fault_of(caught.value).kind is FaultKind.LOCAL


# --- TLS ------------------------------------------------------------------------------------

SECURE = attrs.evolve(COMMAND, tls=True)


@contextmanager
def answering(
    answer: Callable[[socket.socket], None],
) -> Iterator[Callable[[OpenTransport], socket.socket]]:
    """Yield a dial to a peer that does ``answer`` with each socket, in a thread."""
    with listening() as listener:

        def serve() -> None:
            while True:
                accepted, _ = listener.accept()
                accepted.settimeout(PATIENCE)
                with accepted:
                    if ending.is_set():
                        return
                    answer(accepted)

        ending = threading.Event()
        serving = threading.Thread(target=serve)
        serving.start()
        address = listener.getsockname()
        try:
            yield lambda _: socket.create_connection(address)
        finally:
            ending.set()
            socket.create_connection(address).close()
            serving.join()


class TlsServer:
    """A TLS server that takes note of the name asked for, and sends back what it was sent."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.names: list[str | None] = []
        self.received = b""
        context.sni_callback = lambda _, name, __: self.names.append(name)

    def __call__(self, accepted: socket.socket) -> None:
        try:
            with self.context.wrap_socket(accepted, server_side=True) as secure:
                while data := secure.recv(1000):
                    self.received += data
                    secure.sendall(data)
        except OSError:  # the client did not like us, and says so with an alert
            pass


def test_after_tls_the_peers_certificate_is_returned_and_its_name_was_asked_for() -> None:
    leaf = certificate()
    server = TlsServer(presenting(leaf))
    with answering(server) as dial:
        opened, der = open_peer(SECURE, dial, trusting())
        with opened:
            opened.sendall(b"hello")
            assert opened.recv(1000) == b"hello"  # before that, a close would be a reset
    assert der == ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    assert server.names == ["gateway.local"]
    assert server.received == b"hello"


def test_a_command_without_tls_gets_the_socket_of_the_dial_as_it_is() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert open_peer(COMMAND, lambda _: near, None) == (near, None)


@pytest.mark.parametrize("what", ["another name", "an unknown ca", "the platform's trust"])
def test_a_certificate_that_is_not_accepted_gives_up_without_a_byte_of_ours(what: str) -> None:
    leaf = certificate("other.test") if what == "another name" else certificate()
    if what == "an unknown ca":
        leaf = certificate(known=False)
    server = TlsServer(presenting(leaf))
    context = None if what == "the platform's trust" else trusting()
    settings = attrs.evolve(SOON, token="secret")
    with (
        answering(server) as dial,
        running(connector(settings, "wss://gateway.local"), dial, context) as run,
    ):
        ending = run.until(GaveUp).ending
    assert ending is not None
    assert ending.fault is not None
    assert ending.fault.kind is FaultKind.CERTIFICATE
    assert not ending.transport_opened
    assert server.received == b""


def test_a_peer_without_tls_is_told_as_such_and_tried_again() -> None:
    def speak_plainly(accepted: socket.socket) -> None:
        accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        accepted.recv(65536)

    with (
        answering(speak_plainly) as dial,
        running(connector(url="wss://gateway.local"), dial, trusting()) as run,
    ):
        ending = run.until(Retrying).ending
    assert ending.kind is EndKind.TRANSPORT_FAILED
    assert ending.fault is not None
    assert ending.fault.kind is FaultKind.OTHER
    assert "SSL" in ending.fault.text


def test_a_peer_that_resets_before_tls_is_an_error_and_leaves_nothing_open() -> None:
    with listening() as listener:

        def dial(_: OpenTransport) -> socket.socket:
            dialled = socket.create_connection(listener.getsockname())
            reset(listener.accept()[0])
            return dialled

        with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
            open_peer(SECURE, dial, trusting())


def test_a_tls_handshake_that_hangs_counts_into_the_limit_of_opening() -> None:
    settings = attrs.evolve(SOON, timeouts=Timeouts(open=0.05))
    silent = threading.Event()

    def say_nothing(_: socket.socket) -> None:
        silent.wait(PATIENCE)

    with (
        answering(say_nothing) as dial,
        running(connector(settings, "wss://gateway.local"), dial, trusting()) as run,
    ):
        ending = run.until(Retrying).ending
        run.end()
        silent.set()
    assert ending.kind is EndKind.OPEN_TIMEOUT


def test_a_peer_that_drips_through_the_handshake_does_not_keep_the_thread() -> None:
    given_up = threading.Event()

    def drip(accepted: socket.socket) -> None:
        accepted.sendall(b"\x16\x03\x03\x40\x00")  # a handshake record of 16 KiB follows...
        while not given_up.wait(0.05):  # ...one byte at a time
            accepted.sendall(b"\x02")

    with answering(drip) as dial:
        with pytest.raises(TimeoutError):
            open_peer(SECURE, dial, trusting(), limit=0.3)
        given_up.set()
