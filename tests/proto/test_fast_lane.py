"""The fast lane: what it takes, what it leaves, and that wsproto says the same of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto.counters import Counters
from butter_proto.endpoint import Endpoint
from butter_proto.fast_lane import take_usual_frames
from butter_proto.link import LinkItem, Received
from butter_proto.settings import Limits
from butter_proto.websocket import WebSocketLink
from tests.proto.gateway_side import frame
from tests.proto.test_websocket import ACCEPTED

ENDPOINT = Endpoint("gateway.example", 18789, tls=False)
SMALL = Limits(max_message=1024, max_fragments=4)
UNUSUAL = {
    "binary": frame(2, b"x"),
    "ping": frame(9, b"x"),
    "close": frame(8, b"\x03\xe8"),
    "first fragment": b"\x01\x01x",
    "last fragment": frame(0, b"x"),
    "extension": b"\xc1\x01x",
    "masked": b"\x81\x81\0\0\0\0x",
    "masked, longer": b"\x81\xfe\x00\x80\0\0\0\0" + b"x" * 128,
    "no UTF-8": frame(1, b"\xff"),
    "16 bits for a short length": b"\x81\x7e\x00\x7dx",
    "64 bits for a short length": b"\x81\x7f\0\0\0\0\0\0\xff\xff",
    "64 bits with the highest one": b"\x81\x7f\x80\0\0\0\0\0\xff\xff",
    "over the limit": frame(1, b"x" * 1025),
}

pieces = st.one_of(
    st.sampled_from(sorted(UNUSUAL.values())),
    st.builds(frame, st.sampled_from([1, 1, 1, 1, 2, 9, 10]), st.text(max_size=40).map(str.encode)),
    st.integers(0, 1100).map(lambda size: frame(1, b"x" * size)),
    st.builds(
        lambda part, rest: b"\x01" + frame(1, part)[1:] + frame(0, rest), *[st.just(b"y")] * 2
    ),
    st.binary(max_size=4),
)


def taken(data: bytes, largest: int = 1024) -> tuple[list[LinkItem], int, int]:
    into: deque[LinkItem] = deque()
    read, needed = take_usual_frames(bytearray(data), largest, into)
    return list(into), read, needed


@contextmanager
def without_the_lane() -> Iterator[None]:
    WebSocketLink.fast_lane = False
    try:
        yield
    finally:
        WebSocketLink.fast_lane = True


def said(data: bytes, sizes: list[int], *, ends: bool) -> tuple[list[LinkItem], bytes]:
    """Return all that a link says and sends for bytes in pieces of these sizes, again and again."""
    link = WebSocketLink(ENDPOINT, SMALL, bytes, Counters())
    link.start()
    items: list[LinkItem] = []
    at = 0
    parts = [ACCEPTED]
    while at < len(data):
        size = sizes[len(parts) % len(sizes)]
        parts.append(data[at : at + size])
        at += size
    for part in [*parts, *([b""] if ends else [])]:
        link.receive(part)
        items.extend(iter(link.next_item, None))
    return items, b"".join(iter(lambda: link.outbox.take(0.0), b""))


@given(
    st.lists(pieces, max_size=6).map(b"".join),
    st.lists(st.integers(1, 50), min_size=1),
    st.booleans(),
)
@example(frame(1, b"a" * 1024) + frame(1, b"b" * 1025), [7], True)
@example(frame(1, "\u00e9".encode()) + frame(1, b"\xc3") + frame(1, b"late"), [1], False)
def test_with_the_lane_and_without_it_the_same_is_said_and_sent(
    data: bytes,
    sizes: list[int],
    ends: bool,
) -> None:
    for cut in (sizes, [1], [len(data) + 1]):
        fast = said(data, cut, ends=ends)
        with without_the_lane():
            assert said(data, cut, ends=ends) == fast


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_a_text_of_any_length_is_taken(size: int) -> None:
    data = frame(1, b"x" * size)
    assert taken(data * 2, 70_000) == ([Received("x" * size, size)] * 2, 2 * len(data), 2)


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_not_usual_is_left_with_all_that_follows(unusual: bytes) -> None:
    usual = frame(1, b"x")
    assert taken(usual + unusual + usual) == ([Received("x", 1)], len(usual), 2)


@pytest.mark.parametrize("size", [5, 200, 70_000])
def test_a_frame_that_is_not_complete_says_how_much_it_needs(size: int) -> None:
    data = frame(1, b"x" * size)
    header = len(data) - size
    for there in (header, len(data) - 1):
        assert taken(data[:there], size) == ([], 0, len(data))
    if header > 2:
        assert taken(data[:3], size) == ([], 0, header)
    assert taken(data[:1], size) == ([], 0, 2)
    assert taken(b"") == ([], 0, 2)


def test_a_large_message_is_read_from_a_view_that_is_gone_then() -> None:
    buffer = bytearray(frame(1, b"x" * 5000 + "\u20ac".encode()))
    into: deque[LinkItem] = deque()
    read, _ = take_usual_frames(buffer, 10_000, into)
    assert list(into) == [Received("x" * 5000 + "\u20ac", 5003)]
    del buffer[:read]  # BufferError while there is a view
    assert not buffer


def test_a_large_message_that_is_no_utf_8_is_left_to_wsproto() -> None:
    buffer = bytearray(frame(1, b"x" * 5000 + b"\xff"))
    into: deque[LinkItem] = deque()
    assert take_usual_frames(buffer, 10_000, into) == (0, 2)
    assert not into
    buffer.clear()
