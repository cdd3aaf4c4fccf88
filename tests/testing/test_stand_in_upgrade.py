"""The WebSocket side of the stand-in: upgrades, control frames, limits, foreign bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import BytesMessage, CloseConnection, Ping, Request, TextMessage

from butter_proto.testing import ClosePeer, StandInGateway
from tests.testing.raw_client import RawClient, connect_params

HEAD = (
    b"GET / HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True) -> bytes:
    """Build a client's frame by hand; the mask is zero, so that the payload stays readable."""
    size = len(payload)
    mask = 0x80 if masked else 0
    if size < 126:
        length = bytes([mask | size])
    elif size < 65536:
        length = bytes([mask | 126]) + struct.pack("!H", size)
    else:
        length = bytes([mask | 127]) + struct.pack("!Q", size)
    return bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4 * masked) + payload


@pytest.fixture(params=[False, True], ids=["whole", "byte by byte"])
def client(request: pytest.FixtureRequest) -> RawClient:
    return RawClient(StandInGateway(), bytewise=request.param)


def test_an_upgrade_is_answered_with_101_and_the_challenge(client: RawClient) -> None:
    client.upgrade()
    assert client.accepted is not None
    (challenge,) = client.inbox
    assert challenge["event"] == "connect.challenge"
    assert "seq" not in challenge
    assert challenge["payload"]["ts"] == 1_795_000_000_000
    assert len(challenge["payload"]["nonce"]) == 36


def test_each_socket_gets_its_own_nonce() -> None:
    gateway = StandInGateway()
    first, second = RawClient(gateway, 1).upgrade(), RawClient(gateway, 2).upgrade()
    assert first.inbox[0]["payload"]["nonce"] != second.inbox[0]["payload"]["nonce"]


def test_the_first_subprotocol_offered_is_taken(client: RawClient) -> None:
    client.send_event(Request("g", "/", subprotocols=["openclaw", "x"]))
    assert client.accepted is not None
    assert client.accepted.subprotocol == "openclaw"


def test_a_ping_with_the_head_in_one_read_is_answered() -> None:
    gateway = StandInGateway()
    gateway.accept(1, 0.0)
    gateway.receive_data(1, HEAD + b"\r\n" + frame(9, b"early"), 0.0)
    assert gateway.data_to_send(1).endswith(b"\x8a\x05early")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: g\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\r\n\r\n",
        HEAD + b"Connection: \xff\r\n\r\n",
    ],
)
def test_what_is_no_upgrade_gets_http_400_and_is_closed(head: bytes) -> None:
    gateway = StandInGateway()
    gateway.accept(1, 0.0)
    gateway.receive_data(1, head, 0.0)
    assert gateway.next_closed() is None
    assert gateway.data_to_send(1).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert gateway.next_closed() == ClosePeer(1, abort=False)
    gateway.receive_data(1, b"late", 1.0)
    assert gateway.next_closed() is None


@pytest.mark.parametrize("tail", [b"", b"\r\n\r\n"])
def test_a_head_above_16_kib_gets_http_431(tail: bytes) -> None:
    gateway = StandInGateway()
    gateway.accept(1, 0.0)
    gateway.receive_data(1, HEAD + b"X: " + b"x" * 16384 + tail, 0.0)
    assert gateway.data_to_send(1).startswith(b"HTTP/1.1 431 ")


def test_the_33rd_socket_without_hello_gets_http_503(client: RawClient) -> None:
    gateway = client.gateway
    waiting = [RawClient(gateway, number).upgrade() for number in range(2, 34)]
    client.upgrade()
    assert (client.status, client.body) == (503, b"Too many unauthenticated sockets")
    assert client.headers[b"content-type"].startswith(b"text/plain")
    assert client.closed == ClosePeer(1, abort=False)
    waiting[0].request("connect", connect_params())
    assert RawClient(gateway, 99).upgrade().accepted is not None


def test_an_upgrade_is_refused_as_scripted(client: RawClient) -> None:
    client.gateway.refuse_upgrade_next(
        429, [("Retry-After", "7"), ("Content-Length", "4")], b"slow"
    )
    client.upgrade()
    assert (client.status, client.body) == (429, b"slow")
    assert client.headers[b"retry-after"] == b"7"
    assert client.closed == ClosePeer(1, abort=False)
    assert RawClient(client.gateway, 2).upgrade().accepted is not None


