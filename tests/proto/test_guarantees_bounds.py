"""G9: every buffer is bounded (test_guarantees.py has the other guarantees)."""

from __future__ import annotations

import gc
import tracemalloc
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import (
    EndKind,
    FaultKind,
    Framing,
    Limits,
    Offline,
    PendingFull,
    Settings,
    TransportFault,
    events,
)
from butter_proto.errors import MAX_REFUSAL_BODY
from butter_proto.frames import encode_request
from butter_proto.machine import OpenTransport
from butter_proto.outbox import MAX_PONGS, Outgoing
from butter_proto.pending import PendingRequest
from butter_proto.websocket import MAX_HEAD
from tests.proto.gateway_side import TOKEN, answered, close, event, frame, said
from tests.proto.operations import World, new_machine, pull_commands, pull_events
from tests.proto.strategies import over_both_framings

OVERFLOW = events.MissReason.OVERFLOW


def online(framing: Framing = Framing.BYTES, **limits: int) -> World:
    world = World(Settings(token=TOKEN, limits=Limits(**limits), framing=framing))
    world.online()
    return world


def last_kind(world: World) -> EndKind | None:
    ending = world.machine.last_ending
    return None if ending is None else ending.kind


# --- what comes in -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [b"X: y\r\n", b"\r\nHTTP/1.1 103 Early\r\n", b"endless"])
@pytest.mark.parametrize("times", [1, 100, 5000])
def test_g9_the_head_of_an_answer_is_bounded(part: bytes, times: int) -> None:
    world = World(Settings(token=TOKEN))
    world.online(phase=0)
    size = 0
    piece = b"HTTP/1.1 103 Early\r\n"
    while last_kind(world) is None and size <= MAX_HEAD:
        world.say([partial(said, data=piece)])
        size += len(piece)
        piece = part * times
    assert last_kind(world) is EndKind.LIMIT_EXCEEDED
    assert size - len(piece) <= MAX_HEAD < size


def test_g9_the_body_of_a_refusal_is_bounded() -> None:
    world = World(Settings(token=TOKEN))
    world.online(phase=0)
    world.say([partial(said, data=b"HTTP/1.1 403 No\r\n\r\n" + b"b" * (MAX_REFUSAL_BODY - 1))])
    assert last_kind(world) is None
    world.say([partial(said, data=b"b" * 5000)])
    assert world.machine.last_ending is not None
    assert len(world.machine.last_ending.http_body) == MAX_REFUSAL_BODY


@given(st.lists(st.integers(0, 700), min_size=1, max_size=8), st.sampled_from([1, 2]))
@example([1024], 1)
@example([1025], 1)
@example([1024, 0, 1], 2)
def test_g9_a_message_is_bounded_before_its_bytes_arrive(sizes: list[int], opcode: int) -> None:
    world = online(max_message=1024)
    for place, size in enumerate(sizes):
        whole = frame(0 if place else opcode, b"x" * size, fin=False)
        header = whole[: len(whole) - size]
        world.say([partial(said, data=header)])
        too_large = sum(sizes[: place + 1]) > 1024
        assert (last_kind(world) is EndKind.LIMIT_EXCEEDED) == too_large
        world.say([partial(said, data=whole[len(header) :])])


@given(st.integers(1, 20))
def test_g9_the_fragments_of_a_message_are_bounded(most: int) -> None:
    world = online(max_fragments=most)
    for place in range(most):
        world.say([partial(said, data=frame(0 if place else 1, fin=False) + frame(9))])
    assert last_kind(world) is None
    world.say([partial(said, data=frame(0, b"{}"))])
    assert last_kind(world) is EndKind.LIMIT_EXCEEDED


@over_both_framings
def test_g9_nothing_is_kept_of_what_was_pulled(framing: Framing) -> None:
    world = online(framing)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(40):
        world.hear(event(f"{number}" * 100_000, seq=number + 1))
        world.hear(frame(10, b"p" * 125))
        pull_events(world.machine)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < 1_000_000


