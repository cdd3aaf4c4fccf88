"""One non-blocking socket: what it sends, reads and asks the selector for; plain and TLS."""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count

import attrs
import pytest

from butter_proto.machine import CHUNK
from butter_threads import transport as module
from butter_threads.transport import IN_A_ROW, Transport
from tests.threads.io_scenario import (
    PATIENCE,
    certificate,
    handshaken,
    listening,
    presenting,
    read_to_the_end,
    reset,
    trusting,
)
from tests.threads.scenario import Parallel

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@attrs.define
class Stage:
    """A transport, the other end of its socket, and the selector between them."""

    transport: Transport
    far: socket.socket
    selector: selectors.DefaultSelector

    @property
    def watched(self) -> int:
        """What the selector was asked for."""
        keys = [*self.selector.get_map().values()]
        assert all(key.data is self.transport for key in keys)
        return keys[0].events if keys else 0

    def ready(self, patience: float = 0.0) -> int:
        """What the selector tells."""
        return sum(ready for _, ready in self.selector.select(patience))

    def receive_all(self) -> list[bytes | None]:
        """Receive until there is nothing."""
        return list(iter(self.transport.receive, None))

    def send_all(self, next_chunk: Callable[[], bytes]) -> None:
        """Send as a driver does, until nothing is left; somebody else makes room."""
        self.transport.send(next_chunk)
        while self.watched & WRITE:
            assert self.ready(PATIENCE) & WRITE
            self.transport.unblock()
            self.transport.send(next_chunk)

    def send_until_it_fails(self, next_chunk: Callable[[], bytes]) -> None:
        """Send to a peer that is not there any more."""
        while True:
            self.transport.unblock()
            self.transport.send(next_chunk)
            self.ready(PATIENCE)  # until the peer's reset is there

    def fill(self) -> None:
        """Send until a chunk is under way that the socket does not take."""
        while not self.transport.sending:
            self.transport.unblock()
            self.transport.send(lambda: bytes(CHUNK))


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with listening() as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        return near, far


