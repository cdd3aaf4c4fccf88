"""Bytes of a server -> items of the link. Every input is fed whole and byte by byte.

The server's bytes are made by wsproto's server side, or by hand where they break a rule.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import generate_accept_token

from butter_proto.counters import Counters
from butter_proto.endpoint import Endpoint, parse_url
from butter_proto.errors import MAX_REFUSAL_BODY, Ending, EndKind
from butter_proto.headers import Headers, to_headers
from butter_proto.link import LinkItem, Opened, PongReceived, Received
from butter_proto.outbox import MAX_PONGS
from butter_proto.settings import Limits
from butter_proto.websocket import MAX_HEAD, WebSocketLink

ENDPOINT = Endpoint("gateway.example", 18789, tls=False)
KEY = base64.b64encode(bytes(16))
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + generate_accept_token(KEY) + b"\r\n\r\n"
)
SMALL = Limits(max_message=1024, max_fragments=4)
DEFAULT = Limits()


def zeros(size: int) -> bytes:
    return bytes(size)


def started(limits: Limits = DEFAULT) -> WebSocketLink:
    """Make a link whose upgrade request has left."""
    link = WebSocketLink(ENDPOINT, limits, zeros, Counters())
    link.start()
    while link.outbox.take(0.0):
        pass
    return link


def feed(
    link: WebSocketLink, pieces: Sequence[bytes], *, eof: bool = False
) -> tuple[list[LinkItem], bytes]:
    """Feed one piece after the other and pull everything after each."""
    items: list[LinkItem] = []
    out = []

    def pull() -> None:
        while (item := link.next_item()) is not None:
            items.append(item)
        while data := link.outbox.take(0.0):
            out.append(data)

    for piece in pieces:
        if piece:
            link.receive(piece)
        pull()
    if eof:
        link.receive(b"")
        pull()
    return items, b"".join(out)


def single_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def read(
    data: bytes, *, eof: bool = False, limits: Limits = DEFAULT
) -> tuple[list[LinkItem], bytes]:
    """Feed a server's bytes whole and byte by byte; both must have the same effect (G3)."""
    whole = feed(started(limits), [data], eof=eof)
    cut = feed(started(limits), single_bytes(data), eof=eof)
    assert cut == whole
    return whole


def read_frames(
    *parts: bytes, eof: bool = False, limits: Limits = DEFAULT
) -> tuple[list[LinkItem], bytes]:
    """Do the same for what follows an accepted upgrade."""
    items, out = read(ACCEPTED + b"".join(parts), eof=eof, limits=limits)
    assert items[0] == Opened()
    return items[1:], out


