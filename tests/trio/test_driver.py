"""The I/O loop: dials that fail in every way, writes that stall or break, and TLS."""

from __future__ import annotations

import errno
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import pytest
import trio
import trio.testing
import trustme

from butter_proto.errors import EndKind, FaultKind
from butter_proto.events import GatewayEvent, Offline, Retrying
from butter_proto.faults import fault_of
from butter_proto.machine import OpenTransport
from butter_proto.settings import Limits, Settings, Timeouts
from butter_proto.testing import StandInGateway
from butter_trio import ConnectTimeout, Dial, GaveUp, RequestTimeout, State, connect, driver
from butter_trio.dial import dial_tcp, open_peer
from butter_trio.plain_socket import receive_some, send_all
from butter_trio.testing import memory_dial
from tests.dial_faults import dial_faults
from tests.trio.scenario import COMMAND, URL, real_time, until, virtual_time

Change = Callable[[trio.abc.Stream, bytes], Awaitable[None]]


class Wrapped(trio.abc.Stream):
    """A stream whose writes a test takes in hand; ``slow`` seconds pass before each read."""

    def __init__(self, inner: trio.abc.Stream, write: Change, slow: float = 0) -> None:
        self.inner = inner
        self._write = write
        self._slow = slow

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._write(self.inner, bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(self._slow)
        return bytes(await self.inner.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self.inner.aclose()


def wrapping(dial: Dial, write: Change, slow: float = 0) -> Dial:
    async def wrapped(command: OpenTransport) -> trio.abc.Stream:
        return Wrapped(await dial(command), write, slow)

    return wrapped


# --- dials ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "kind"), dial_faults())
def test_whatever_a_dial_raises_is_named_and_tried_again(error: Exception, kind: FaultKind) -> None:
    @virtual_time
    async def scenario() -> None:
        stand_in = StandInGateway()
        good = memory_dial(stand_in)
        dials = []

        async def dial(command: OpenTransport) -> trio.abc.Stream:
            dials.append(command)
            if len(dials) == 1:
                raise error
            return await good(command)

        async with connect(URL, dial=dial, wait=False) as gateway:
            if kind is FaultKind.CERTIFICATE:  # one that was never good
                with pytest.raises(GaveUp):
                    await gateway.wait_online()
            else:
                await gateway.wait_online()
            assert gateway.last_ending is not None
            assert gateway.last_ending.kind is EndKind.TRANSPORT_FAILED
            assert gateway.last_ending.fault is not None
            assert gateway.last_ending.fault.kind is kind

    scenario()


def test_a_cause_names_a_fault_that_the_error_itself_does_not() -> None:
    error = OSError("all attempts to connect failed")
    error.__cause__ = ExceptionGroup("", [ConnectionRefusedError(errno.ECONNREFUSED, "refused")])
    assert fault_of(error).kind is FaultKind.REFUSED


@virtual_time
async def test_a_dial_that_hangs_is_cancelled_after_fifteen_seconds_and_tried_again() -> None:
    good = memory_dial(StandInGateway())
    cancelled_at: list[float] = []

    async def dial(command: OpenTransport) -> trio.abc.Stream:
        if not cancelled_at:
            try:
                await trio.sleep_forever()
            finally:
                cancelled_at.append(trio.current_time())
        return await good(command)

    async with connect(URL, dial=dial) as gateway:
        assert cancelled_at == [15]
        assert gateway.last_ending is not None
        assert gateway.last_ending.kind is EndKind.OPEN_TIMEOUT


@virtual_time
async def test_leaving_cancels_a_dial() -> None:
    dialing, cancelled = trio.Event(), trio.Event()

    async def dial(_: OpenTransport) -> trio.abc.Stream:
        dialing.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    async with connect(URL, dial=dial, wait=False):
        await dialing.wait()
    assert cancelled.is_set()


@real_time
async def test_nothing_that_listens_is_told_as_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match="refused") as caught:
        await dial_tcp(attrs.evolve(COMMAND, host="127.0.0.1", port=port))
    assert fault_of(caught.value).kind is FaultKind.REFUSED


# --- reads and writes -----------------------------------------------------------------------


@virtual_time
async def test_a_stream_is_closed_by_the_time_the_block_was_left() -> None:
    """By an error, so that no Close frame tells the gateway."""
    stand_in = StandInGateway()

    async def leave_by_an_error() -> None:
        async with connect(URL, dial=memory_dial(stand_in)):
            assert stand_in.online_peers == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave_by_an_error()
    assert stand_in.online_peers == 0


@virtual_time
async def test_a_refusal_that_is_unread_when_a_write_fails_is_still_read() -> None:
    stand_in = StandInGateway()
    stand_in.refuse_upgrade_next(503, (("Retry-After", "7"), ("Content-Length", "0")))

    async def write_and_break(inner: trio.abc.Stream, data: bytes) -> None:
        await inner.send_all(data)
        raise trio.BrokenResourceError

    dial = wrapping(memory_dial(stand_in), write_and_break, slow=0.5)
    async with connect(URL, dial=dial, wait=False) as gateway:
        await until(gateway, Retrying)
        assert gateway.last_ending is not None
        assert gateway.last_ending.http_status == 503
        assert gateway.last_ending.retry_after == 7


@real_time
async def test_a_reset_of_which_a_write_was_told_is_no_end_of_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A socket tells of it once: the read after that sees an end."""
    written = trio.Event()

    async def write_first(stream: trio.abc.Stream, data: bytes) -> None:
        try:
            await send_all(stream, data)
        finally:
            written.set()

    async def read_then(stream: trio.abc.Stream) -> bytes:
        await written.wait()
        return await receive_some(stream)

    async def dial(_: OpenTransport) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream(*server.getsockname())
        accepted, _peer = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        return stream

    monkeypatch.setattr(driver, "send_all", write_first)
    monkeypatch.setattr(driver, "receive_some", read_then)
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with connect(URL, dial=dial, wait=False) as gateway:
            await until(gateway, Retrying)
            assert gateway.last_ending is not None
            assert gateway.last_ending.fault is not None
            assert gateway.last_ending.fault.kind is FaultKind.RESET


@virtual_time
async def test_a_write_that_fails_with_nothing_to_read_ends_the_connection_a_second_later() -> None:
    async def break_off(_: trio.abc.Stream, __: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    dial = wrapping(memory_dial(StandInGateway()), break_off)
    async with connect(URL, dial=dial, wait=False) as gateway:
        assert await until(gateway, Retrying) == 1
        assert gateway.last_ending is not None
        assert gateway.last_ending.kind is EndKind.TRANSPORT_FAILED


@virtual_time
async def test_a_blocked_write_holds_back_no_event_and_no_deadline() -> None:
    stand_in = StandInGateway()
    blocked: list[bool] = []

    async def write(inner: trio.abc.Stream, data: bytes) -> None:
        if blocked:
            await trio.sleep_forever()
        await inner.send_all(data)

    async with (
        connect(URL, dial=wrapping(memory_dial(stand_in), write)) as gateway,
        gateway.events("chat") as events,
    ):
        blocked.append(True)
        with pytest.raises(RequestTimeout):
            await gateway.request("health", timeout=3)
        stand_in.push("chat", "through")
        event = await anext(events)
        assert isinstance(event, GatewayEvent)
        assert trio.current_time() == 3


@virtual_time
async def test_what_waited_for_a_long_write_is_dated_by_its_end() -> None:
    """A probe that came due meanwhile has its whole time to be answered from then."""
    stand_in = StandInGateway()
    seconds = [0.0]

    async def write(inner: trio.abc.Stream, data: bytes) -> None:
        await inner.send_all(data)
        await trio.sleep(seconds[-1])

    async with connect(URL, dial=wrapping(memory_dial(stand_in), write)) as gateway:
        await trio.sleep(9.0)
        seconds.append(5.5)
        await gateway.request("health")
        seconds.append(0.0)
        await trio.sleep(6.0)
        assert gateway.stats.probes == 1
        assert gateway.stats.round_trip == 0.0


@virtual_time
async def test_cancelling_a_request_in_the_middle_of_its_write_cuts_no_frame() -> None:
    stand_in = StandInGateway()
    go_on = trio.Event()
    go_on.set()

    async def write_in_halves(inner: trio.abc.Stream, data: bytes) -> None:
        await inner.send_all(data[: len(data) // 2])
        await go_on.wait()
        await inner.send_all(data[len(data) // 2 :])

    dial = wrapping(memory_dial(stand_in), write_in_halves)
    async with connect(URL, dial=dial) as gateway:
        go_on = trio.Event()
        with trio.move_on_after(1) as scope:
            await gateway.request("echo", "x" * 1000)
        assert scope.cancelled_caught
        go_on.set()
        assert await gateway.request("echo", "whole") == "whole"
        assert gateway.state is State.ONLINE
        assert gateway.stats.disconnects == 0


@virtual_time
async def test_a_large_request_leaves_in_chunks_and_arrives_whole() -> None:
    sizes = []

    async def write(inner: trio.abc.Stream, data: bytes) -> None:
        sizes.append(len(data))
        await inner.send_all(data)

    text = "x" * 1_000_000
    async with connect(URL, dial=wrapping(memory_dial(StandInGateway()), write)) as gateway:
        assert await gateway.request("echo", text) == text
        assert max(sizes) <= 64 * 1024


@virtual_time
async def test_a_gateway_that_stops_reading_is_found_gone() -> None:
    stand_in = StandInGateway()

    async def write(inner: trio.abc.Stream, data: bytes) -> None:
        if len(data) > 1000:
            stand_in.stall()
            await trio.sleep_forever()
        await inner.send_all(data)

    settings = Settings(limits=Limits(max_in_flight=1))
    dial = wrapping(memory_dial(stand_in), write)
    async with (
        connect(URL, settings=settings, dial=dial) as gateway,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_ask_and_fail, partial(gateway.request, "echo", "x" * 2000))
        assert await until(gateway, Offline) == 25
        assert gateway.last_ending is not None
        assert gateway.last_ending.kind is EndKind.SILENT_PEER


async def _ask_and_fail(ask: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(Exception, match="silent"):
        await ask()


# --- TLS ------------------------------------------------------------------------------------


@attrs.frozen
class Tls:
    """A gateway behind TLS, in memory: how to dial it, and the contexts of both sides."""

    ca: trustme.CA
    certificate: trustme.LeafCert
    dial: Dial

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


def tls(nursery: trio.Nursery, stand_in: StandInGateway, name: str = "gateway.local") -> Tls:
    """Put a stand-in behind TLS with a certificate for ``name``."""
    ca = trustme.CA()
    certificate = ca.issue_cert(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    plain = memory_dial(stand_in)

    async def dial(command: OpenTransport) -> trio.abc.Stream:
        client_end, server_end = trio.testing.memory_stream_pair()
        secure = trio.SSLStream(server_end, context, server_side=True, https_compatible=True)
        nursery.start_soon(_terminate, secure, await plain(command))
        return client_end

    return Tls(ca, certificate, dial)


async def _terminate(secure: trio.abc.Stream, plain: trio.abc.Stream) -> None:
    """Copy both ways until one side ends."""
    async with secure, plain, trio.open_nursery() as nursery:
        for source, target in ((secure, plain), (plain, secure)):
            nursery.start_soon(_copy, source, target, nursery.cancel_scope)


async def _copy(source: trio.abc.Stream, target: trio.abc.Stream, done: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some():
            await target.send_all(data)
    except trio.BrokenResourceError:
        pass
    done.cancel()


@virtual_time
async def test_a_gateway_behind_tls_is_reached_with_its_ca() -> None:
    async with trio.open_nursery() as nursery:
        behind = tls(nursery, StandInGateway(token="secret"))
        async with connect(
            "wss://gateway.local",
            token="secret",
            ssl_context=behind.client_context(),
            dial=behind.dial,
        ) as gateway:
            assert await gateway.request("echo", "x" * 100_000) == "x" * 100_000
            assert str(gateway.endpoint) == "wss://gateway.local/"


@virtual_time
async def test_a_context_that_cannot_be_used_leaves_no_socket_open() -> None:
    near, far = trio.testing.memory_stream_pair()

    async def dial(_: OpenTransport) -> trio.abc.Stream:
        return near

    command = attrs.evolve(COMMAND, tls=True, server_name="gateway")
    with pytest.raises(ssl.SSLError):
        await open_peer(command, dial, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert await far.receive_some() == b""


@virtual_time
async def test_the_peers_certificate_is_told_to_the_machine() -> None:
    async with trio.open_nursery() as nursery:
        behind = tls(nursery, StandInGateway())
        command = attrs.evolve(COMMAND, tls=True)
        stream, der = await open_peer(command, behind.dial, behind.client_context())
        assert der is not None
        pem = behind.certificate.cert_chain_pems[0].bytes().decode()
        assert der == ssl.PEM_cert_to_DER_cert(pem)
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("what", ["another name", "an unknown ca", "the platform's trust"])
def test_a_certificate_that_is_not_accepted_stops_before_a_byte_of_ours(what: str) -> None:
    @virtual_time
    async def scenario() -> None:
        stand_in = StandInGateway(token="secret")
        async with trio.open_nursery() as nursery:
            behind = tls(
                nursery, stand_in, "other.test" if what == "another name" else "gateway.local"
            )
            context = ssl.create_default_context()
            if what == "an unknown ca":
                trustme.CA().configure_trust(context)
            if what == "another name":
                context = behind.client_context()
            with pytest.raises(GaveUp) as caught:
                async with connect(
                    "wss://gateway.local",
                    token="secret",
                    ssl_context=None if what == "the platform's trust" else context,
                    dial=behind.dial,
                ):
                    raise AssertionError
        ending = caught.value.ending
        assert ending is not None
        assert ending.fault is not None
        assert ending.fault.kind is FaultKind.CERTIFICATE
        assert not ending.transport_opened
        assert not stand_in.received

    scenario()


@virtual_time
async def test_a_peer_without_tls_is_told_as_such_and_tried_again() -> None:
    async def speak_plainly(_: OpenTransport) -> trio.abc.Stream:
        client_end, server_end = trio.testing.memory_stream_pair()
        await server_end.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return client_end

    with pytest.raises(ConnectTimeout, match="TLS failed") as caught:
        async with connect("wss://gateway.local", dial=speak_plainly, timeout=30):
            raise AssertionError
    assert caught.value.ending is not None
    assert caught.value.ending.fault is not None
    assert caught.value.ending.fault.kind is FaultKind.OTHER


@virtual_time
async def test_a_tls_handshake_that_hangs_counts_into_the_limit_of_opening() -> None:
    async def say_nothing(_: OpenTransport) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return trio.testing.memory_stream_pair()[0]

    settings = Settings(timeouts=Timeouts(open=4))
    async with connect(
        "wss://gateway.local", settings=settings, dial=say_nothing, wait=False
    ) as gateway:
        assert await until(gateway, Retrying) == 4
        assert gateway.last_ending is not None
        assert gateway.last_ending.kind is EndKind.OPEN_TIMEOUT


# --- sleeping -------------------------------------------------------------------------------


@virtual_time
async def test_the_driver_sleeps_until_the_machine_is_due_and_not_a_moment_less() -> None:
    async with connect(URL, dial=memory_dial(StandInGateway())) as gateway:
        probes = [gateway.stats.probes]
        for moment in (9.999, 10.0, 19.999, 20.0):
            await trio.sleep_until(moment)
            await trio.testing.wait_all_tasks_blocked()
            probes.append(gateway.stats.probes)
        assert probes == [0, 0, 1, 1, 2]
