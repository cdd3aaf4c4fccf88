"""What leaves, in which order and in which frames; wsproto's server side reads all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import FrameDecoder, Opcode

from butter_proto.counters import Counters
from butter_proto.machine import CHUNK
from butter_proto.outbox import MAX_PONGS, Outbox

LARGEST_FRAGMENT = CHUNK - 8  # what 64 KiB leave beside the longest header that fits
RFC_MASK = bytes.fromhex("37fa213d")
SIZES = [0, 1, 4, 5, 125, 126, 127, 65_535, 65_536]
OPERATIONS = st.one_of(
    st.tuples(
        st.just("text"), st.sampled_from([*SIZES, LARGEST_FRAGMENT, 150_000]) | st.integers(0, 300)
    ),
    st.tuples(st.just("ping"), st.integers(0, 125)),
    st.tuples(st.just("pong"), st.integers(0, 125)),
    st.tuples(st.just("withdraw"), st.integers(0, 20)),
    st.tuples(st.just("take"), st.integers(1, 3)),
)


def zeros(size: int) -> bytes:
    return bytes(size)


def drain(outbox: Outbox) -> Iterator[bytes]:
    """Take until nothing waits; a live-lock fails."""
    for _ in range(10_000):
        data = outbox.take(0.0)
        if not data:
            return
        assert len(data) <= CHUNK
        yield data
    pytest.fail("the outbox never gets empty")


def frames_of(data: bytes) -> list[tuple[Opcode, bytes, bool]]:
    """Split bytes into whole frames: opcode, payload, FIN. A cut frame fails."""
    decoder = FrameDecoder(client=False)
    decoder.receive_bytes(data)
    frames = []
    while (frame := decoder.process_buffer()) is not None:
        assert isinstance(frame.payload, bytes)
        assert frame.frame_finished
        frames.append((frame.opcode, frame.payload, frame.message_finished))
    assert not decoder.buffer.buffer, "a frame was cut"
    return frames


class Server:
    """wsproto's server side of an upgraded WebSocket: what it understood of the bytes."""

    def __init__(self) -> None:
        self._connection = Connection(ConnectionType.SERVER)
        self._parts: list[str] = []
        self.messages: list[str] = []
        self.control: list[Event] = []

    def read(self, data: bytes) -> None:
        self._connection.receive_data(data)
        for event in self._connection.events():
            if not isinstance(event, TextMessage):
                self.control.append(event)
                continue
            self._parts.append(event.data)
            if event.message_finished:
                self.messages.append("".join(self._parts))
                self._parts.clear()


def control_of(data: bytes) -> list[Event]:
    """Read control frames alone; what follows a Close fails, which wsproto would skip."""
    assert Opcode.CLOSE not in [opcode for opcode, _, _ in frames_of(data)[:-1]]
    server = Server()
    server.read(data)
    assert server.messages == []
    return server.control


# --- frames ------------------------------------------------------------------------------------


def test_a_text_is_the_masked_frame_of_the_rfc() -> None:
    """The bytes stand in RFC 6455, 5.7."""
    outbox = Outbox(lambda size: RFC_MASK[:size], Counters())
    outbox.text(b"Hello")
    assert outbox.take(0.0) == bytes.fromhex("818537fa213d7f9f4d5158")


def test_a_close_is_the_masked_frame_of_the_rfc() -> None:
    outbox = Outbox(lambda size: RFC_MASK[:size], Counters())
    outbox.close(1000, "Hello")
    masked = bytes(a ^ b for a, b in zip(b"\x03\xe8Hello", RFC_MASK + RFC_MASK, strict=False))
    assert outbox.take(0.0) == bytes.fromhex("888737fa213d") + masked