def sent(*events: Event) -> bytes:
    """What wsproto's server side sends for these events."""
    server = Connection(ConnectionType.SERVER)
    return b"".join(server.send(event) for event in events)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Write a server's frame by hand; the first byte's RSV bits may be put into ``opcode``."""
    length = len(payload)
    if length < 126:
        header = bytes([length])
    elif length < 65_536:
        header = bytes([126]) + length.to_bytes(2)
    else:
        header = bytes([127]) + length.to_bytes(8)
    return bytes([opcode | fin << 7]) + header + payload


def understood(out: bytes) -> list[Event]:
    """What wsproto's server side understands of the client's frames."""
    server = Connection(ConnectionType.SERVER)
    server.receive_data(out)
    return list(server.events())


def assert_violation(items: list[LinkItem], out: bytes, code: int, text: str = "") -> None:
    """Check that a violation ended the link and that the peer is told by a Close frame."""
    [ending] = items
    assert isinstance(ending, Ending)
    assert ending.kind is EndKind.PROTOCOL_VIOLATION
    assert ending.text
    assert text in ending.text
    assert understood(out) == [CloseConnection(code, "")]


# --- the upgrade request ----------------------------------------------------------------------


def upgrade_request(
    url: str, entropy: Callable[[int], bytes] = zeros, headers: Headers = ()
) -> bytes:
    endpoint, _ = parse_url(url)
    link = WebSocketLink(endpoint, DEFAULT, entropy, Counters(), headers)
    link.start()
    return link.outbox.take(0.0)


def test_the_upgrade_request_is_one_that_a_server_accepts() -> None:
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(upgrade_request("ws://gateway.example:18789/ws?a=b"))
    [request] = server.events()
    assert isinstance(request, Request)
    assert (request.host, request.target) == ("gateway.example:18789", "/ws?a=b")
    assert (request.extensions, request.subprotocols) == ([], [])
    link = started()
    items, out = feed(link, [server.send(AcceptConnection())])
    assert (items, out) == ([Opened()], b"")


def test_the_upgrade_request_names_no_origin_and_offers_no_extension() -> None:
    """wire.md 2 and 9: an Origin empties the granted scopes."""
    head = upgrade_request("ws://127.0.0.1:18789").lower()
    names = {line.partition(b":")[0] for line in head.split(b"\r\n")[1:] if line}
    assert names == {b"host", b"upgrade", b"connection"} | {
        b"sec-websocket-key",
        b"sec-websocket-version",
    }


def test_the_nonce_is_drawn_from_the_injected_entropy() -> None:
    def entropy(size: int) -> bytes:
        return bytes(range(65, 65 + size))

    line = b"Sec-WebSocket-Key: " + base64.b64encode(b"ABCDEFGHIJKLMNOP") + b"\r\n"
    request = upgrade_request("ws://h", entropy)
    assert line in request
    assert request == upgrade_request("ws://h", entropy)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://gateway.example", "gateway.example"),
        ("wss://gateway.example", "gateway.example"),
        ("wss://gateway.example:80/x", "gateway.example:80"),
        ("ws://[::1]:18789", "[::1]:18789"),
        ("ws://" + "a" * 63 + ":18789", "a" * 63 + ":18789"),
        ("ws://gateway.example:18789/?host=gateway.example", "gateway.example:18789"),
    ],
)
def test_the_host_header_is_the_urls_host_and_port(url: str, host: str) -> None:
    """Also where the last label and the port together are no label (wsproto encodes both)."""
    request = upgrade_request(url)
    assert request.count(b"\r\nHost: " + host.encode() + b"\r\n") == 1
    assert request.lower().count(b"\r\nhost:") == 1


def test_added_headers_stand_behind_the_upgrades_own() -> None:
    url = "wss://gateway.example"
    headers = to_headers([("CF-Access-Client-Id", "id"), ("x-key", "a b"), ("X-Key", "Host: h")])
    added = b"CF-Access-Client-Id: id\r\nx-key: a b\r\nX-Key: Host: h\r\n\r\n"
    alone = upgrade_request(url).removesuffix(b"\r\n")
    assert upgrade_request(url, headers=headers) == alone + added


@given(
    st.dictionaries(
        st.from_regex(r"\AX-[!#$%&'*+.^_`|~0-9A-Za-z-]{1,9}\Z"),
        st.from_regex(r"\A[!-~]{1,9}([ \t][!-~]{1,9}){0,2}\Z"),
        max_size=5,
    )
)
def test_a_server_reads_added_headers_as_they_were_given(given_headers: dict[str, str]) -> None:
    headers = to_headers(given_headers)
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(upgrade_request("wss://gateway.example", headers=headers))
    [request] = server.events()
    assert isinstance(request, Request)
    read = [pair for pair in request.extra_headers if pair[0].startswith(b"x-")]
    assert read == [
        (name.lower().encode(), value.encode()) for name, value in given_headers.items()
    ]


# --- the answer to the upgrade ----------------------------------------------------------------


def test_frames_behind_the_101_in_the_same_read_are_kept() -> None:
    items, out = read_frames(sent(TextMessage("first"), TextMessage("second")))
    assert items == [Received("first", 5), Received("second", 6)]
    assert out == b""


@pytest.mark.parametrize("cut", range(1, 8))
def test_half_a_frame_behind_the_101_waits_for_its_rest(cut: int) -> None:
    data = sent(TextMessage("answer"))
    link = started()
    assert feed(link, [ACCEPTED + data[:cut]]) == ([Opened()], b"")
    assert feed(link, [data[cut:]]) == ([Received("answer", 6)], b"")


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2,
        b"HTTP/1.0 199 x\n\n",
    ],
)
def test_other_informational_answers_before_the_101_are_skipped(before: bytes) -> None:
    """RFC 9110, 15.2."""
    assert read(before + ACCEPTED) == ([Opened()], b"")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (generate_accept_token(KEY), b"x" * 28, "Bad accept token"),
        (b"Sec-WebSocket-Accept", b"X", "Bad accept token"),
        (b"Upgrade: websocket\r\n", b"", "Missing header, 'Upgrade: websocket'"),
        (b"Upgrade: websocket", b"Upgrade: h2c", "Missing header, 'Upgrade: websocket'"),
        (b"Connection: Upgrade", b"Connection: close", "Missing header, 'Connection: Upgrade'"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: x\r\n\r\n", "unrecognized subprotocol x"),
        (
            b"\r\n\r\n",
            b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            "unrecognized extension permessage-deflate",
        ),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: \xff\r\n\r\n", "bad header"),
        (b"\r\n\r\n", b"\r\nno colon\r\n\r\n", "Bad HTTP message"),
    ],
)
def test_a_101_that_is_not_ours_ends_the_link_and_what_follows_is_not_read(
    old: bytes, new: bytes, text: str
) -> None:
    data = ACCEPTED.replace(old, new) + sent(TextMessage("not for us"), Ping())
    assert read(data, eof=True) == ([Ending(EndKind.NOT_WEBSOCKET, text)], b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x03\x01\x00\x02\x02\x46",  # the TLS alert of a port that wants wss
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example ESMTP\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/2 101 Switching Protocols\r\n\r\n",
        b"\r\n\r\n",
        b"\n" + ACCEPTED,
        b"\0" * 2 * MAX_HEAD,
        b"HTTP/1.1 100 Continue\r\n\r\n<html>",
    ],
)
@pytest.mark.parametrize("eof", [False, True])
def test_what_is_no_http_is_told_at_its_first_wrong_byte(data: bytes, eof: bool) -> None:
    """Lessons 3: not as a stream that ended, which would be tried again for ever."""
    assert read(data, eof=eof) == ([Ending(EndKind.NOT_WEBSOCKET, "no HTTP")], b"")


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 503\r\nContent-Length: x\r\n\r\n"],
)
def test_a_head_that_http_cannot_read_is_no_websocket(head: bytes) -> None:
    assert read(head) == ([Ending(EndKind.NOT_WEBSOCKET, "Bad HTTP message")], b"")


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "before"),
        (b"H", "inside"),
        (ACCEPTED[:-1], "inside"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "inside"),
    ],
)
def test_an_end_of_stream_tells_how_far_the_answer_had_come(data: bytes, where: str) -> None:
    ending = Ending(EndKind.END_OF_STREAM, f"{where} the HTTP response")
    assert read(data, eof=True) == ([ending], b"")


def head_of(size: int) -> bytes:
    """Make the 101 that large."""
    fill = size - len(ACCEPTED) - len(b"X: \r\n")
    return ACCEPTED[:-2] + b"X: " + b"x" * fill + b"\r\n\r\n"


TOO_LARGE_HEAD = Ending(EndKind.LIMIT_EXCEEDED, f"HTTP response head over {MAX_HEAD} bytes")


def test_a_head_of_exactly_the_limit_is_read() -> None:
    data = head_of(MAX_HEAD)
    assert len(data) == MAX_HEAD == 16 * 1024
    assert read(data) == ([Opened()], b"")


@pytest.mark.parametrize(
    "data",
    [
        head_of(MAX_HEAD + 1),
        head_of(MAX_HEAD + 1)[:-4],
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD,
        b"HTTP/1.1 102 Processing\r\n\r\n" * 700 + ACCEPTED,
    ],
    ids=["complete", "all but its end", "endless", "informational heads together"],
)
def test_a_head_over_the_limit_ends_the_link(data: bytes) -> None:
    items, out = read(data + b"x" * 4)
    assert (items, out) == ([TOO_LARGE_HEAD], b"")


def test_an_endless_head_ends_the_link_at_the_first_byte_too_many() -> None:
    link = started()
    assert feed(link, [b"HTTP/1.1 200 OK\r\nX: ".ljust(MAX_HEAD, b"x")]) == ([], b"")
    assert feed(link, [b"x"]) == ([TOO_LARGE_HEAD], b"")


# --- a refused upgrade ------------------------------------------------------------------------


def refusal(
    status: int, body: bytes = b"", headers: bytes = b"", *, retry_after: float | None = None
) -> tuple[bytes, Ending]:
    """Make a refusal's head and, for the body that is read, its Ending."""
    head = b"HTTP/1.1 %d x\r\n" % status + headers + b"\r\n"
    ending = Ending(
        EndKind.UPGRADE_REFUSED, http_status=status, http_body=body, retry_after=retry_after
    )
    return head, ending


