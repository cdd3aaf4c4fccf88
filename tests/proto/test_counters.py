"""What a connector counts, in which unit and from when on."""

from __future__ import annotations

from functools import partial

import attrs
import pytest

from butter_proto import EndKind, Limits, Settings, Stats, events
from butter_proto.counters import Counters
from tests.proto.gateway_side import (
    TOKEN,
    answered,
    close,
    event,
    frame,
    ponged,
    pushed,
    said,
    welcomed,
)
from tests.proto.operations import BEGIN, World
from tests.proto.scenario import Scenario


def online(**limits: int) -> World:
    world = World(Settings(token=TOKEN, limits=Limits(**limits)))
    world.online()
    return world


def test_the_counters_have_the_names_of_the_stats_and_begin_as_they_do() -> None:
    names = [field.name for field in attrs.fields(Stats)]
    assert [field.name for field in attrs.fields(Counters)] == names
    assert Counters().snapshot() == Stats()


def test_a_snapshot_does_not_change_any_more() -> None:
    counters = Counters()
    before = counters.snapshot()
    counters.probes += 1
    assert (before.probes, counters.snapshot().probes) == (0, 1)


def test_the_smoothed_round_trip_follows_the_last_one_by_an_eighth() -> None:
    """RFC 6298, 2.2 and 2.3."""
    counters = Counters()
    for seconds, smoothed in ((0.8, 0.8), (1.6, 0.9), (0.1, 0.8)):
        counters.probe_answered(seconds)
        assert counters.round_trip == seconds
        assert counters.smoothed_round_trip == pytest.approx(smoothed)


def test_online_and_what_follows_are_counted_over_all_connections() -> None:
    world = online()
    world.ended()
    world.online()
    world.ended()
    world.online(phase=0)
    world.ended()  # it was never online: an attempt that failed
    world.online()
    world.stop()
    stats = world.machine.stats
    assert (stats.attempts, stats.online, stats.reconnects, stats.disconnects) == (4, 3, 2, 2)


def test_a_connection_that_ends_in_the_bytes_that_brought_it_online_counts_too() -> None:
    world = World(Settings(token=TOKEN))
    world.meet(2, [welcomed, partial(said, data=close(1012))])
    stats = world.machine.stats
    assert (stats.attempts, stats.online, stats.reconnects, stats.disconnects) == (1, 1, 0, 1)


def test_messages_are_counted_apart_from_the_control_frames_between_them() -> None:
    world = online()
    before = world.machine.stats
    assert (before.messages_received, before.messages_sent) == (2, 1)  # challenge, hello; connect
    world.request(size=200_000)  # one message in several frames
    world.probe()
    world.say([ponged, partial(pushed, name="chat"), partial(said, data=frame(9, b"ping"))])
    world.say([partial(said, data=frame(1, b"{", fin=False))])
    stats = world.machine.stats
    assert (stats.messages_received, stats.messages_sent) == (3, 2)
    world.say([partial(said, data=frame(0, b"}"))])
    assert world.machine.stats.messages_received == 4
    assert world.machine.stats.ignored_frames == 1


def test_bytes_are_those_of_the_transport_both_ways() -> None:
    world = online()
    world.request(size=200_000)
    world.say([partial(answered, which=0)])
    received = sum(
        len(step.input.args[1]) for step in world.steps if step.input.name == "receive_data"
    )
    sent = sum(len(data) for step in world.steps for data in step.told.sent.values())
    stats = world.machine.stats
    assert (stats.bytes_received, stats.bytes_sent) == (received, sent)
    assert sent > 200_000


def test_a_message_that_is_withdrawn_was_not_sent() -> None:
    world = online()
    before = world.machine.stats
    request_id = world.machine.request("echo", now=world.now)
    world.machine.cancel(request_id, world.now)
    world.wait(0.0)
    assert world.machine.stats == before


def test_gaps_and_what_was_missed_in_them_are_counted_apart_from_what_found_no_room() -> None:
    world = online(max_events=2)
    world.say([partial(pushed, name="chat", gap=3)])
    world.say([partial(pushed, name="chat", gap=2), partial(pushed, name="chat")])
    stats = world.machine.stats
    assert (stats.gaps, stats.missed_events, stats.dropped_events, stats.events) == (2, 5, 0, 3)
    for gap in (0, 0, 4, 0):
        seq = stats.events + stats.missed_events + 1 + gap
        world.machine.receive_data(1, event("chat", seq=seq), world.now)
        stats = world.machine.stats
    assert (stats.gaps, stats.missed_events, stats.dropped_events, stats.events) == (3, 9, 2, 7)


def test_the_last_byte_has_the_time_of_its_input_and_the_end_of_a_stream_is_none() -> None:
    world = World(Settings(token=TOKEN))
    world.start()
    assert world.machine.stats.age(world.now) is None
    world.online()
    assert world.machine.stats.last_received_at == BEGIN
    world.oversleep(3.0)
    world.say([partial(said, data=b"\x81")])  # half a header is life too
    assert world.machine.stats.last_received_at == BEGIN + 3.0
    world.oversleep(4.0)
    world.ended()
    world.online(phase=0)
    assert world.machine.stats.age(world.now) == world.now - (BEGIN + 3.0)


def test_what_comes_after_our_close_is_not_counted_and_no_life() -> None:
    world = online()
    world.say([partial(said, data=frame(1, b"no json"))])
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.kind is EndKind.PROTOCOL_VIOLATION
    before = world.machine.stats
    world.oversleep(0.5)
    world.say([partial(said, data=b"late")])
    assert world.machine.stats == before
    assert before.age(world.now) == 0.5


def test_probes_their_misses_and_their_round_trips_are_counted_over_connections() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.run(25.0)
    scenario.gateway.drop()
    scenario.until(events.Online)
    scenario.run(15.0)
    scenario.gateway.stall()
    scenario.until(events.Offline)
    stats = scenario.machine.stats
    assert (stats.probes, stats.misses, stats.disconnects) == (5, 2, 2)
    assert (stats.round_trip, stats.smoothed_round_trip) == (0.0, 0.0)
    assert stats.age(scenario.now) == pytest.approx(25.0)
