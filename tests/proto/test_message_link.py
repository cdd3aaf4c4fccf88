"""The link of a host that owns a WebSocket: what it judges, and what leaves whole."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import (
    Delivery,
    EndKind,
    Framing,
    InvalidSettings,
    KeepaliveSettings,
    Limits,
    Probe,
    Settings,
    events,
)
from butter_proto.counters import Counters
from butter_proto.errors import Ending
from butter_proto.link import (
    HostClose,
    HostInput,
    HostMessage,
    HostPong,
    LinkItem,
    Opened,
    PongReceived,
    Received,
)
from butter_proto.machine import Close, CloseTransport, OpenTransport, Ping, State, Text
from butter_proto.message_link import MessageLink
from butter_proto.outbox import Outbox
from butter_proto.settings import require_bytes
from tests.proto.gateway_side import TOKEN, answered, ponged
from tests.proto.operations import URL, World, new_machine, pull_events

LIMIT = 1024
GONE = Ending(EndKind.END_OF_STREAM)
BAD_TEXT = Ending(EndKind.PROTOCOL_VIOLATION, "invalid UTF-8")
TOO_LARGE = Ending(EndKind.LIMIT_EXCEEDED, "a message over 1024 bytes")


def read(*inputs: HostInput) -> tuple[list[LinkItem], Outbox, Counters]:
    """Give a link of 1024 bytes a message some inputs; return its items."""
    counters = Counters()
    link = MessageLink(Limits(max_message=LIMIT), counters)
    for one in inputs:
        link.receive(one)
    return list(iter(link.next_item, None)), link.outbox, counters


def over_messages(probe: Probe = Probe.AUTO) -> World:
    world = World(
        Settings(token=TOKEN, framing=Framing.MESSAGES, keepalive=KeepaliveSettings(probe=probe))
    )
    world.online()
    assert world.machine.state is State.ONLINE
    return world


# --- what comes in --------------------------------------------------------------------------


def test_it_is_open_as_soon_as_the_transport_is() -> None:
    link = MessageLink(Limits(), Counters())
    assert link.next_item() is None
    link.start()
    assert list(iter(link.next_item, None)) == [Opened()]


def test_messages_and_pongs_come_through_in_their_order() -> None:
    items, _, counters = read(HostMessage("a"), HostPong(b"p"), HostMessage(b"\xff"))
    assert items == [Received("a", 1), PongReceived(b"p"), Received(b"\xff", 1)]
    assert counters.bytes_received == 2


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
def test_a_text_is_as_large_as_its_utf_8(letter: str) -> None:
    size = len(letter.encode())
    fits = letter * (LIMIT // size)
    items, _, counters = read(HostMessage(fits))
    assert items == [Received(fits, len(fits.encode()))]
    assert counters.bytes_received == len(fits.encode())
    assert read(HostMessage(fits + letter))[0] == [TOO_LARGE]


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_a_binary_message_is_as_large_as_it_is(size: int) -> None:
    items, outbox, _ = read(HostMessage(b"x" * size))
    assert items == [Received(b"x" * size, size) if size == LIMIT else TOO_LARGE]
    assert not outbox.closed


def test_a_lone_surrogate_is_answered_with_1007() -> None:
    items, outbox, _ = read(HostMessage("\ud800"))
    assert items == [BAD_TEXT]
    assert outbox.next_message(0.0) == Close(1007, "")


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1012, 3000, 4999])
def test_a_close_with_a_code_is_the_peers(code: int) -> None:
    items, outbox, _ = read(HostClose(code, "bye"))
    assert items == [Ending(EndKind.CLOSED_BY_PEER, close_code=code, close_reason="bye")]
    assert not outbox.closed  # the host has answered it


@pytest.mark.parametrize(
    "code",
    [None, 1006, 0, -1, 999, 5000, 10**5000],
    ids=["none", "1006", "0", "-1", "999", "5000", "too large to be written"],
)
def test_a_close_without_a_code_or_with_none_that_exists_is_the_end_of_the_stream(
    code: int | None,
) -> None:
    """RFC 6455, 7.1.5 and 7.4.2."""
    assert read(HostClose(code, "abnormal"))[0] == [GONE]


@pytest.mark.parametrize(
    ("reason", "told"),
    [("x" * 124, "x" * 123), ("é" * 10**6, "é" * 61), ("\ud800", "?"), ("\udfff" * 200, "?" * 123)],
)
def test_of_a_reason_is_kept_what_a_close_frame_can_hold(reason: str, told: str) -> None:
    """RFC 6455, 5.5."""
    (ending,) = read(HostClose(4000, reason))[0]
    assert isinstance(ending, Ending)
    assert ending.close_reason == told


@given(
    st.lists(
        st.one_of(
            st.builds(HostMessage, st.text(st.characters()) | st.binary()),
            st.builds(HostPong, st.binary()),
            st.builds(HostClose, st.none() | st.integers(), st.text(st.characters())),
        )
    )
)
def test_each_input_is_one_item_whatever_is_in_it(inputs: list[HostInput]) -> None:
    assert len(read(*inputs)[0]) == len(inputs)


# --- what leaves ----------------------------------------------------------------------------


def test_messages_leave_whole_and_control_messages_before_them() -> None:
    counters = Counters()
    outbox = Outbox(bytes, counters)
    large, waiting = outbox.text("é".encode() * 200_000), outbox.text(b"waits")
    assert outbox.next_message(1.5) == Text("é" * 200_000)
    probe = outbox.ping(b"7")
    assert outbox.next_message(2.5) == Ping(b"7")
    assert (large.handed_out_at, probe.handed_out_at, waiting.handed_out_at) == (1.5, 2.5, None)
    assert large.payload == b""  # an abandoned request keeps its place, not its bytes
    assert (counters.messages_sent, counters.bytes_sent) == (1, 400_000)
    outbox.withdraw(waiting)
    assert outbox.next_message(3.5) is None


def test_nothing_leaves_after_a_close() -> None:
    outbox = Outbox(bytes, Counters())
    outbox.text(b"dropped")
    outbox.close(4000, "é" * 100)
    outbox.ping(b"late")
    assert outbox.next_message(0.0) == Close(4000, "é" * 61)
    assert outbox.next_message(0.0) is None


def test_a_machine_hands_out_messages_or_bytes_and_never_both() -> None:
    world = over_messages()
    world.machine.request("echo", now=world.now)
    assert world.machine.data_to_send(1) == b""
    assert isinstance(world.machine.next_message(1), Text)
    assert world.machine.next_message(1) is None
    assert world.machine.next_message(99) is None


# --- a connector over messages --------------------------------------------------------------


def test_the_command_has_the_framing_and_the_url_without_the_token() -> None:
    settings = Settings(framing=Framing.MESSAGES)
    machine = new_machine(settings, url=f"{URL}path?a=b&token={TOKEN}")
    machine.start(0.0)
    command = machine.next_command()
    assert isinstance(command, OpenTransport)
    assert command.framing is Framing.MESSAGES
    assert command.url == f"{URL}path?a=b"


def test_what_comes_before_the_websocket_is_open_does_nothing() -> None:
    world = World(Settings(token=TOKEN, framing=Framing.MESSAGES))
    world.start()
    world.machine.receive_message(1, "too early", world.now)
    world.machine.receive_pong(1, b"too early", world.now)
    assert world.open == [1]
    world.online()
    assert world.machine.state is State.ONLINE


@pytest.mark.parametrize("code", [1012, None])
def test_a_transport_that_the_host_reports_closed_is_let_go_at_once(code: int | None) -> None:
    world = over_messages()
    world.give("transport_closed", 1, code, f"bye {TOKEN}")
    assert world.steps[-1].told.commands == (CloseTransport(1),)
    ending = world.machine.last_ending
    assert ending is not None
    assert ending.close_code == code
    assert ending.close_reason == ("" if code is None else "bye ***")


def test_what_is_no_frame_is_answered_with_1007_and_the_close_ends_it() -> None:
    world = over_messages()
    world.machine.receive_message(1, "no json", world.now)
    assert world.machine.next_message(1) == Close(1007, "")
    world.wait(0.5)
    world.give("receive_message", 1, "more")
    world.give("receive_pong", 1, b"")
    assert 1 in world.open
    world.give("transport_closed", 1, 1007, "")
    assert 1 not in world.open


def test_a_close_that_the_host_never_confirms_is_over_in_the_close_timeout() -> None:
    world = over_messages()
    world.stop()
    assert world.peers[1].closed
    assert world.open == [1]
    world.wait(1.0)
    assert world.open == []
    assert world.machine.finished


def test_a_probe_is_a_health_request_unless_pings_are_asked_for() -> None:
    world = over_messages()
    world.probe()
    assert world.peers[1].messages[-1]["method"] == "health"
    world.oversleep(0.25)
    world.say([partial(answered, which=0)])
    assert world.told[-1] == events.RoundTrip(0.25)
    assert world.peers[1].pings == []


def test_a_ping_is_handed_to_the_host_and_its_pong_is_the_answer() -> None:
    world = over_messages(Probe.PING)
    world.probe()
    assert len(world.peers[1].pings) == 1
    world.give("receive_pong", 1, b"another's")
    assert not [one for one in world.told if isinstance(one, events.RoundTrip)]
    world.oversleep(0.25)
    world.say([ponged])
    assert world.told[-1] == events.RoundTrip(0.25)


@pytest.mark.parametrize(("name", "arg"), [("receive_message", "{}"), ("receive_pong", b"any")])
def test_a_message_or_a_pong_of_any_kind_is_life(name: str, arg: str | bytes) -> None:
    world = over_messages(Probe.PING)
    for _ in range(10):
        world.wait(10.0)
        world.oversleep(1.0)
        world.give(name, 1, arg)
    assert world.machine.state is State.ONLINE
    assert world.machine.stats.misses == 0
    assert world.machine.stats.age(world.now) == 0.0


@pytest.mark.parametrize("reason", ["", None])
def test_a_websocket_that_closes_before_it_was_open_is_a_failed_transport(reason: str) -> None:
    machine = new_machine(Settings(framing=Framing.MESSAGES))
    machine.start(0.0)
    machine.transport_closed(1, 1006, reason, 1.0)
    assert machine.state is State.WAITING
    assert machine.last_ending is not None
    assert machine.last_ending.kind is EndKind.TRANSPORT_FAILED


def test_a_host_that_knows_no_close_reason_may_say_none() -> None:
    world = over_messages()
    world.machine.transport_closed(1, 4000, None, world.now)  # type: ignore[arg-type]
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.close_reason == ""


def test_a_message_that_was_handed_out_may_have_been_executed_and_the_next_was_not() -> None:
    world = over_messages()
    machine = world.machine
    ids = [machine.request("echo", now=world.now) for _ in range(2)]
    assert isinstance(machine.next_message(1), Text)
    machine.transport_closed(1, None, "", world.now)
    failed = [one for one in pull_events(machine) if isinstance(one, events.RequestFailed)]
    assert [(one.id, one.delivery) for one in failed] == [
        (ids[0], Delivery.MAY_HAVE_EXECUTED),
        (ids[1], Delivery.NOT_SENT),
    ]


def test_an_adapter_that_moves_bytes_refuses_the_other_framing() -> None:
    require_bytes(Framing.BYTES)
    with pytest.raises(InvalidSettings, match="moves bytes"):
        require_bytes(Framing.MESSAGES)