def test_a_refusal_with_a_length_keeps_status_and_body() -> None:
    """wire.md 1: the 33rd unauthenticated socket of an address."""
    body = b"Too many unauthenticated sockets"
    head, ending = refusal(503, body, b"Content-Length: 32\r\n")
    assert read(head + body) == ([ending], b"")


def test_a_refusal_of_wsprotos_own_server_is_read() -> None:
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(upgrade_request("ws://h"))
    [*_] = server.events()
    headers = [(b"retry-after", b"300"), (b"transfer-encoding", b"chunked")]
    data = server.send(RejectConnection(status_code=429, headers=headers, has_body=True))
    data += server.send(RejectData(b"slow down", body_finished=False))
    data += server.send(RejectData(b"!", body_finished=True))
    ending = refusal(429, b"slow down!", retry_after=300.0)[1]
    assert read(data) == ([ending], b"")


def test_a_refusal_without_a_body_ends_with_its_head() -> None:
    head, ending = refusal(426, b"", b"Content-Length: 0\r\n")
    assert read(head) == ([ending], b"")


def test_what_follows_a_refusals_body_is_not_read() -> None:
    head, ending = refusal(404, b"no", b"Content-Length: 2\r\n")
    assert read(head + b"no" + ACCEPTED + b"more", eof=True) == ([ending], b"")