def test_a_refused_upgrade_may_have_no_length_and_an_unknown_status() -> None:
    gateway = StandInGateway()
    gateway.refuse_upgrade_next(599, [], b"until the end")
    gateway.accept(1, 0.0)
    gateway.receive_data(1, HEAD + b"\r\n", 0.0)
    assert gateway.data_to_send(1) == b"HTTP/1.1 599 Unknown\r\n\r\nuntil the end"


def test_a_ping_is_answered_before_and_after_hello(client: RawClient) -> None:
    client.upgrade()
    client.send_event(Ping(b"one"))
    client.request("connect", connect_params())
    client.send_event(Ping(b"two"))
    assert client.pongs == [b"one", b"two"]


def test_a_binary_message_and_a_fragmented_one_are_requests_too(client: RawClient) -> None:
    client.connect()
    client.send_event(BytesMessage(b'{"type":"req","id":"b","method":"echo","params":[1]}'))
    assert client.inbox[-1]["payload"] == [1]
    client.send_event(TextMessage('{"type":"req","id":"f","met', message_finished=False))
    client.send_event(Ping(b"between"))
    client.send_event(TextMessage('hod":"echo","params":[2]}'))
    assert client.inbox[-1]["payload"] == [2]
    assert client.pongs == [b"between"]


def test_binary_garbage_before_hello_is_a_normal_close(client: RawClient) -> None:
    client.upgrade()
    client.send_event(BytesMessage(b"\xff\x00"))
    assert client.close == (1000, "")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"{}", masked=False), 1002),
        (frame(3, b""), 1002),
        (frame(1, b"\xff\xfe"), 1007),
        (frame(8, b"\x03"), 1002),
    ],
)
def test_a_violation_is_answered_with_its_close_code_and_no_reason(
    client: RawClient, data: bytes, code: int
) -> None:
    client.upgrade()
    client.send_raw(data)
    assert client.close == (code, "")
    client.send_raw(frame(1, b"{}"))
    assert client.closed is None
    client.send_raw(frame(8, b"\x03\xe8"))
    client.wait(30.0)
    assert client.closed == ClosePeer(1, abort=False)


def test_the_end_of_the_stream_after_a_violation_closes_the_socket() -> None:
    client = RawClient(StandInGateway()).upgrade()
    client.send_raw(frame(3, b""))
    client.gateway.receive_data(1, b"", 0.0)
    client.pull()
    assert client.closed == ClosePeer(1, abort=False)


@pytest.mark.parametrize(("size", "close"), [(65_536, None), (65_537, (1009, ""))])
def test_a_message_before_hello_may_have_64_kib(size: int, close: tuple[int, str] | None) -> None:
    client = RawClient(StandInGateway()).upgrade()
    head = b'{"type":"req","id":"c","method":"connect","params":"'
    client.send_raw(frame(1, head + b"x" * (size - len(head) - 2) + b'"}'))
    assert client.close == (close or (1008, "invalid connect params: must be object"))


def test_a_message_after_hello_may_have_max_payload() -> None:
    client = RawClient(StandInGateway()).connect()
    policy = client.inbox[-1]["payload"]["policy"]
    assert policy["maxPayload"] == 26_214_400
    client.request("echo", "x" * 70_000)
    assert len(client.inbox[-1]["payload"]) == 70_000
    client.send("x" * 26_214_401)
    assert client.close == (1009, "")


def test_nothing_is_read_behind_a_violation() -> None:
    client = RawClient(StandInGateway()).upgrade()
    client.send_raw(frame(1, b"x" * 65_537) + frame(9, b"ping") + frame(8, b"\x03\xe8"))
    assert (client.close, client.pongs) == ((1009, ""), [])


def test_too_many_fragments_are_refused() -> None:
    client = RawClient(StandInGateway()).connect()
    client.send_raw(frame(1, b"x", fin=False) + frame(0, b"x", fin=False) * 16_384)
    assert client.close == (1008, "")


def test_the_clients_close_is_echoed_and_the_socket_closed(client: RawClient) -> None:
    client.connect()
    client.send_event(CloseConnection(4000, "tick timeout"))
    assert client.close == (4000, "tick timeout")
    assert client.closed == ClosePeer(1, abort=False)


def test_a_close_without_a_code_is_echoed_without_one() -> None:
    client = RawClient(StandInGateway()).connect()
    client.send_raw(frame(8, b""))
    assert client.close == (1005, "")


def test_what_comes_behind_a_close_is_not_read() -> None:
    client = RawClient(StandInGateway()).connect()
    seen = len(client.gateway.received)
    client.send_raw(frame(8, b"\x03\xe8") + frame(1, b'{"type":"req","id":"x","method":"health"}'))
    assert len(client.gateway.received) == seen


