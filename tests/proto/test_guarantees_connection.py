"""The guarantees of the Machine contract for one connection on its own.

test_guarantees.py and the files beside it have those of a connector. The clock of a connection is
its owner's: G6 is none of its own.
"""

from __future__ import annotations

import attrs
import hypothesis
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import KeepaliveSettings, Limits, Probe, Settings, Traced, events
from butter_proto.connection import Phase
from butter_proto.machine import STATE_AFTER
from tests.proto.connection_operations import ConnectionWorld, new_connection
from tests.proto.gateway_side import TOKEN
from tests.proto.operations import Op, World, believed, op, replay
from tests.proto.strategies import (
    any_roomy,
    any_settings,
    few_chunks,
    lasting,
    runs,
    without,
    wrong_clocks,
    wrong_requests,
)
from tests.proto.test_guarantees import (
    check_closed_once,
    check_cut_anywhere,
    check_dead_to_the_world,
    check_pulled_in_any_order,
    check_refused_in_vain,
    without_delivery,
)
from tests.proto.test_guarantees_requests import (
    check_counted_out,
    check_outcomes,
    check_sent_once,
)
from tests.proto.test_guarantees_secrets import MEETINGS, URL
from tests.proto.test_guarantees_secrets import check as check_nothing_shown
from tests.proto.test_guarantees_time import check_ended_by_time, check_woken_in_vain

PLAIN = Settings(token=TOKEN)
ONE_IN_FLIGHT = Settings(token=TOKEN, limits=Limits(max_in_flight=1))
FEWER = hypothesis.settings(max_examples=60)


@FEWER
@given(runs(wrong_clocks), any_settings)
@example([op(World.online), op(World.stop), op(World.ended)], PLAIN)
def test_g1_nothing_raises_in_a_connection_and_its_state_events_keep_their_order(
    run: list[Op], settings: Settings
) -> None:
    world = ConnectionWorld(settings)
    world.do([op(World.start), *run]).stop(abort=True)
    last: type[events.StateEvent] | None = None
    for step in world.steps:
        for one in step.told.events:
            if isinstance(one, events.StateEvent):
                assert type(one) in events.FOLLOWERS[last]
                last = type(one)
        assert step.told.state is STATE_AFTER[last]
    connection = world.alone.connection
    assert connection is not None
    assert connection.phase is Phase.CLOSED
    assert connection.ending is not None
    assert connection.next_timeout() is None


@FEWER
@given(runs(wrong_requests, wrong_requests, wrong_clocks), any_settings)
def test_g2_a_call_that_a_connection_refuses_leaves_it_as_if_it_had_not_been_made(
    run: list[Op], settings: Settings
) -> None:
    check_refused_in_vain(ConnectionWorld(settings).do(run), new_connection(settings))


@FEWER
@given(runs(), any_roomy, st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_g3_how_the_bytes_of_a_connection_are_cut_does_not_matter(
    run: list[Op], settings: Settings, sizes: list[int]
) -> None:
    world = ConnectionWorld(settings).do(without(run, "offline"))
    check_cut_anywhere(world, new_connection(settings), sizes)


@FEWER
@given(runs(), any_roomy, st.lists(st.integers(0, 7), min_size=1, max_size=7))
def test_g4_pulling_what_a_connection_tells_late_changes_nothing(
    run: list[Op], settings: Settings, pulls: list[int]
) -> None:
    world = ConnectionWorld(settings).do(run)
    check_pulled_in_any_order(world, new_connection(settings), pulls)


@FEWER
@given(runs(), any_roomy, st.lists(few_chunks, min_size=1, max_size=7))
def test_g4_pulling_the_bytes_of_a_connection_late_decides_only_what_was_not_sent(
    run: list[Op], settings: Settings, chunks: list[int]
) -> None:
    settings = attrs.evolve(settings, keepalive=KeepaliveSettings(probe=Probe.NONE))
    world = ConnectionWorld(settings).do(without(run, *lasting))
    twin = replay(world.inputs, settings, chunks, machine=new_connection(settings))
    for step, other in zip(world.steps, twin, strict=True):
        assert without_delivery(other) == without_delivery(step)


@FEWER
@given(runs(wrong_clocks), any_settings)
def test_g5_nothing_of_a_connection_is_due_at_a_time_that_was_handled(
    run: list[Op], settings: Settings
) -> None:
    world = ConnectionWorld(settings).do(run)
    for one, step in zip(believed(world.steps), world.steps, strict=True):
        if one.name == "handle_timeout":
            assert step.told.next_timeout is None or step.told.next_timeout > one.now


@FEWER
@given(runs(wrong_clocks), any_roomy)
def test_g5_waking_a_connection_up_early_or_again_changes_nothing(
    run: list[Op], settings: Settings
) -> None:
    check_woken_in_vain(ConnectionWorld(settings).do(run), new_connection(settings))


@FEWER
@given(runs(), any_settings)
@example([op(World.online), *[op(World.request)] * 3, op(World.ended)], ONE_IN_FLIGHT)
def test_g7_each_request_that_a_connection_took_has_one_outcome(
    run: list[Op], settings: Settings
) -> None:
    world = ConnectionWorld(settings).do(run)
    world.stop(abort=True)
    check_outcomes(world)


@FEWER
@given(runs(), any_settings)
def test_g8_a_connection_is_over_once_and_what_comes_then_does_nothing(
    run: list[Op], settings: Settings
) -> None:
    world = ConnectionWorld(settings).do(run)
    check_dead_to_the_world(world, new_connection(settings))
    world.stop(abort=True)
    check_closed_once(world)


@FEWER
@given(runs(wrong_requests), any_settings)
def test_g9_what_is_over_in_a_connection_counts_no_more_whatever_way_it_left(
    run: list[Op], settings: Settings
) -> None:
    world = ConnectionWorld(settings)
    check_counted_out(world.do(run), world.alone.shared)


@FEWER
@given(runs(), any_settings, st.booleans(), st.sampled_from([0.0, 0.3, 7.0]))
def test_g10_time_alone_ends_a_connection_within_a_bound(
    run: list[Op], settings: Settings, taking: bool, late: float
) -> None:
    world = ConnectionWorld(settings).do(run)
    check_ended_by_time(world, taking=taking, late=late)
    assert not world.commands or world.machine.last_ending is not None


@FEWER
@given(st.lists(st.sampled_from(MEETINGS), max_size=3), runs(), any_roomy)
def test_g11_nothing_that_a_connection_shows_tells_a_secret_or_what_was_said(
    meetings: list[Op], run: list[Op], settings: Settings
) -> None:
    traced: list[Traced] = []
    world = ConnectionWorld(settings, URL, traced.append)
    world.online()
    world.do([*meetings, *run]).stop(abort=True)
    check_nothing_shown(world, traced)


@FEWER
@given(runs(), any_settings, st.lists(few_chunks, min_size=1, max_size=7))
@example([op(World.online), *[op(World.request, size=100_000)] * 2, op(World.cancel)], PLAIN, [1])
def test_g12_a_connection_sends_no_request_twice_and_none_that_it_calls_not_sent(
    run: list[Op], settings: Settings, chunks: list[int]
) -> None:
    world = ConnectionWorld(settings).do(run)
    world.stop(abort=True)
    check_sent_once(
        replay(world.inputs, settings, chunks, machine=new_connection(settings)), settings
    )