def test_a_refusal_without_a_length_ends_with_the_stream() -> None:
    head, ending = refusal(403, b"Proxy client attribution is required")
    assert read(head + ending.http_body) == ([], b"")
    assert read(head + ending.http_body, eof=True) == ([ending], b"")
    assert read(head, eof=True) == ([refusal(403)[1]], b"")


@pytest.mark.parametrize("headers", [b"Content-Length: 99\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_refusal_whose_body_is_cut_keeps_what_came(headers: bytes) -> None:
    head, ending = refusal(503, b"half", headers)
    body = b"half" if headers.startswith(b"C") else b"9\r\nhalf"
    assert read(head + body, eof=True) == ([ending], b"")


def test_a_chunked_refusal_is_joined() -> None:
    head, ending = refusal(503, b"hello world", b"Transfer-Encoding: chunked\r\n")
    body = b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    assert read(head + body) == ([ending], b"")


def test_a_fault_in_a_chunked_refusal_keeps_what_came_before_it() -> None:
    head, ending = refusal(503, b"hello", b"Transfer-Encoding: chunked\r\n")
    assert read(head + b"5\r\nhello\r\nno size\r\n") == ([ending], b"")


@pytest.mark.parametrize("headers", [b"", b"Content-Length: 5000\r\n"])
def test_of_a_long_refusal_the_first_2_kib_are_kept(headers: bytes) -> None:
    body = bytes(index % 251 for index in range(5000))
    head, ending = refusal(500, body[:2048], headers)
    assert MAX_REFUSAL_BODY == 2048
    assert read(head + body) == ([ending], b"")
    assert read(head + body[:2048]) == ([ending], b"")
    assert read(head + body[:2047]) == ([], b"")
    assert feed(started(), [head + body[:1000], body[1000:]]) == ([ending], b"")


def test_a_refusal_that_hides_its_body_in_chunk_headers_ends_too() -> None:
    """G9; and G3: h11 has a limit on these that depends on how the bytes were cut."""
    head, ending = refusal(503, b"hello", b"Transfer-Encoding: chunked\r\n")
    chunks = b"5\r\nhello\r\n5;" + b"x" * 20_000 + b"\r\nworld\r\n0\r\n\r\n"
    assert read(head + chunks) == ([ending], b"")


def test_of_a_refusals_body_at_most_16_kib_are_read() -> None:
    head, ending = refusal(503, b"hello", b"Transfer-Encoding: chunked\r\n")
    body = b"5\r\nhello\r\n5;".ljust(16 * 1024 - 1, b"x")
    assert read(head + body) == ([], b"")
    assert read(head + body + b"x") == ([ending], b"")
    assert feed(started(), [head + body[:99], body[99:] + body]) == ([ending], b"")


def test_a_refusals_body_may_be_given_up() -> None:
    def is_reading() -> bool:
        return link.reading_refusal

    link = started()
    assert not is_reading()
    head, ending = refusal(503, b"so far")
    assert feed(link, [head + b"so far"]) == ([], b"")
    assert is_reading()
    link.receive(b"")
    assert not is_reading()
    assert feed(link, [b"too late"], eof=True) == ([ending], b"")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (b"Retry-After: 300\r\n", 300.0),
        (b"retry-after:\t0 \r\n", 0.0),
        (b"Retry-After: 3600\r\n", 3600.0),
        (b"Retry-After: 3601\r\n", None),
        (b"Retry-After: 10000\r\n", None),
        (b"Retry-After: -1\r\n", None),
        (b"Retry-After: +1\r\n", None),
        (b"Retry-After: 1.5\r\n", None),
        (b"Retry-After: 1e3\r\n", None),
        (b"Retry-After:\r\n", None),
        (b"Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", None),
        (b"Retry-After: 7\r\nRetry-After: 8\r\n", 7.0),
        (b"X-Retry-After: 7\r\n", None),
        (b"", None),
    ],
)
def test_retry_after_is_believed_as_seconds_up_to_an_hour(
    headers: bytes, seconds: float | None
) -> None:
    """wire.md 5: 429 with ``Retry-After: 300``; the other form is a date (RFC 9110, 10.2.3)."""
    head, ending = refusal(429, headers=headers + b"Content-Length: 0\r\n", retry_after=seconds)
    assert read(head) == ([ending], b"")