# --- what waits for the wire ---------------------------------------------------------------------


def test_g9_pongs_that_nobody_takes_are_bounded_and_the_newest_is_kept() -> None:
    world = online()
    for number in range(3):
        pings = b"".join(frame(9, f"{number} {place}".encode()) for place in range(1000))
        world.machine.receive_data(1, pings, world.now)
    world.wait(0.0)
    assert len(world.peers[1].pongs) == MAX_PONGS
    assert world.peers[1].pongs[-1] == b"2 999"


def test_g9_a_flood_of_pings_does_not_push_out_the_probe() -> None:
    world = online()
    world.machine.receive_data(1, frame(9) * 2 * MAX_PONGS, world.now)
    world.machine.probe(world.now)
    world.machine.receive_data(1, frame(9) * 2 * MAX_PONGS, world.now)
    world.wait(0.0)
    assert len(world.peers[1].pings) == 1
    assert len(world.peers[1].pongs) <= MAX_PONGS + 1


def all_that_waits() -> int:
    """Count what waits for the wire in every machine."""
    gc.collect()
    return sum(isinstance(one, Outgoing) for one in gc.get_objects())


@over_both_framings
def test_g9_requests_taken_back_before_they_left_leave_nothing_behind(framing: Framing) -> None:
    world = online(framing)
    before = all_that_waits()
    for _ in range(1000):
        request_id = world.machine.request("echo", now=world.now)
        world.machine.cancel(request_id, world.now)
    assert all_that_waits() - before < 100


# --- requests ------------------------------------------------------------------------------------


def bytes_of_requests() -> int:
    """Add up what is kept of the requests of every machine."""
    gc.collect()
    return sum(len(one.payload) for one in gc.get_objects() if isinstance(one, PendingRequest))


def test_g9_nothing_is_kept_of_what_a_queued_request_said_that_was_taken_back() -> None:
    """Not even while another deadline stands before its own."""
    world = World(Settings(token=TOKEN))
    world.give("request", "echo", offline=Offline.QUEUE, timeout=900.0)
    before = bytes_of_requests()
    for _ in range(50):
        params = {"blob": "x" * 1000}
        queued = world.give("request", "echo", params, offline=Offline.QUEUE, timeout=1000.0)
        world.give("cancel", queued)
    assert bytes_of_requests() == before


@over_both_framings
@given(st.integers(1, 20), st.integers(1, 20))
def test_g9_accepted_requests_keep_their_place_until_their_outcome_is_pulled(
    framing: Framing, most: int, window: int
) -> None:
    world = online(framing, max_pending=most, max_in_flight=window)
    machine = world.machine
    ids = [machine.request("echo", now=world.now, timeout=1.0) for _ in range(most)]
    machine.cancel(ids.pop(), world.now)
    ids.append(machine.request("echo", now=world.now, timeout=1.0))
    machine.handle_timeout(world.now + 1.0)  # now each has its outcome
    with pytest.raises(PendingFull):
        machine.request("echo", now=world.now)
    assert isinstance(machine.next_event(), events.RequestFailed)
    machine.request("echo", now=world.now)
    with pytest.raises(PendingFull):
        machine.request("echo", now=world.now)
    told = pull_events(machine)
    assert [one.id for one in told if isinstance(one, events.RequestFailed)] == ids[1:]


@over_both_framings
@given(st.lists(st.integers(0, 400), min_size=1, max_size=20), st.integers(1, 3))
def test_g9_the_bytes_of_accepted_requests_are_bounded(
    framing: Framing, sizes: list[int], window: int
) -> None:
    world = online(framing, max_pending_bytes=1024, max_in_flight=window)
    total = 0
    for size in sizes:
        params = "x" * size
        more = len(encode_request(world.ids.following, "m", params))
        try:
            world.machine.request("m", params, now=world.now)
            total += more
        except PendingFull:
            assert total + more > 1024
        assert total <= 1024


