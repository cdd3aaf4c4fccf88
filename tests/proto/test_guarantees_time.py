"""The guarantees about time: G5, G6 and G10 (test_guarantees.py has the others)."""

from __future__ import annotations

from functools import partial
from math import inf, nan

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import (
    Connector,
    EndKind,
    Framing,
    KeepaliveSettings,
    Limits,
    Probe,
    Settings,
    Timeouts,
)
from butter_proto.machine import CloseTransport, OpenTransport
from butter_proto.timers import TICK
from tests.proto.gateway_side import TOKEN, said
from tests.proto.operations import (
    URL,
    Op,
    World,
    believed,
    new_machine,
    op,
    pull,
    pull_commands,
    replay,
    wake_ups,
)
from tests.proto.strategies import (
    all_settings,
    keepalives,
    over_both_framings,
    roomy_settings,
    runs,
    wrong_clocks,
)

PLAIN = Settings(token=TOKEN)
NARROW = Settings(token=TOKEN, limits=Limits(max_state_changes=4))
TICKS_OF_SILENCE = 2 * 30.0

# --- G5, G6 --------------------------------------------------------------------------------------


@over_both_framings
@given(runs(wrong_clocks), all_settings)
@example([op(World.online), op(World.request, timeout=0.0005), op(World.wait, seconds=0.0)], PLAIN)
def test_g5_nothing_is_due_at_a_time_that_was_handled(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    check_nothing_due(World(settings).do(run))


def check_nothing_due(world: World) -> None:
    """Check the wake-up that is asked for after each one."""
    for one, step in zip(believed(world.steps), world.steps, strict=True):
        due = step.told.next_timeout
        if one.name == "handle_timeout":
            assert due is None or due >= one.now + TICK


def test_g5_what_becomes_due_while_it_is_handled_is_handled_too() -> None:
    machine = Connector(URL, PLAIN, random=lambda: 0.0, entropy=bytes)
    machine.start(0.0)
    machine.handle_timeout(15.0)  # the dial is given up, and the next one has no delay
    assert [type(one) for one in pull_commands(machine)] == [
        *(OpenTransport, CloseTransport, OpenTransport)
    ]


def check_woken_in_vain(world: World, machine: Connector) -> None:
    """Give a twin the same inputs, and wake it up between them whenever nothing is due."""
    for one, step in zip(believed(world.steps), world.steps, strict=True):
        assert one.give(machine) == step.result
        due = step.told.next_timeout
        if due is None or due > one.now:
            for now in (one.now, one.now - 5.0, nan, one.now):
                machine.handle_timeout(now)
        told = pull(machine, world.peers)
        assert attrs.evolve(told, next_timeout=due) == step.told
        if due is not None:
            assert told.next_timeout is not None
            assert due <= told.next_timeout <= due + TICK


@over_both_framings
@given(runs(wrong_clocks), roomy_settings)
def test_g5_waking_up_early_or_again_changes_nothing(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    check_woken_in_vain(world, new_machine(settings))


@over_both_framings
@given(runs(), all_settings, st.booleans(), st.booleans())
@example([op(World.start)], NARROW, True, False)
def test_g5_a_driver_that_sleeps_until_the_timeout_wakes_up_a_bounded_number_of_times(
    framing: Framing, run: list[Op], settings: Settings, taking: bool, listening: bool
) -> None:
    """8 a second: two timers for each probe, of which the strategy's settings allow 2 a second."""
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    world.wait(0.0)
    before = began = world.now
    woken = wake_ups(world, taking=taking, listening=listening)
    for count, (now, _) in enumerate(woken, start=1):
        assert now >= before + TICK
        assert count <= 20 + 8 * (now - began)
        before = now
        if now > began + 100.0:
            break


@over_both_framings
@given(runs(wrong_clocks, wrong_clocks), all_settings)
@example([op(World.wrong_clock, value=inf), op(World.start)], PLAIN)
@example([op(World.wrong_clock, value=nan), op(World.start)], PLAIN)
def test_g6_a_wrong_time_counts_as_the_largest_right_one_before_it(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    twin = replay(believed(world.steps), settings)
    assert [(step.result, step.told) for step in twin] == [
        (step.result, step.told) for step in world.steps
    ]


# --- G10 -----------------------------------------------------------------------------------------


def silence_of(keepalive: KeepaliveSettings) -> float:
    """Return the seconds of silence after which a connection is over."""
    if keepalive.probe is Probe.NONE:
        return TICKS_OF_SILENCE
    probed = keepalive.misses * keepalive.interval + keepalive.timeout
    return min(TICKS_OF_SILENCE, probed)


@over_both_framings
@given(runs(), all_settings, st.booleans(), st.sampled_from([0.0, 0.01, 0.3, 7.0]))
def test_g10_with_no_more_input_time_ends_every_connection_within_a_bound(
    framing: Framing, run: list[Op], settings: Settings, taking: bool, late: float
) -> None:
    """A verdict that comes late has a second look, which lasts one keepalive timeout."""
    settings = attrs.evolve(settings, framing=framing)
    check_ended_by_time(World(settings).do(run), taking=taking, late=late)


def check_ended_by_time(world: World, *, taking: bool, late: float) -> None:
    """Let only time pass until every transport was closed; fail where that takes too long."""
    world.wait(0.0)
    timeouts, keepalive = world.settings.timeouts, world.settings.keepalive
    silence = silence_of(keepalive) if late < 0.1 else TICKS_OF_SILENCE
    limit = max(timeouts.open, timeouts.challenge, timeouts.hello, timeouts.close, silence)
    limit += keepalive.timeout + 10 * late + 2 * TICK
    left = set(world.open)
    for now, commands in wake_ups(world, taking=taking, late=late):
        left -= {one.id for one in commands if isinstance(one, CloseTransport)}
        if now > world.now + limit:
            break
    assert not left


@over_both_framings
@given(keepalives, st.booleans())
def test_g10_a_silent_peer_is_found_gone_at_the_time_that_the_settings_give(
    framing: Framing, keepalive: KeepaliveSettings, taking: bool
) -> None:
    world = World(attrs.evolve(PLAIN, keepalive=keepalive, framing=framing))
    world.online()
    closed = next(now for now, commands in wake_ups(world, taking=taking) if commands)
    assert closed - world.now == pytest.approx(silence_of(keepalive))
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.kind is EndKind.SILENT_PEER


@pytest.mark.parametrize(
    ("framing", "phase", "seconds"),
    [
        *((framing, -1, 2.0) for framing in Framing),
        (Framing.BYTES, 0, 2.0),
        (Framing.MESSAGES, 0, 3.0),  # what opens there is upgraded already
        *((framing, 1, 3.0) for framing in Framing),
        *((framing, 2, 4.0) for framing in Framing),
    ],
    ids=str,
)
@pytest.mark.parametrize("taking", [True, False])
def test_g10_every_phase_before_online_has_its_own_limit(
    framing: Framing, phase: int, seconds: float, taking: bool
) -> None:
    world = World(Settings(token=TOKEN, timeouts=Timeouts(2.0, 3.0, 4.0), framing=framing))
    if phase < 0:
        world.start()
    else:
        world.online(phase)
    closed = next(now for now, commands in wake_ups(world, taking=taking) if commands)
    assert closed - world.now == pytest.approx(seconds)


def test_g10_a_refusal_whose_body_never_ends_is_over_in_a_second() -> None:
    world = World(PLAIN)
    world.online(phase=0)
    world.say([partial(said, data=b"HTTP/1.1 403 No\r\n\r\nand so on")])
    closed = next(now for now, commands in wake_ups(world, taking=True) if commands)
    assert closed - world.now == pytest.approx(1.0)


@over_both_framings
@pytest.mark.parametrize("taking", [True, False])
def test_g10_a_stop_is_over_in_the_close_timeout(framing: Framing, taking: bool) -> None:
    world = World(Settings(token=TOKEN, timeouts=Timeouts(close=0.5), framing=framing))
    world.online()
    world.stop()
    (closed, _), *more = wake_ups(world, taking=taking)
    assert (closed - world.now, more) == (0.5, [])
    assert world.machine.finished