# --- messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_message_of_any_size_is_received(size: int) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    assert read_frames(sent(TextMessage(text))) == ([Received(text, size)], b"")
    data = bytes(size)
    assert read_frames(sent(BytesMessage(data))) == ([Received(data, size)], b"")


@pytest.mark.parametrize(
    "parts", [["hel", "lo"], ["", "hello", ""], ["", "", ""], ["a", "", "b", "c"]]
)
def test_fragments_are_joined(parts: list[str]) -> None:
    """wire.md 8: the gateway's own messages come whole, a proxy may cut them."""
    texts = [TextMessage(part, message_finished=False) for part in parts]
    texts.append(TextMessage("!"))
    whole = "".join(parts) + "!"
    assert read_frames(sent(*texts)) == ([Received(whole, len(whole))], b"")
    blobs = [BytesMessage(part.encode(), message_finished=False) for part in parts]
    blobs.append(BytesMessage(b"!"))
    assert read_frames(sent(*blobs)) == ([Received(whole.encode(), len(whole))], b"")


def test_a_character_may_be_cut_by_fragments() -> None:
    data = "€".encode()
    items, out = read_frames(
        frame(1, data[:1], fin=False), frame(0, data[1:2], fin=False), frame(0, data[2:])
    )
    assert (items, out) == ([Received("€", 3)], b"")


def test_pings_inside_a_fragmented_message_are_answered_at_once_and_in_order() -> None:
    """Lessons 30; wire.md 6: an unanswered ping ends the connection after 50 s."""
    link = started()
    start = sent(Ping(b"1"), TextMessage("hel", message_finished=False), Ping(b"2"), Ping(b""))
    items, out = feed(link, [ACCEPTED + start])
    assert items == [Opened()]
    assert understood(out) == [Pong(b"1"), Pong(b"2"), Pong(b"")]
    items, out = read_frames(start, frame(0, b"lo"), frame(9, b"3" * 125))
    assert items == [Received("hello", 5)]
    assert understood(out) == [Pong(b"1"), Pong(b"2"), Pong(b""), Pong(b"3" * 125)]


def test_pongs_are_told_in_their_place() -> None:
    data = sent(Pong(b"a"), TextMessage("x", message_finished=False), Pong(b""), TextMessage("y"))
    items, out = read_frames(data)
    assert items == [PongReceived(b"a"), PongReceived(b""), Received("xy", 2)]
    assert out == b""


def test_a_flood_of_pings_fills_no_more_than_its_bound() -> None:
    """G9."""
    link = started()
    items, out = feed(link, [ACCEPTED + sent(*[Ping(b"flood")] * (5 * MAX_PONGS))])
    assert items == [Opened()]
    assert understood(out) == [Pong(b"flood")] * MAX_PONGS


def test_a_flood_of_pongs_is_told_one_by_one() -> None:
    link = started()
    link.receive(ACCEPTED + sent(*[Pong(b"flood")] * 1000))
    assert link.next_item() == Opened()
    assert link.next_item() == PongReceived(b"flood")
    assert not link._items  # the rest is still bytes
    assert feed(link, [b""]) == ([PongReceived(b"flood")] * 999, b"")


