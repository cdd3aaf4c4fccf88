"""The guarantees of the Machine contract for a pool.

test_guarantees.py and the files beside it have those of a connector.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf

import attrs
import hypothesis
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import (
    Delivery,
    KeepaliveSettings,
    Limits,
    Offline,
    Probe,
    Settings,
    events,
)
from butter_proto.election import POOL_FOLLOWERS
from butter_proto.machine import STATE_AFTER, CloseTransport, State
from butter_proto.timers import TICK
from tests.proto.gateway_side import TOKEN
from tests.proto.operations import (
    Op,
    Step,
    believed,
    op,
    pull,
    wake_ups,
)
from tests.proto.pool_operations import (
    Plan,
    PoolWorld,
    new_pool,
    plain,
    plans,
    pool_runs,
    replay_pool,
    replays,
)
from tests.proto.strategies import (
    any_roomy,
    any_settings,
    few_chunks,
    roomy_settings,
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
    Sending,
    check_sent_again,
    deliveries,
    sendings_of,
)
from tests.proto.test_guarantees_time import TICKS_OF_SILENCE, check_woken_in_vain, silence_of

PLAIN = Settings(token=TOKEN)
TWO = Plan()
FEWER = hypothesis.settings(max_examples=50)


# --- G1, G2 --------------------------------------------------------------------------------------


@FEWER
@given(pool_runs(wrong_clocks, replays), any_settings, plans)
def test_g1_nothing_raises_in_a_pool_and_its_state_events_keep_their_order(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run).stop(abort=True)
    check_order_in_a_pool(world)


def check_order_in_a_pool(world: PoolWorld) -> None:
    """Check the state events of a pool that was stopped, and of each of its gateways."""
    last: type[events.StateEvent] | None = None
    of_gateway: dict[str, type[events.StateEvent] | None] = {}
    for step in world.steps:
        for one in step.told.events:
            if isinstance(one, events.StateEvent):
                assert type(one) in POOL_FOLLOWERS[last]
                last = type(one)
            elif isinstance(one, events.FromGateway) and isinstance(one.event, events.StateEvent):
                before = of_gateway.get(one.gateway)
                assert type(one.event) in events.FOLLOWERS[before]
                of_gateway[one.gateway] = type(one.event)
                if isinstance(one.event, events.Stopped):
                    del of_gateway[one.gateway]  # its name is free again
        assert step.told.state is STATE_AFTER[last]
        assert step.told.retry_at is None or step.told.state is State.WAITING
    assert world.machine.finished
    assert world.machine.next_timeout() is None
    assert isinstance(world.told[-1], events.Stopped)


@FEWER
@given(pool_runs(wrong_requests, wrong_requests), any_settings, plans)
def test_g2_a_call_that_a_pool_refuses_leaves_it_as_if_it_had_not_been_made(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run)
    check_refused_in_vain(world, new_pool(settings, plan))


# --- G3, G4 --------------------------------------------------------------------------------------


@given(
    pool_runs(replays),
    roomy_settings,
    plans,
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
)
def test_g3_how_the_bytes_of_a_gateway_are_cut_does_not_matter_to_its_pool(
    run: list[Op], settings: Settings, plan: Plan, sizes: list[int]
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run)
    check_cut_anywhere(world, new_pool(settings, plan), sizes)


@FEWER
@given(pool_runs(replays), any_roomy, plans, st.lists(st.integers(0, 7), min_size=1, max_size=7))
def test_g4_pulling_a_pools_events_and_commands_late_changes_nothing(
    run: list[Op], settings: Settings, plan: Plan, pulls: list[int]
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run)
    check_pulled_in_any_order(world, new_pool(settings, plan), pulls)


@FEWER
@given(pool_runs(), any_roomy, plans, st.lists(few_chunks, min_size=1, max_size=7))
def test_g4_pulling_a_pools_bytes_late_decides_only_what_was_not_sent(
    run: list[Op], settings: Settings, plan: Plan, chunks: list[int]
) -> None:
    """Where everything fails that its connection drops: what left decides what is carried over."""
    settings = attrs.evolve(settings, keepalive=KeepaliveSettings(probe=Probe.NONE))
    run = [one for one in run if "offline" not in one.arguments]
    world = PoolWorld(settings, plan)
    world.do(run)
    twin = replay_pool(world.inputs, settings, plan, chunks)
    for step, other in zip(world.steps, twin, strict=True):
        assert without_delivery(unwrapped(other)) == without_delivery(unwrapped(step))


def unwrapped(step: Step) -> Step:
    """Return a step with its events without the names of their gateways."""
    told = attrs.evolve(step.told, events=tuple(plain(one) for one in step.told.events))
    return attrs.evolve(step, told=told)


# --- G5, G6, G10 ---------------------------------------------------------------------------------


@FEWER
@given(pool_runs(wrong_clocks, replays), any_settings, plans)
def test_g5_nothing_of_a_pool_is_due_at_a_time_that_was_handled(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run)
    for one, step in zip(believed(world.steps), world.steps, strict=True):
        due = step.told.next_timeout
        if one.name == "handle_timeout":
            assert due is None or due >= one.now + TICK


@FEWER
@given(pool_runs(wrong_clocks, replays), any_roomy, plans)
def test_g5_waking_a_pool_up_early_or_again_changes_nothing(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run)
    check_woken_in_vain(world, new_pool(settings, plan))


@FEWER
@given(pool_runs(replays), any_settings, plans, st.booleans(), st.booleans())
def test_g5_a_pool_lets_its_driver_sleep(
    run: list[Op], settings: Settings, plan: Plan, taking: bool, listening: bool
) -> None:
    """As one connector does, for each of its gateways."""
    world = PoolWorld(settings, plan)
    world.do(run).wait(0.0)
    before = began = world.now
    most = 5
    for count, (now, _) in enumerate(wake_ups(world, taking=taking, listening=listening), start=1):
        assert now >= before + TICK
        assert count <= most * (20 + 8 * (now - began))
        before = now
        if now > began + 100.0:
            break


@FEWER
@given(pool_runs(wrong_clocks, wrong_clocks, replays), any_settings, plans)
@example([op(PoolWorld.wrong_clock, value=inf), op(PoolWorld.start)], PLAIN, TWO)
def test_g6_a_wrong_time_counts_for_a_pool_as_the_largest_right_one_before_it(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run)
    twin = replay_pool(believed(world.steps), settings, plan)
    assert [(step.result, step.told) for step in twin] == [
        (step.result, step.told) for step in world.steps
    ]


@FEWER
@given(pool_runs(replays), any_settings, plans, st.booleans(), st.sampled_from([0.0, 0.3, 7.0]))
def test_g10_time_alone_ends_every_connection_of_a_pool_within_a_bound(
    run: list[Op], settings: Settings, plan: Plan, taking: bool, late: float
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run).wait(0.0)
    timeouts, keepalive = settings.timeouts, settings.keepalive
    silence = silence_of(keepalive) if late < 0.1 else TICKS_OF_SILENCE
    limit = max(timeouts.open, timeouts.challenge, timeouts.hello, silence) + timeouts.close
    limit += keepalive.timeout + 10 * late + 2 * TICK
    left = set(world.open)
    for now, commands in wake_ups(world, taking=taking, late=late):
        left -= {one.id for one in commands if isinstance(one, CloseTransport)}
        if now > world.now + limit:
            break
    assert not left


@given(st.sampled_from([0.0, 3.0, 30.0]), st.booleans())
def test_g10_one_that_leaves_is_gone_in_its_time(drain: float, answers: bool) -> None:
    world = PoolWorld(PLAIN, Plan(("a", "b"))).all_online()
    world.request(gateway="b", timeout=None)
    world.remove(1, drain)
    began = world.now
    if answers:
        world.ended(0)
    machine = world.pool
    for now, _ in wake_ups(world, taking=True):
        if now > began + drain + PLAIN.timeouts.close + 2 * TICK:
            break
    assert [one.name for one in machine.health()] == ["a"]


# --- G7, G12 -------------------------------------------------------------------------------------


@FEWER
@given(pool_runs(replays, replays), any_settings, plans)
def test_g7_each_request_that_a_pool_accepted_has_one_outcome(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    """And all have theirs before the pool gives up; a gateway that is drained may still answer."""
    world = PoolWorld(settings, plan)
    world.do(run).stop(abort=True)
    check_outcomes_of_a_pool(world)


def check_outcomes_of_a_pool(world: PoolWorld) -> None:
    """Check what became of each request of a pool that was stopped."""
    pending: set[str] = set()
    drained = False
    for step in world.steps:
        drained = drained or step.input.name == "remove"
        if step.input.name == "request" and not step.refused:
            pending.add(step.result)
        if step.input.name == "cancel" and step.result is not None:
            pending.remove(step.input.args[0])
        for told in step.told.events:
            one = plain(told)
            if isinstance(one, events.Outcome):
                pending.remove(one.id)
            if isinstance(one, events.RequestAccepted):
                assert one.id in pending
            if isinstance(told, events.Stopped):
                assert not pending
            if isinstance(told, events.GaveUp) and not drained:
                assert not pending
    assert world.pool._queue.store.pending == 0


@FEWER
@given(pool_runs(replays), any_settings, plans, st.lists(few_chunks, min_size=1, max_size=7))
def test_g12_a_pool_sends_nothing_twice_but_replays_and_those_once_on_each_connection(
    run: list[Op], settings: Settings, plan: Plan, chunks: list[int]
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run).stop(abort=True)
    steps = [unwrapped(one) for one in replay_pool(world.inputs, settings, plan, chunks)]
    asked = {one.result: one.input.options for one in steps if one.input.name == "request"}
    sendings: dict[str, list[Sending]] = {}
    for sending in sendings_of(steps, settings.framing):
        sendings.setdefault(sending.id, []).append(sending)
    for request_id, times in sendings.items():
        for before, again in pairwise(times):
            first = times[0]
            if plan.shared_state:  # then any boot stands for the first one
                first = attrs.evolve(first, boot_id=again.boot_id)
            check_sent_again(asked[request_id], first, before, again, settings)
    for request_id, delivery in deliveries(steps).items():
        assert (request_id in sendings) == (delivery is Delivery.MAY_HAVE_EXECUTED)


# --- G8 ------------------------------------------------------------------------------------------


@FEWER
@given(pool_runs(replays), any_settings, plans)
def test_g8_each_transport_of_a_pool_is_closed_once(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run).stop(abort=True)
    check_closed_once(world)


@FEWER
@given(pool_runs(), any_roomy, plans)
def test_g8_inputs_for_a_transport_that_a_pool_closed_do_nothing(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run)
    check_dead_to_the_world(world, new_pool(settings, plan))


# --- G9 ------------------------------------------------------------------------------------------


def test_g9_a_pool_keeps_nothing_of_gateways_that_came_and_went() -> None:
    world = PoolWorld(PLAIN, Plan(("a",))).all_online()
    machine = world.pool
    for number in range(200):
        name = machine.add(f"ws://g{number}.local:1/{number}", world.now)
        machine.remove(name, world.now)
        pull(world.machine, [])
    membership = machine._membership
    assert len(machine.health()) == len(membership.members) == len(membership._owners) == 1
    assert membership._served == []
    assert machine.stats.attempts == 201


def test_g9_the_accepted_requests_of_all_gateways_count_together() -> None:
    settings = attrs.evolve(PLAIN, limits=Limits(max_pending=3))
    world = PoolWorld(settings).all_online()
    for options in ({}, {"gateway": "b"}, {"spread": True}):
        assert isinstance(world.request(timeout=1.0, **options), str)
    world.request(offline=Offline.QUEUE)
    assert world.steps[-1].refused
    world.machine.handle_timeout(world.now + 1.0)  # each has its outcome, and nobody pulled them
    world.request()
    assert world.steps[-1].refused
    world.request()
    assert not world.steps[-1].refused


# --- G11 -----------------------------------------------------------------------------------------


@given(pool_runs(replays), roomy_settings, plans)
def test_g11_nothing_that_a_pool_shows_tells_a_secret_or_what_was_said(
    run: list[Op], settings: Settings, plan: Plan
) -> None:
    world = PoolWorld(settings, plan)
    world.do(run)
    machine = world.pool
    shown = [
        repr(machine),
        repr(machine.health()),
        repr(machine.queued()),
        str(machine.last_ending),
    ]
    shown += [f"{one!r} {one}" for one in (*world.told, *world.commands)]
    shown += [str(step.result) for step in world.steps if step.refused]
    for words in shown:
        assert "QQ-" not in words
        assert "PP-" not in words