def test_requests_that_cross_the_gateways_close_are_skipped() -> None:
    client = RawClient(StandInGateway()).connect()
    client.gateway.close(4001, "device removed")
    late = frame(1, b'{"type":"req","id":"x","method":"health"}') + frame(9, b"x")
    client.gateway.receive_data(1, late, 0.0)
    assert [entry.method for entry in client.gateway.received] == ["connect"]
    client.pull()
    assert client.close == (4001, "device removed")
    assert client.closed == ClosePeer(1, abort=False)


def test_a_violation_that_crosses_the_gateways_close_ends_the_socket() -> None:
    client = RawClient(StandInGateway()).connect()
    client.gateway.close(4001)
    client.gateway.receive_data(1, frame(3, b""), 0.0)
    client.gateway.data_to_send(1)
    assert client.gateway.next_closed() == ClosePeer(1, abort=False)


def test_a_close_that_is_not_answered_ends_the_socket_after_30_s() -> None:
    gateway = StandInGateway()
    gateway.accept(1, 0.0)
    gateway.receive_data(1, HEAD + b"\r\n" + frame(1, b"no JSON"), 0.0)
    assert gateway.data_to_send(1).endswith(b"\x88\x02\x03\xe8")
    gateway.handle_timeout(29.9)
    assert gateway.next_closed() is None
    gateway.handle_timeout(30.0)
    assert gateway.next_closed() == ClosePeer(1, abort=False)


def test_the_end_of_the_stream_closes_the_socket_at_once(client: RawClient) -> None:
    client.connect()
    client.gateway.push("lost", None)
    client.gateway.receive_data(1, b"", client.now)
    assert client.gateway.data_to_send(1) == b""
    client.pull()
    assert client.closed == ClosePeer(1, abort=False)


def test_a_lost_connection_is_forgotten() -> None:
    client = RawClient(StandInGateway()).connect()
    client.gateway.connection_lost(1, 0.0)
    client.gateway.connection_lost(1, 0.0)
    client.gateway.receive_data(1, b"x", 0.0)
    assert client.gateway.online_peers == 0
    assert client.gateway.data_to_send(1) == b""
    assert client.gateway.next_closed() is None


def test_a_socket_that_is_lost_while_it_closes_is_not_closed_again() -> None:
    client = RawClient(StandInGateway())
    client.gateway.receive_data(1, b"\r\n\r\n", 0.0)
    client.gateway.connection_lost(1, 0.0)
    assert client.gateway.next_closed() is None


def test_a_client_that_does_not_read_is_closed_as_slow_consumer() -> None:
    client = RawClient(StandInGateway()).connect()
    gateway = client.gateway
    for _ in range(53):
        gateway.push("big", "x" * 1_000_000)
    gateway.handle_timeout(0.0)
    assert gateway.online_peers == 0
    client.pull()
    assert client.close == (1008, "slow consumer")


JUNK = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.just(HEAD + b"\r\n"),
        st.builds(frame, st.integers(0, 15), st.binary(max_size=200), fin=st.booleans()),
        st.sampled_from(
            [
                frame(1, b'{"type":"req","id":"c","method":"connect","params":{}}'),
                frame(1, b'{"type":"req","id":"r","method":"echo","params":"\\ud800"}'),
                frame(1, b'{"type":"req","id":1e999,"method":"echo"}'),
                frame(1, b"[" * 5000),
                frame(8, b"\x03\xe8bye"),
            ]
        ),
    ),
    max_size=8,
)


def output(gateway: StandInGateway) -> tuple[bytes, ClosePeer | None]:
    data = b""
    while more := gateway.data_to_send(1):
        data += more
    return data, gateway.next_closed()


@given(JUNK, st.data())
def test_foreign_bytes_never_raise_however_they_are_cut(
    parts: list[bytes], data: st.DataObject
) -> None:
    whole, cut = StandInGateway(), StandInGateway()
    for gateway in (whole, cut):
        gateway.accept(1, 0.0)
    sent, ended = b"", None
    for part in parts:
        whole.receive_data(1, part or b"x", 0.0)
    at_once = output(whole)
    for part in parts:
        rest = part or b"x"
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            cut.receive_data(1, rest[:size], 0.0)
            more, closed = output(cut)
            sent, ended = sent + more, ended or closed
            rest = rest[size:]
    assert (sent, ended) == at_once