# --- the peer breaks a rule -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x81\x80\0\0\0\0", "masked"),
        (b"\x81\x85\0\0\0\0hello", "masked"),
        (frame(0x41, b"x"), "Reserved bit"),
        (frame(0x21, b"x"), "Reserved bit"),
        (frame(0x11, b"x"), "Reserved bit"),
        *[(frame(opcode, b"x"), "Invalid opcode") for opcode in (*range(3, 8), *range(11, 16))],
        (b"\x81\x7e\x00\x7d" + b"x" * 125, "Payload length used 2 bytes"),
        (b"\x82\x7f" + (65_535).to_bytes(8) + b"x" * 65_535, "Payload length used 8 bytes"),
        (frame(9, b"x" * 126), "Control frame with payload len > 125"),
        (frame(8, b"x" * 65_536), "Control frame with payload len > 125"),
        (frame(9, b"x", fin=False), "fragment control frame"),
        (frame(8, b"", fin=False), "fragment control frame"),
        (frame(0, b"x"), "unexpected CONTINUATION"),
        (frame(0, b""), "unexpected CONTINUATION"),
        (frame(1, b"x", fin=False) + frame(1, b"y"), "expected CONTINUATION"),
        (frame(2, b"x", fin=False) + frame(1, b"y", fin=False), "expected CONTINUATION"),
        (frame(3) + b"\x81\x7f" + b"\xff" * 8, "Invalid opcode"),
    ],
)
def test_a_broken_frame_ends_the_link_with_close_1002(data: bytes, text: str) -> None:
    items, out = read_frames(data, sent(TextMessage("never read"), Ping()))
    assert_violation(items, out, 1002, text)


@pytest.mark.parametrize("opcode", [3, 9])
def test_a_frame_that_cannot_be_is_judged_by_its_header(opcode: int) -> None:
    """Its payload is not waited for."""
    link = started()
    feed(link, [ACCEPTED])
    items, out = feed(link, [bytes([0x80 | opcode, 0x7F]) + (2**62).to_bytes(8)])
    assert_violation(items, out, 1002)


@pytest.mark.parametrize(
    "data",
    [
        frame(1, b"\xff"),
        frame(1, b"x" * 40 + b"\xc3"),
        frame(1, b"\xed\xa0\x80"),
        frame(1, b"\xe2\x82", fin=False) + frame(0, b"x"),
        frame(1, b"ok", fin=False) + frame(0, b"\xc3"),
        frame(8, b"\x03\xe8\xff"),
    ],
)
def test_invalid_utf_8_ends_the_link_with_close_1007(data: bytes) -> None:
    """RFC 6455, 8.1; also in a Close frame's reason."""
    items, out = read_frames(data)
    assert items == [Ending(EndKind.PROTOCOL_VIOLATION, "invalid UTF-8")]
    assert_violation(items, out, 1007)


def test_what_came_before_a_violation_is_told_before_it() -> None:
    items, out = read_frames(sent(TextMessage("good"), Pong(b"p")), frame(3))
    assert items[:2] == [Received("good", 4), PongReceived(b"p")]
    assert_violation(items[2:], out, 1002)


# --- limits -----------------------------------------------------------------------------------

TOO_LARGE = Ending(EndKind.LIMIT_EXCEEDED, "a message over 1024 bytes")
TOO_MANY = Ending(EndKind.LIMIT_EXCEEDED, "a message in over 4 fragments")


def test_a_message_of_exactly_the_limit_is_received() -> None:
    data = sent(TextMessage("x" * 1024), BytesMessage(bytes(1024)))
    items, _ = read_frames(data, limits=SMALL)
    assert items == [Received("x" * 1024, 1024), Received(bytes(1024), 1024)]


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("length", [1025, 2**16, 2**25 + 1, 2**62, 2**63, 2**64 - 1])
def test_one_frame_over_the_limit_ends_the_link_by_its_header(opcode: int, length: int) -> None:
    """No byte of its payload is waited for; without a Close frame, it would not be read."""
    size = bytes([126]) + length.to_bytes(2) if length < 2**16 else bytes([127])
    header = bytes([0x80 | opcode]) + (size if length < 2**16 else size + length.to_bytes(8))
    assert read_frames(header, limits=SMALL) == ([TOO_LARGE], b"")
    if length > 25 * 1024 * 1024:
        default = Ending(EndKind.LIMIT_EXCEEDED, "a message over 26214400 bytes")
        assert read_frames(header) == ([default], b"")