@over_both_framings
def test_g9_a_request_that_is_over_counts_no_more(framing: Framing) -> None:
    world = online(framing, max_pending_bytes=1024)
    for way in range(30):
        request_id = world.request(size=400, timeout=1.0)
        assert isinstance(request_id, str)
        if way % 3 == 0:
            world.cancel()
        elif way % 3 == 1:
            world.wait(1.0)
        else:
            world.say([partial(answered, which=0)])


# --- events that nobody pulls --------------------------------------------------------------------

pushes = st.lists(st.integers(0, 3), min_size=1, max_size=4)
"""Events that come in one input, each with the number of those that are missing before it."""


@over_both_framings
@given(
    st.lists(pushes | st.integers(1, 6), max_size=30),
    st.integers(1, 5) | st.just(1000),
    st.integers(1, 300) | st.just(100_000),
)
@example([[0], [0], [2], [0], 1, [0, 0], [0]], 2, 100_000)
@example([[0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]], 1000, 1)
def test_g9_what_overflows_is_told_once_and_in_its_place(
    framing: Framing, run: list[list[int] | int], most: int, most_bytes: int
) -> None:
    """``run`` holds inputs, and numbers of events to pull."""
    world = online(framing, max_events=most, max_event_bytes=most_bytes)
    machine = world.machine
    told: list[Any] = []
    seq = 0
    for one in run:
        if isinstance(one, int):
            told += [machine.next_event() for _ in range(one)]
            continue
        data = b""
        for gap in one:
            seq += gap + 1
            data += event("chat", "x" * 20, seq=seq)
        world.hear(data)
    left = pull_events(machine)
    kept = [one for one in left if isinstance(one, events.GatewayEvent)]
    assert len(kept) < most + 4
    assert sum(one.size for one in kept) < most_bytes + 4 * 100
    assert seq_after([*told, *left]) == seq


def seq_after(told: list[events.Event | None]) -> int:
    """Return the seq that is accounted for; every place of a loss must be told, and once."""
    seq = 0
    overflowed = False
    for one in told:
        if isinstance(one, events.GatewayEvent):
            seq += 1
            assert one.seq == seq
            overflowed = False
        if isinstance(one, events.EventsMissed):
            assert one.count is not None
            assert one.count > 0
            assert not (overflowed and one.reason is OVERFLOW)
            seq += one.count
            overflowed = one.reason is OVERFLOW
    return seq


@over_both_framings
def test_g9_outcomes_are_told_whatever_else_is_lost(framing: Framing) -> None:
    world = online(framing, max_events=1)
    request_id = world.machine.request("echo", now=world.now)
    for seq in range(1, 4):
        world.hear(event("chat", seq=seq))
    world.hear(close(1000))
    pushed, missed, outcome, *_ = pull_events(world.machine)
    assert isinstance(pushed, events.GatewayEvent)
    assert missed == events.EventsMissed(OVERFLOW, 2)
    assert isinstance(outcome, events.RequestFailed)
    assert outcome.id == request_id


@given(st.integers(4, 12), st.booleans())
def test_g9_state_changes_that_nobody_pulls_hold_back_the_next_attempt(
    most: int, by_wish: bool
) -> None:
    machine = new_machine(Settings(token=TOKEN, limits=Limits(max_state_changes=most)))
    now = 0.0
    machine.start(now)
    for _ in range(40):
        for command in pull_commands(machine):
            if isinstance(command, OpenTransport):
                machine.transport_failed(command.id, TransportFault(FaultKind.REFUSED), now)
        if by_wish:
            machine.reconnect_now(now)
        now = machine.next_timeout() or now
        machine.handle_timeout(now)
    assert most <= len(pull_events(machine)) <= most + 1
    held_until = machine.retry_at
    assert held_until is not None
    machine.handle_timeout(held_until)
    assert [type(command) for command in pull_commands(machine)] == [OpenTransport]
