"""What waits to be pulled: nothing that must be told is lost, everything else is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import events
from butter_proto.counters import Counters
from butter_proto.device import DeviceToken
from butter_proto.errors import Delivery, Ending, EndKind
from butter_proto.event_queue import EventQueue, EventStore
from butter_proto.events import EventsMissed, FromGateway, GatewayEvent, MissReason
from butter_proto.secret import Secret
from butter_proto.settings import Limits
from butter_proto.standing import Standing

ENDING = Ending(EndKind.END_OF_STREAM)


def event(number: int, size: int = 1) -> GatewayEvent:
    return GatewayEvent("tick", None, number, None, size)


def gap(count: int) -> EventsMissed:
    return EventsMissed(MissReason.GAP, count)


def overflow(count: int) -> EventsMissed:
    return EventsMissed(MissReason.OVERFLOW, count)


def pull(queue: EventQueue, count: int = 1_000_000) -> list[events.Event]:
    """Take up to ``count`` events."""
    pulled: list[events.Event] = []
    while len(pulled) < count and (item := queue.next()) is not None:
        pulled.append(item)
    return pulled


def put_each(queue: EventQueue, *items: GatewayEvent, missed_before: int = 0) -> None:
    """Queue gateway events, each in an input of its own."""
    for item in items:
        queue.begin_input()
        queue.put_gateway_event(item, missed_before)


def test_an_empty_queue_has_nothing_to_tell() -> None:
    counters = Counters()
    queue = EventQueue(EventStore(Limits()), counters)
    assert queue.next() is None
    assert queue.last_state_event is None
    assert (counters.dropped_events, queue.store.pending, queue.store.state_changes) == (0, 0, 0)


def test_events_of_all_kinds_come_in_the_order_in_which_they_were_put() -> None:
    queue = EventQueue(EventStore(Limits()), Counters())
    queue.put(events.Connecting(1, 1))
    queue.put_notice(events.ClockLate(2.0))
    put_each(queue, event(1))
    queue.put(events.RequestAccepted("r", None))
    queue.put(events.Replied("r", None))
    queue.put_notice(events.ScopesReduced(("a",), ()))
    queue.put(events.Retrying(ENDING, 2, 1.0))
    assert pull(queue) == [
        events.Connecting(1, 1),
        events.ClockLate(2.0),
        event(1),
        events.RequestAccepted("r", None),
        events.Replied("r", None),
        events.ScopesReduced(("a",), ()),
        events.Retrying(ENDING, 2, 1.0),
    ]


def test_a_gap_is_told_before_the_event_that_shows_it() -> None:
    """Lessons 19."""
    counters = Counters()
    queue = EventQueue(EventStore(Limits()), counters)
    put_each(queue, event(1))
    put_each(queue, event(5), missed_before=3)
    assert pull(queue) == [event(1), gap(3), event(5)]
    assert counters.dropped_events == 0


def test_events_without_room_are_told_in_their_place_as_one_loss() -> None:
    """G9: the loss is told in its place as one ``EventsMissed(OVERFLOW, count)``."""
    counters = Counters()
    queue = EventQueue(EventStore(Limits(max_events=2)), counters)
    put_each(queue, *[event(number) for number in range(1, 6)])
    queue.put(events.Connecting(1, 1))
    assert pull(queue, 1) == [event(1)]
    put_each(queue, event(6))
    assert pull(queue) == [event(2), overflow(3), events.Connecting(1, 1), event(6)]
    assert counters.dropped_events == 3


def test_a_gap_that_a_lost_event_would_have_shown_is_part_of_the_loss() -> None:
    queue = EventQueue(EventStore(Limits(max_events=1)), Counters())
    put_each(queue, event(1))
    put_each(queue, event(5), missed_before=3)
    assert pull(queue) == [event(1), overflow(4)]


def test_losses_apart_are_told_apart() -> None:
    counters = Counters()
    queue = EventQueue(EventStore(Limits(max_events=1)), counters)
    put_each(queue, event(1), event(2))
    assert pull(queue, 1) == [event(1)]
    put_each(queue, event(3), event(4), event(5))
    assert pull(queue) == [overflow(1), event(3), overflow(2)]
    assert counters.dropped_events == 3


def test_telling_an_older_loss_leaves_the_newer_one_open() -> None:
    queue = EventQueue(EventStore(Limits(max_events=1)), Counters())
    put_each(queue, event(1), event(2))
    assert pull(queue, 1) == [event(1)]
    put_each(queue, event(3), event(4))
    assert pull(queue, 1) == [overflow(1)]
    put_each(queue, event(5))
    assert pull(queue) == [event(3), overflow(2)]


def test_a_loss_that_was_told_is_closed_and_the_next_one_is_new() -> None:
    queue = EventQueue(EventStore(Limits(max_events=1)), Counters())
    queue.put_notice(events.ClockLate(2.0))  # counts as an event, and stands before the loss
    put_each(queue, event(1))
    queue.put(events.Replied("r", None))
    assert pull(queue, 2) == [events.ClockLate(2.0), overflow(1)]
    queue.begin_input()
    queue.put_notice(events.ClockLate(3.0))
    put_each(queue, event(2))
    assert pull(queue) == [events.Replied("r", None), events.ClockLate(3.0), overflow(1)]


def test_a_loss_that_was_told_before_there_was_room_is_not_counted_again() -> None:
    queue = EventQueue(EventStore(Limits(max_events=1)), Counters())
    put_each(queue, event(1), event(2))
    queue.begin_input()  # no room in this whole input, whatever is pulled in it
    assert pull(queue) == [event(1), overflow(1)]
    queue.put_gateway_event(event(3), 0)
    assert pull(queue) == [overflow(1)]


def test_room_is_looked_at_when_an_input_begins() -> None:
    """G9: so that splitting the bytes of one input differently changes nothing (G3)."""
    queue = EventQueue(EventStore(Limits(max_events=1)), Counters())
    queue.begin_input()
    for number in (1, 2, 3):
        queue.put_gateway_event(event(number), 0)
    put_each(queue, event(4))
    assert pull(queue) == [event(1), event(2), event(3), overflow(1)]


@pytest.mark.parametrize(("size", "kept"), [(9, 2), (10, 1), (11, 1)])
def test_the_bytes_of_events_are_bounded_too(size: int, kept: int) -> None:
    queue = EventQueue(EventStore(Limits(max_event_bytes=10)), Counters())
    waiting = [event(number, size) for number in (1, 2, 3)]
    put_each(queue, *waiting)
    assert pull(queue) == [*waiting[:kept], overflow(3 - kept)]
    put_each(queue, *waiting)  # what was pulled gave its room back
    assert pull(queue) == [*waiting[:kept], overflow(3 - kept)]


def test_an_event_takes_its_place_until_it_is_pulled() -> None:
    counters = Counters()
    queue = EventQueue(EventStore(Limits(max_events=2)), counters)
    for number in range(1, 10):
        put_each(queue, event(number))
        assert counters.dropped_events == 0
        assert pull(queue, 1) == [event(number)]


def test_only_what_took_room_gives_it_back() -> None:
    queue = EventQueue(EventStore(Limits(max_events=1)), Counters())
    queue.put_notice(events.ScopesReduced(("a",), ()))
    queue.put(events.RequestAccepted("r", None))
    pull(queue)
    put_each(queue, event(1), event(2))
    assert pull(queue) == [event(1), overflow(1)]


@pytest.mark.parametrize("measurement", [events.RoundTrip(0.1), events.ClockLate(2.0)])
def test_measurements_are_counted_with_the_events_and_dropped_silently(
    measurement: events.RoundTrip | events.ClockLate,
) -> None:
    queue = EventQueue(EventStore(Limits(max_events=2)), Counters())
    for _ in range(5):
        queue.begin_input()
        queue.put_notice(measurement)
    put_each(queue, event(1))
    assert pull(queue) == [measurement, measurement, overflow(1)]
    queue.begin_input()
    queue.put_notice(measurement)
    assert pull(queue) == [measurement]


@pytest.mark.parametrize(
    "notice",
    [
        events.ScopesReduced(("a",), ()),
        events.PairingRequired("id", "device", "not-paired", None),
        events.DeviceTokenIssued(3, (("operator", DeviceToken(Secret("x"), ())),)),
        events.DeviceTokenNotStored(False),
        events.DeviceTokenRejected(1, "operator", Secret("x"), ENDING),
    ],
)
def test_a_notice_that_must_be_heard_is_told_even_without_room(notice: events.Notice) -> None:
    counters = Counters()
    queue = EventQueue(EventStore(Limits(max_events=1)), counters)
    put_each(queue, event(1), event(2))
    queue.put_notice(notice)
    assert pull(queue) == [event(1), overflow(1), notice]
    assert counters.dropped_events == 1


@pytest.mark.parametrize(
    "outcome",
    [events.Replied("r", None), events.RequestFailed("r", Delivery.NOT_SENT, "health")],
)
def test_an_outcome_is_never_dropped_and_keeps_its_place_until_it_is_pulled(
    outcome: events.Outcome,
) -> None:
    """G9: each accepted request keeps its slot until its outcome is pulled."""
    queue = EventQueue(EventStore(Limits(max_events=1, max_pending=2)), Counters())
    put_each(queue, event(1), event(2))
    queue.store.pending += 2
    queue.put(events.RequestAccepted("r", None))
    queue.put(outcome)
    queue.put(outcome)
    assert pull(queue, 3) == [event(1), overflow(1), events.RequestAccepted("r", None)]
    assert queue.store.pending == 2
    assert pull(queue, 1) == [outcome]
    assert queue.store.pending == 1
    assert pull(queue) == [outcome]
    assert queue.store.pending == 0


def test_state_changes_are_counted_until_they_are_pulled_and_never_dropped() -> None:
    """G9: no new attempt starts while too many of them wait."""
    queue = EventQueue(EventStore(Limits(max_events=1)), Counters())
    put_each(queue, event(1), event(2))
    told: list[events.StateEvent] = []
    for attempt in range(1, 4):
        told += [events.Connecting(attempt, 1), events.Retrying(ENDING, attempt + 1, 1.0)]
    for item in told:
        queue.put(item)
    assert queue.store.state_changes == 6
    assert pull(queue, 3) == [event(1), overflow(1), told[0]]
    assert queue.store.state_changes == 5
    assert pull(queue) == told[1:]
    assert queue.store.state_changes == 0


def test_the_last_state_event_is_the_last_one_queued_not_the_last_one_pulled() -> None:
    queue = EventQueue(EventStore(Limits()), Counters())
    queue.put(events.Connecting(1, 1))
    queue.put(events.Replied("r", None))
    queue.put(events.GaveUp(ENDING, "x"))
    pull(queue, 1)
    assert queue.last_state_event is events.GaveUp


def test_a_state_event_out_of_order_is_a_bug_here_and_caught() -> None:
    queue = EventQueue(EventStore(Limits()), Counters())
    with pytest.raises(AssertionError):
        queue.put(events.Offline(ENDING))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(0, 3)),
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("outcome"), st.just(0)),
        st.tuples(st.just("pull"), st.integers(1, 6)),
    ),
    max_size=60,
)


@given(steps=STEPS, max_events=st.integers(1, 4))
def test_every_event_is_told_once_or_counted_in_the_loss_at_its_place(
    steps: list[tuple[str, int]], max_events: int
) -> None:
    """Of the sequence numbers 1, 2, 3, ... none is left out and none comes twice."""
    counters = Counters()
    queue = EventQueue(EventStore(Limits(max_events=max_events)), counters)
    told: list[events.Event] = []
    put: list[events.Event] = []
    seq = 0
    for step, number in steps:
        match step:
            case "event":
                seq += number + 1
                queue.put_gateway_event(event(seq), number)
            case "begin":
                queue.begin_input()
            case "outcome":
                queue.store.pending += 1
                put.append(events.Replied(str(seq), None))
                queue.put(events.Replied(str(seq), None))
            case _:
                told += pull(queue, number)
    told += pull(queue)
    counted = 0
    for item in told:
        if isinstance(item, EventsMissed):
            assert item.count is not None
            counted += item.count
        elif isinstance(item, GatewayEvent):
            counted += 1
            assert item.seq == counted
    assert counted == seq
    received = sum(step == "event" for step, _ in steps)
    kept = sum(isinstance(item, GatewayEvent) for item in told)
    assert counters.dropped_events == received - kept
    assert [item for item in told if isinstance(item, events.Replied)] == put
    assert queue.store.pending == 0


def test_losses_of_one_that_is_held_and_of_another_one_are_two_however_they_alternate() -> None:
    """Else each would close the other's, and what nobody pulls would grow without bound (G9)."""
    store = EventStore(Limits(max_events=1))
    primary = EventQueue(store, Counters(), Standing("a"))
    comes = EventQueue(store, Counters(), standing := Standing("b", primary=False))
    put_each(primary, event(1))
    comes.hold()
    for number in range(2, 12):
        put_each(primary, event(number))
        put_each(comes, event(number))
    standing.primary = True
    comes.release()
    put_each(comes, event(12))
    assert list(iter(store.next, None)) == [
        FromGateway("a", event(1)),
        FromGateway("a", overflow(10)),
        FromGateway("b", overflow(11)),
    ]