def test_fragments_that_are_too_large_together_end_the_link() -> None:
    data = frame(1, b"x" * 1000, fin=False) + frame(9, b"y" * 100) + frame(0, b"x" * 24, fin=False)
    assert read_frames(data, limits=SMALL)[0] == []
    assert read_frames(data, b"\x00\x01", limits=SMALL)[0] == [TOO_LARGE]
    assert read_frames(data, frame(0), limits=SMALL)[0] == [Received("x" * 1024, 1024)]


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_too_many_fragments_end_the_link_empty_ones_too(payload: bytes) -> None:
    """wire.md 8: the gateway closes over 20,000 itself."""
    four = frame(2, payload, fin=False) + frame(0, payload, fin=False) * 3
    assert read_frames(four, limits=SMALL) == ([], b"")
    assert read_frames(four, b"\x80\x00", limits=SMALL) == ([TOO_MANY], b"")


def test_the_limits_count_anew_for_each_message() -> None:
    one = frame(2, b"x" * 500, fin=False) + frame(0, b"", fin=False) * 2 + frame(0, b"x" * 500)
    assert read_frames(one * 3, limits=SMALL) == ([Received(b"x" * 1000, 1000)] * 3, b"")


# --- close ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        *[(code, "") for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011)],
        (1012, "service restart"),
        (1013, "gateway starting"),
        (3000, ""),
        (4001, "device removed"),
        (4999, "é" * 61),
    ],
)
def test_a_close_is_told_and_answered_with_the_same(code: int, reason: str) -> None:
    """wire.md 7; RFC 6455, 5.5.1."""
    items, out = read_frames(sent(CloseConnection(code, reason)))
    assert items == [Ending(EndKind.CLOSED_BY_PEER, close_code=code, close_reason=reason)]
    assert understood(out) == [CloseConnection(code, reason)]


def test_a_close_without_a_code_is_1005_and_answered_without_one() -> None:
    """RFC 6455, 7.1.5: 1005 is never sent."""
    items, out = read_frames(frame(8))
    assert items == [Ending(EndKind.CLOSED_BY_PEER, close_code=1005)]
    assert out == b"\x88\x80\0\0\0\0"


@pytest.mark.parametrize(
    "payload",
    [
        b"\x03",
        *[
            code.to_bytes(2)
            for code in (0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2000, 2999, 5000, 65_535)
        ],
    ],
)
def test_a_close_with_a_code_that_cannot_be_sent_is_a_violation(payload: bytes) -> None:
    """RFC 6455, 7.4."""
    assert_violation(*read_frames(frame(8, payload)), 1002, "CLOSE")


def test_nothing_after_a_close_is_read_or_answered() -> None:
    close = sent(CloseConnection(1000, "bye"))
    items, out = read_frames(close, frame(1, b"late"), frame(9, b"late"), close, b"\xff" * 9)
    assert items == [Ending(EndKind.CLOSED_BY_PEER, close_code=1000, close_reason="bye")]
    assert understood(out) == [CloseConnection(1000, "bye")]


def test_a_close_inside_a_fragmented_message_ends_the_link() -> None:
    items, _ = read_frames(frame(1, b"half", fin=False), sent(CloseConnection(1012, "")))
    assert items == [Ending(EndKind.CLOSED_BY_PEER, close_code=1012)]


# --- the end of the stream --------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frame(1, b"hello")[:1],
        frame(1, b"hello")[:4],
        frame(1, b"x" * 300)[:3],
        frame(1, b"hello", fin=False),
        frame(1, b"hello", fin=False) + frame(9, b"ping")[:3],
    ],
)
def test_a_stream_that_ends_without_a_close_says_so(data: bytes) -> None:
    """wire.md: others call it 1006."""
    assert read_frames(data, eof=True) == ([Ending(EndKind.END_OF_STREAM)], b"")


def test_what_was_not_yet_taken_at_the_end_of_the_stream_is_told_before_it() -> None:
    link = started()
    link.receive(ACCEPTED + sent(TextMessage("a"), Ping(b"p"), TextMessage("b")))
    items, out = feed(link, [], eof=True)
    assert items == [
        Opened(),
        Received("a", 1),
        Received("b", 1),
        Ending(EndKind.END_OF_STREAM),
    ]
    assert understood(out) == [Pong(b"p")]