@pytest.mark.parametrize(
    "size",
    [*SIZES, LARGEST_FRAGMENT - 1, LARGEST_FRAGMENT, LARGEST_FRAGMENT + 1, 3 * LARGEST_FRAGMENT],
)
def test_a_text_of_any_size_arrives_as_it_was_in_fragments_of_64_kib(size: int) -> None:
    """wire.md 8: the gateway takes 26 MB in fragments of 64 KiB."""
    outbox = Outbox(Random(1).randbytes, Counters())
    text = "é" * (size // 2) + "x" * (size % 2)
    outbox.text(text.encode())
    server = Server()
    sizes = []
    for data in drain(outbox):
        sizes += [len(payload) for _, payload, _ in frames_of(data)]
        server.read(data)
    assert server.messages == [text]
    assert all(part == LARGEST_FRAGMENT for part in sizes[:-1])
    assert len(sizes) == max(1, -(-size // LARGEST_FRAGMENT))


def test_every_frame_is_masked_with_its_own_four_bytes_of_the_entropy() -> None:
    """RFC 6455, 5.3: a fresh mask each; drawn when a frame leaves, so a recording is exact."""
    drawn: list[int] = []

    def entropy(size: int) -> bytes:
        drawn.append(size)
        return bytes([len(drawn)] * size)

    outbox = Outbox(entropy, Counters())
    outbox.text(b"")
    outbox.ping(b"")
    outbox.text(bytes(LARGEST_FRAGMENT + 1))
    assert drawn == []
    first, second, third = list(drain(outbox))
    assert drawn == [4, 4, 4, 4]
    assert first == b"\x89\x80\x01\x01\x01\x01\x81\x80\x02\x02\x02\x02"  # ping, empty text
    assert second[4:8] == b"\x03\x03\x03\x03"
    assert third[2:6] == b"\x04\x04\x04\x04"


@given(operations=st.lists(OPERATIONS, max_size=30), close=st.booleans(), seed=st.integers(0, 9))
def test_whatever_is_queued_leaves_once_in_order_and_in_whole_frames(
    operations: list[tuple[str, int]], close: bool, seed: int
) -> None:
    outbox = Outbox(Random(seed).randbytes, Counters())
    server = Server()
    texts = {}
    control: list[Event] = []

    def take(now: float) -> None:
        data = outbox.take(now)
        assert len(data) <= CHUNK
        frames_of(data)
        server.read(data)

    for now, (operation, number) in enumerate(operations):
        match operation:
            case "text":
                texts[outbox.text(b"%d" % now * (number // 2))] = str(now) * (number // 2)
            case "ping":
                outbox.ping(bytes(number))
                control.append(Ping(bytes(number)))
            case "pong":
                outbox.pong(bytes(number))
                control.append(Pong(bytes(number)))
            case "withdraw":
                untouched = [item for item in texts if item.handed_out_at is None]
                if number < len(untouched):
                    outbox.withdraw(untouched[number])
                    del texts[untouched[number]]
            case _:
                for _ in range(number):
                    take(float(now))
    left = list(server.messages)
    if close:
        outbox.close(1000, "bye")
        control.append(CloseConnection(1000, "bye"))
    opcodes = []
    for data in drain(outbox):
        opcodes += [opcode for opcode, _, _ in frames_of(data)]
        server.read(data)
    assert Opcode.CLOSE not in opcodes[:-1]
    assert server.control == control
    expected = list(texts.values())
    assert server.messages == (expected[: len(left)] if close else expected)
    assert server.messages[: len(left)] == left
    if not close:
        assert all(item.handed_out_at is not None for item in texts)


# --- order -------------------------------------------------------------------------------------


def test_control_frames_pass_a_large_upload_at_the_next_frame() -> None:
    """wire.md 6: a client whose pong waits behind its upload is killed after 50 s."""
    outbox = Outbox(zeros, Counters())
    outbox.text(bytes(10 * CHUNK))
    outbox.take(0.0)
    outbox.pong(b"answer")
    outbox.ping(b"question")
    opcodes = [opcode for opcode, _, _ in frames_of(outbox.take(1.0))]
    assert opcodes == [Opcode.PONG, Opcode.PING]  # a whole fragment does not fit beside them
    assert [opcode for opcode, _, _ in frames_of(outbox.take(2.0))] == [Opcode.CONTINUATION]


def test_small_messages_share_one_chunk() -> None:
    outbox = Outbox(zeros, Counters())
    for _ in range(3):
        outbox.text(b"x" * 100)
    data = outbox.take(0.0)
    assert [opcode for opcode, _, _ in frames_of(data)] == [Opcode.TEXT] * 3
    assert outbox.take(0.0) == b""


def test_a_message_that_does_not_fit_beside_the_one_before_waits_for_the_next_chunk() -> None:
    outbox = Outbox(zeros, Counters())
    outbox.text(b"a" * 40_000)
    second = outbox.text(b"b" * 40_000)
    assert len(frames_of(outbox.take(1.0))) == 1
    assert second.handed_out_at is None
    assert len(frames_of(outbox.take(2.0))) == 1
    assert second.handed_out_at == 2.0


def test_control_frames_beyond_one_chunk_wait_for_the_next_and_stay_before_messages() -> None:
    outbox = Outbox(zeros, Counters())
    outbox.text(b"message")
    for number in range(600):
        outbox.pong(b"%125d" % number)
    chunks = [frames_of(data) for data in drain(outbox)]
    assert len(chunks) == 2
    payloads = [payload for chunk in chunks for _, payload, _ in chunk]
    assert payloads == [b"%125d" % number for number in range(600)] + [b"message"]


def test_bytes_that_are_no_frame_leave_as_they_are_and_first() -> None:
    outbox = Outbox(zeros, Counters())
    outbox.raw(b"GET / HTTP/1.1\r\n\r\n")
    outbox.text(b"x")
    assert outbox.take(0.0) == b"GET / HTTP/1.1\r\n\r\n" + b"\x81\x81\0\0\0\0x"


def test_an_upgrade_request_of_64_kib_fills_one_chunk() -> None:
    outbox = Outbox(zeros, Counters())
    outbox.raw(b"x" * CHUNK)
    outbox.ping(b"")
    assert [len(data) for data in drain(outbox)] == [CHUNK, 6]


# --- handed out and withdrawn -------------------------------------------------------------------


@pytest.mark.parametrize(
    "queue", [lambda outbox: outbox.text(bytes(3 * CHUNK)), lambda outbox: outbox.ping(b"")]
)
def test_an_item_knows_when_its_first_byte_was_handed_out(
    queue: Callable[[Outbox], object],
) -> None:
    outbox = Outbox(zeros, Counters())
    item = queue(outbox)
    seen = [getattr(item, "handed_out_at")]  # noqa: B009 - the lambdas have no type
    for now in (1.5, 2.5, 3.5):
        outbox.take(now)
        seen.append(getattr(item, "handed_out_at"))  # noqa: B009
    assert seen == [None, 1.5, 1.5, 1.5]


def test_a_withdrawn_message_never_leaves_and_the_others_do() -> None:
    outbox = Outbox(zeros, Counters())
    items = [outbox.text(name) for name in (b"a", b"b", b"c", b"d")]
    for item in (items[0], items[2]):
        outbox.withdraw(item)
    assert [payload for _, payload, _ in frames_of(outbox.take(0.0))] == [b"b", b"d"]
    assert [item.handed_out_at for item in items] == [None, 0.0, None, 0.0]


def test_withdrawn_messages_take_no_room_while_the_socket_takes_nothing() -> None:
    """G9: the outbox is bounded by what waits in it, not by what was ever put there."""
    outbox = Outbox(zeros, Counters())
    outbox.text(bytes(2 * CHUNK))
    outbox.take(0.0)
    items = [outbox.text(b"x") for _ in range(1000)]
    for item in items:
        outbox.withdraw(item)
    assert len(outbox._messages) == 1


def test_a_message_that_left_is_not_kept() -> None:
    """G9: an abandoned request keeps its place in flight for 60 s, but not its bytes."""
    outbox = Outbox(zeros, Counters())
    item = outbox.text(b"x" * 100)
    outbox.take(0.0)
    assert item.payload == b""


def test_a_message_whose_first_byte_left_cannot_be_withdrawn() -> None:
    outbox = Outbox(zeros, Counters())
    item = outbox.text(bytes(2 * CHUNK))
    outbox.take(0.0)
    with pytest.raises(AssertionError):
        outbox.withdraw(item)


# --- close --------------------------------------------------------------------------------------


def test_a_close_passes_a_half_sent_message_and_nothing_leaves_after_it() -> None:
    """RFC 6455, 5.5.1; lessons 31."""
    outbox = Outbox(zeros, Counters())
    outbox.text(bytes(2 * CHUNK))
    outbox.take(0.0)
    outbox.text(b"waiting")
    outbox.ping(b"before")
    outbox.close(1000, "bye")
    late = [outbox.text(b"late"), outbox.ping(b"late")]
    outbox.pong(b"late")
    outbox.close(4000, "again")
    assert control_of(b"".join(drain(outbox))) == [Ping(b"before"), CloseConnection(1000, "bye")]
    assert [item.handed_out_at for item in late] == [None, None]


def test_a_message_that_a_close_dropped_was_not_handed_out_and_may_still_be_withdrawn() -> None:
    outbox = Outbox(zeros, Counters())
    item = outbox.text(b"x")
    outbox.close(1000, "")
    outbox.withdraw(item)
    outbox.take(1.0)
    assert item.handed_out_at is None


def test_a_close_without_a_code_is_empty() -> None:
    outbox = Outbox(zeros, Counters())
    outbox.close(None, "not told")
    assert outbox.take(0.0) == b"\x88\x80\0\0\0\0"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 62, "é" * 61),
        ("x" + "é" * 61, "x" + "é" * 61),
    ],
)
def test_a_long_close_reason_is_cut_at_a_character(reason: str, told: str) -> None:
    """RFC 6455, 5.5: a control frame has at most 125 bytes."""
    outbox = Outbox(zeros, Counters())
    outbox.close(4000, reason)
    assert control_of(outbox.take(0.0)) == [CloseConnection(4000, told)]


# --- a flood of pings ---------------------------------------------------------------------------


def test_of_too_many_waiting_pongs_the_newest_replaces_the_last() -> None:
    """RFC 6455, 5.5.3: only the most recent ping needs its answer."""
    outbox = Outbox(zeros, Counters())
    for number in range(3 * MAX_PONGS):
        outbox.pong(b"%d" % number)
    assert MAX_PONGS == 1000
    pongs = control_of(b"".join(drain(outbox)))
    first = [Pong(b"%d" % number) for number in range(MAX_PONGS - 1)]
    assert pongs == [*first, Pong(b"%d" % (3 * MAX_PONGS - 1))]


def test_a_flood_of_pings_pushes_out_no_ping_and_no_close_of_ours() -> None:
    """A probe that was lost here would count as not yet sent for ever."""
    outbox = Outbox(zeros, Counters())
    for _ in range(MAX_PONGS):
        outbox.pong(b"before")
    probe = outbox.ping(b"probe")
    for _ in range(MAX_PONGS):
        outbox.pong(b"after")
    outbox.close(1000, "")
    outbox.pong(b"late")
    control = control_of(b"".join(drain(outbox)))
    assert control[-3:] == [Ping(b"probe"), Pong(b"after"), CloseConnection(1000, "")]
    assert probe.handed_out_at == 0.0
    assert len(control) == MAX_PONGS + 3