@pytest.fixture(params=["unix", "tcp", "tls"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Yield a transport in use, over each kind of socket, with small buffers."""
    near, far = socket.socketpair() if request.param == "unix" else tcp_pair()
    if request.param == "tls":
        near, far = handshaken(near, far)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    far.settimeout(PATIENCE)
    with far, selectors.DefaultSelector() as selector:
        transport = Transport(1, selector)
        transport.use(near)
        yield Stage(transport, far, selector)
        transport.close()


def chunks_of(data: bytes) -> Callable[[], bytes]:
    """Hand out data as a machine does."""
    parts = iter([data[start : start + CHUNK] for start in range(0, len(data), CHUNK)])
    return lambda: next(parts, b"")


def none_left() -> bytes:
    return b""


def never() -> bytes:
    raise AssertionError("taken too soon")


# --- sending --------------------------------------------------------------------------------


def test_what_the_socket_does_not_take_at_once_arrives_whole_and_in_order(stage: Stage) -> None:
    data = bytes(range(256)) * 8192
    reading = Parallel(lambda: read_to_the_end(stage.far))
    stage.send_all(chunks_of(data))
    stage.transport.close()
    reading.join()
    assert reading.result == data


def test_a_chunk_is_sent_whole_before_the_next_is_taken(stage: Stage) -> None:
    stage.fill()
    stage.transport.unblock()
    stage.transport.send(never)
    assert stage.transport.sending


def test_it_is_watched_for_writing_only_while_it_is_blocked(stage: Stage) -> None:
    assert stage.watched == READ
    stage.transport.send(none_left)
    assert stage.watched == READ
    stage.transport.send(chunks_of(b"small"))
    assert stage.watched == READ
    stage.fill()
    assert stage.watched == READ | WRITE
    reading = Parallel(lambda: read_to_the_end(stage.far))
    stage.send_all(none_left)
    assert not stage.transport.sending
    assert stage.watched == READ
    stage.transport.close()
    reading.join()


def test_others_get_their_turn_after_so_many_chunks(stage: Stage) -> None:
    numbers = count(1)
    stage.transport.send(lambda: b"%d " % next(numbers))
    assert next(numbers) == IN_A_ROW + 1
    assert stage.watched == READ | WRITE


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no bound")
def test_the_system_takes_little_that_it_cannot_send_yet() -> None:
    """Else a probe waits behind megabytes, and a gateway on a slow line is called silent."""
    near, far = tcp_pair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    taken = count()

    def next_chunk() -> bytes:
        next(taken)
        return bytes(CHUNK)

    with far, selectors.DefaultSelector() as selector:
        transport = Transport(1, selector)
        transport.use(near)
        transport.send(next_chunk)
        while any(ready & WRITE for _, ready in selector.select(0)):
            transport.unblock()
            transport.send(next_chunk)
        transport.close()
    assert next(taken) * CHUNK < 1024 * 1024


def test_nothing_is_taken_while_it_is_blocked_or_not_yet_in_use(stage: Stage) -> None:
    Transport(2, stage.selector).send(never)
    stage.fill()
    stage.transport.send(never)


@pytest.mark.parametrize("stage", ["unix", "tcp"], indirect=True)
def test_a_write_that_fails_says_so_once_and_nothing_more_is_taken(stage: Stage) -> None:
    stage.far.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        stage.send_until_it_fails(lambda: bytes(CHUNK))
    stage.transport.unblock()
    stage.transport.send(never)
    assert not stage.transport.sending
    assert stage.watched == READ


@pytest.mark.parametrize("stage", ["unix", "tcp"], indirect=True)
def test_what_came_before_a_write_failed_can_still_be_read(stage: Stage) -> None:
    stage.far.sendall(b"refused")
    stage.far.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        stage.send_until_it_fails(lambda: bytes(CHUNK))
    assert stage.transport.receive() == b"refused"


# --- receiving ------------------------------------------------------------------------------


def test_what_came_is_received_and_then_there_is_nothing(stage: Stage) -> None:
    assert stage.transport.receive() is None
    stage.far.sendall(b"hello")
    assert stage.ready(PATIENCE) == READ
    assert stage.receive_all() == [b"hello"]


def test_the_end_is_told_once_and_not_watched_any_more(stage: Stage) -> None:
    stage.far.sendall(b"last words")
    stage.far.close()
    received: list[bytes] = []
    while b"" not in received:
        assert stage.ready(PATIENCE) == READ
        received += [data for data in [stage.transport.receive()] if data is not None]
    assert received == [b"last words", b""]
    assert stage.receive_all() == []
    assert stage.watched == 0


@pytest.mark.parametrize("stage", ["tcp"], indirect=True)  # CPython 3.11 calls TLS's an end
def test_a_reset_is_told_once_and_not_watched_any_more(stage: Stage) -> None:
    reset(stage.far)
    stage.ready(PATIENCE)
    with pytest.raises(ConnectionResetError):
        stage.transport.receive()
    assert stage.receive_all() == []
    assert stage.watched == 0


def test_a_half_that_ended_leaves_the_other_to_be_written() -> None:
    near, far = socket.socketpair()
    with far, selectors.DefaultSelector() as selector:
        stage = Stage(Transport(1, selector), far, selector)
        stage.transport.use(near)
        far.shutdown(socket.SHUT_WR)
        assert stage.transport.receive() == b""
        reading = Parallel(lambda: read_to_the_end(far))
        stage.send_all(chunks_of(bytes(8 * CHUNK)))
        assert stage.watched == 0
        stage.transport.close()
        reading.join()
        assert len(reading.result) == 8 * CHUNK


# --- TLS ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["tls"], indirect=True)
def test_what_tls_holds_and_the_selector_cannot_see_is_received(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    stage.far.sendall(bytes(16_000))  # one record
    assert stage.ready(PATIENCE) == READ
    first = stage.transport.receive()
    assert first is not None
    assert len(first) == 1000
    assert stage.ready() == 0
    assert sum(len(data or b"") for data in stage.receive_all()) == 15_000


@pytest.mark.parametrize("begin_with", ["a read", "a write"])
def test_tls_may_write_in_order_to_read_and_read_in_order_to_write(begin_with: str) -> None:
    """A handshake that is still to be done stands for every one that comes later."""
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    near.setblocking(False)
    clogged = 0
    with suppress(BlockingIOError):
        while True:
            clogged += near.send(bytes(CHUNK))
    secure = trusting().wrap_socket(
        near, server_hostname="gateway.local", do_handshake_on_connect=False
    )
    with selectors.DefaultSelector() as selector:
        stage = Stage(Transport(1, selector), far, selector)
        stage.transport.use(secure)
        next_chunk = chunks_of(b"hello")
        if begin_with == "a read":
            assert stage.transport.receive() is None
        else:
            stage.transport.send(next_chunk)
        assert stage.watched == READ | WRITE
        while clogged:
            clogged -= len(far.recv(min(clogged, 100_000)))
        assert stage.ready(PATIENCE) == WRITE
        stage.transport.unblock()
        stage.transport.send(next_chunk)
        assert stage.watched == READ, "it waits for the peer's half of the handshake"
        serving = Parallel(lambda: serve_hello(far))
        while b"welcome" not in stage.receive_all():
            stage.transport.send(next_chunk)
            stage.ready(PATIENCE)
        serving.join()
        assert serving.result == b"hello"
        stage.transport.close()


def serve_hello(far: socket.socket) -> bytes:
    with presenting(certificate()).wrap_socket(far, server_side=True) as secure:
        received = secure.recv(CHUNK)
        secure.sendall(b"welcome")
        return received


@pytest.mark.parametrize("stage", ["tls"], indirect=True)
def test_what_breaks_tls_is_an_error(stage: Stage) -> None:
    with socket.socket(fileno=stage.far.detach()) as bare:
        bare.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        stage.ready(PATIENCE)
        with pytest.raises(ssl.SSLError):
            stage.transport.receive()
        assert stage.receive_all() == []


# --- the end --------------------------------------------------------------------------------


def test_closing_frees_the_socket_and_can_be_repeated(stage: Stage) -> None:
    stage.transport.close()
    stage.transport.close()
    stage.transport.forget()
    stage.transport.unblock()
    stage.transport.send(lambda: b"late")
    assert stage.receive_all() == []
    assert stage.watched == 0
    assert read_to_the_end(stage.far) == b""


def test_closing_what_is_blocked_drops_what_was_not_sent(stage: Stage) -> None:
    stage.fill()
    stage.transport.close()
    assert not stage.transport.sending
    assert stage.watched == 0


def test_closing_a_transport_that_is_still_being_dialled_does_nothing() -> None:
    with selectors.DefaultSelector() as selector:
        transport = Transport(1, selector)
        transport.close()
        transport.forget()
        assert transport.receive() is None


@pytest.mark.parametrize("stage", ["unix"], indirect=True)
def test_forgetting_leaves_the_selector_alone(stage: Stage) -> None:
    stage.transport.forget()
    assert stage.watched == READ
    assert read_to_the_end(stage.far) == b""