@pytest.mark.parametrize(
    "data", [b"no HTTP", ACCEPTED + frame(8), ACCEPTED + frame(3), refusal(404)[0]]
)
def test_an_ending_is_the_last_item_whatever_follows(data: bytes) -> None:
    link = started()
    items, _ = feed(link, [data], eof=True)
    assert [isinstance(item, Ending) for item in items].count(True) == 1
    assert isinstance(items[-1], Ending)
    assert feed(link, [ACCEPTED, frame(1, b"x")], eof=True) == ([], b"")
    assert not link._buffer


def test_a_link_with_nothing_to_read_has_no_item() -> None:
    link = started()
    assert link.next_item() is None


# --- any bytes --------------------------------------------------------------------------------

PAYLOADS = st.binary(max_size=6) | st.sampled_from([b"x" * 126, b"x" * 1025, b"\x03\xe8bye"])
VALID_EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextMessage, st.text(max_size=6), message_finished=st.booleans()),
    st.builds(Ping, st.binary(max_size=6)),
    st.builds(Pong, st.binary(max_size=6)),
)
RAW_FRAMES = st.builds(
    lambda first, masked, length, payload: bytes([first, masked << 7 | length]) + payload,
    st.integers(0, 255),
    st.integers(0, 1),
    st.integers(0, 10) | st.integers(124, 127),
    st.binary(max_size=12) | st.builds(lambda size: size.to_bytes(8), st.integers(0, 2**64 - 1)),
)
FRAMES = st.builds(
    frame, st.sampled_from([0, 1, 2, 8, 9, 10, 3, 0x41]), PAYLOADS, fin=st.booleans()
)
HEADS = st.sampled_from(
    [
        ACCEPTED,
        b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED,
        b"HTTP/1.1 503 x\r\n\r\n",
        b"HTTP/1.1 503 x\r\nContent-Length: 9\r\nRetry-After: 5\r\n\r\n",
        b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=\r\nde\r\n0\r\n\r\n",
    ]
)


@st.composite
def valid_streams(draw: st.DrawFn) -> bytes:
    """Draw what a correct server sends: one upgrade, messages, maybe a close."""
    events = draw(st.lists(VALID_EVENTS, max_size=8))
    close = draw(st.none() | st.sampled_from([1000, 1012, 4001]))
    if close is not None:
        events.append(CloseConnection(close, "bye"))
    return ACCEPTED + sent(*events)


@st.composite
def mutated(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    """Change a few bytes of a stream, in any of the ways in which streams break."""
    data = bytearray(draw(streams))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 4)))
        data[start:stop] = draw(st.binary(max_size=4) | st.sampled_from([b"\r\n", b"\n", b"\0"]))
    return bytes(data)


STREAMS = st.one_of(
    st.binary(),
    mutated(HEADS),
    mutated(valid_streams()),
    st.builds(bytes.__add__, HEADS, st.binary()),
    st.builds(
        lambda frames: ACCEPTED + b"".join(frames),
        st.lists(FRAMES | RAW_FRAMES, max_size=8),
    ),
)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(places)]


@given(data=STREAMS, cuts=st.lists(st.integers(0, 2**16), max_size=8), eof=st.booleans())
def test_any_bytes_have_the_same_effect_however_they_are_cut(
    data: bytes, cuts: list[int], eof: bool
) -> None:
    """G1 and G3: nothing raises, and there is one Ending at most, the last item."""
    items, out = read(data, eof=eof, limits=SMALL)
    assert feed(started(SMALL), pieces_of(data, cuts), eof=eof) == (items, out)
    endings = [item for item in items if isinstance(item, Ending)]
    assert len(endings) <= 1
    assert endings == [] or items[-1] is endings[0]
    if eof:
        assert len(endings) == 1


@given(events=st.lists(VALID_EVENTS, max_size=12))
def test_what_a_correct_server_sends_is_read_as_it_was_meant(events: list[Event]) -> None:
    expected: list[Any] = []
    pongs = []
    parts: list[str] = []
    for event in events:
        if isinstance(event, Ping):
            pongs.append(Pong(event.payload))
        elif isinstance(event, Pong):
            expected.append(PongReceived(bytes(event.payload)))
        elif isinstance(event, TextMessage):
            parts.append(event.data)
            if event.message_finished:
                expected.append(Received("".join(parts), len("".join(parts).encode())))
                parts.clear()
    items, out = read_frames(sent(*events))
    assert items == expected
    assert understood(out) == pongs
