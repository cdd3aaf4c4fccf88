"""The guarantees of the Machine contract, each as a property of a connector driven directly.

G5, G6 and G10 are in test_guarantees_time.py, G7 and G12 in test_guarantees_requests.py, G9 in
test_guarantees_bounds.py, G11 in test_guarantees_secrets.py.
"""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import (
    Connector,
    Delivery,
    Framing,
    KeepaliveSettings,
    Limits,
    Probe,
    ReconnectSettings,
    Settings,
    events,
)
from butter_proto.errors import FaultKind, TransportFault
from butter_proto.machine import STATE_AFTER, CloseTransport, OpenTransport, State
from tests.proto.gateway_side import (
    TOKEN,
    answered,
    close,
    event,
    frame,
    pushed,
    refused,
    said,
    sent_frames,
)
from tests.proto.operations import (
    HANDSHAKE,
    Input,
    Op,
    Step,
    World,
    new_machine,
    op,
    pull,
    pull_bytes,
    pull_commands,
    pull_events,
    replay,
)
from tests.proto.pool_operations import plain
from tests.proto.strategies import (
    HTTP_ANSWERS,
    RATE_LIMITED,
    all_settings,
    few_chunks,
    lasting,
    over_both_framings,
    roomy_settings,
    runs,
    without,
    wrong_clocks,
    wrong_requests,
)

PLAIN = Settings(token=TOKEN)
ENDINGS = (events.Retrying, events.GaveUp, events.Stopped)
UNANSWERED = {Delivery.NOT_SENT, Delivery.MAY_HAVE_EXECUTED}
A_LIFE = [
    *HANDSHAKE,
    partial(pushed, name="chat", gap=1),
    partial(said, data=frame(9, b"ping")),
    partial(said, data=close(1012, "service restart")),
]
ONE_IN_FLIGHT = Settings(token=TOKEN, limits=Limits(max_in_flight=1))
ONE_PENDING = Settings(token=TOKEN, limits=Limits(max_pending=1))
ONE_ATTEMPT = Settings(token=TOKEN, reconnect=ReconnectSettings(max_attempts=1))
LIMITED = partial(refused, error=RATE_LIMITED)
WRONG = op(World.ask, method="", params=None)
AHEAD = op(World.wrong_clock, value=50.0, from_now=True)


# --- G1, G2 --------------------------------------------------------------------------------------


@over_both_framings
@given(runs(wrong_clocks), all_settings)
def test_g1_no_transport_input_raises_whatever_the_bytes_and_their_order(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    World(settings).do(run).stop(abort=True)


@over_both_framings
@given(st.integers(-1, 4), st.lists(st.binary(min_size=1, max_size=200), max_size=5), all_settings)
def test_g1_noise_raises_nothing_from_the_dial_to_the_last_close(
    framing: Framing, phase: int, noise: list[bytes], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings)
    world.start()
    if phase >= 0:
        world.online(phase)
    if phase == 4:
        world.stop()
    for data in noise:
        world.say([partial(said, data=data)])
    world.ended()
    assert phase < 0 or world.machine.last_ending is not None


@pytest.mark.parametrize("phase", [0, 1, 2, 3])
@pytest.mark.parametrize("data", HTTP_ANSWERS)
def test_g1_no_http_answer_raises_in_any_phase(data: bytes, phase: int) -> None:
    world = World(PLAIN)
    world.meet(phase, [partial(said, data=data)])
    world.wait(1.0)
    world.ended()


@over_both_framings
@pytest.mark.parametrize("depth", [10, 300, 480, 900, 950, 990, 5000, 9900, 100_000])
def test_g1_a_refusal_nested_to_any_depth_raises_nothing(framing: Framing, depth: int) -> None:
    details = '{"code":"PAIRING_REQUIRED","requestId":' + "[" * depth + "]" * depth + "}"
    refusal = '{"type":"res","id":"1","ok":false,"error":{"code":"X","details":' + details + "}}"
    world = World(attrs.evolve(PLAIN, framing=framing))
    world.meet(2, [partial(said, data=frame(1, refusal.encode()))])
    assert world.machine.last_ending is not None


def test_g1_numbers_of_any_size_raise_nothing_and_what_they_add_up_to_can_be_shown() -> None:
    world = World(Settings(token=TOKEN, limits=Limits(max_events=1)))
    world.online()
    for number in (1, 10**4300 - 1, None, None):
        world.machine.receive_data(1, event("a", seq=number), world.now)
    assert "OVERFLOW" in "".join(map(repr, pull_events(world.machine)))
    assert repr(world.machine.stats)


@over_both_framings
@given(runs(wrong_requests, wrong_requests, wrong_clocks), all_settings, st.booleans())
@example([op(World.online), WRONG, op(World.probe)], PLAIN, True)
@example([op(World.online), WRONG, op(World.request)], ONE_PENDING, False)
@example([op(World.online), AHEAD, WRONG, op(World.probe)], PLAIN, True)
def test_g2_a_refused_call_leaves_the_machine_as_if_it_had_not_been_made(
    framing: Framing, run: list[Op], settings: Settings, each: bool
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    check_refused_in_vain(world, new_machine(settings), each=each)


def check_refused_in_vain(world: World, machine: Connector, *, each: bool = True) -> None:
    """Give a twin the same inputs but those that were refused: all of them, or the first."""
    refused = [step for step in world.steps if step.refused]
    left_out = {id(step) for step in (refused if each else refused[:1])}
    kept = [step for step in world.steps if id(step) not in left_out]
    idle = pull(machine, [])
    twin = replay([step.input for step in kept], world.settings, machine=machine)
    assert [(step.result, step.told) for step in twin] == [
        (step.result, step.told) for step in kept
    ]
    for before, step in zip(
        [idle, *(step.told for step in world.steps)], world.steps, strict=False
    ):
        if step.refused:  # it told nothing, and nothing else has changed
            assert step.told == attrs.evolve(before, events=(), commands=(), sent={})


# --- G3, G4 --------------------------------------------------------------------------------------


def cut(one: Input, sizes: list[int]) -> list[Input]:
    """Cut what is read into pieces of these sizes, over and over."""
    if one.name != "receive_data" or not one.args[1]:
        return [one]
    transport_id, data = one.args
    pieces = []
    for size in cycle(sizes):
        pieces.append(attrs.evolve(one, args=(transport_id, data[:size])))
        data = data[size:]
        if not data:
            return pieces
    raise AssertionError


def by_kind(data: bytes) -> tuple[list[Any], list[Any]]:
    """Return the control frames that were sent, and everything else, each in its order."""
    head, frames = sent_frames(data)
    control = [one for one in frames if one[0] & 8]
    return control, [head, *(one for one in frames if not one[0] & 8)]


@given(runs(), roomy_settings, st.lists(st.integers(1, 60), min_size=1, max_size=5))
@example([op(World.meet, phase=0, speeches=A_LIFE)], PLAIN, [1])
def test_g3_bytes_cut_anywhere_say_the_same_and_cause_the_same(
    run: list[Op], settings: Settings, sizes: list[int]
) -> None:
    """But what an ending drops, which decides what goes back to the queue: that is left out."""
    world = World(settings).do(without(run, "offline"))
    check_cut_anywhere(world, new_machine(settings), sizes)


def check_cut_anywhere(world: World, machine: Connector, sizes: list[int]) -> None:
    """Give a twin the same inputs with the bytes in pieces of these sizes.

    Control frames overtake messages, and an ending drops what was not handed out before it.
    """
    pieces = [cut(step.input, sizes) for step in world.steps]
    inputs = [piece for part in pieces for piece in part]
    twin = iter(replay(inputs, world.settings, machine=machine))
    for step, part in zip(world.steps, pieces, strict=True):
        whole = step.told
        told, *more = [next(twin).told for _ in part]
        for later in more:
            told += later
        assert attrs.evolve(told, sent={}) == attrs.evolve(whole, sent={})
        ended = any(isinstance(plain(one), ENDINGS) for one in whole.events)
        for transport_id in told.sent | whole.sent:
            kinds = by_kind(told.sent.get(transport_id, b""))
            for left, left_whole in zip(
                kinds, by_kind(whole.sent.get(transport_id, b"")), strict=True
            ):
                assert (left[: len(left_whole)] if ended else left) == left_whole


def test_g3_what_an_ending_in_the_same_bytes_withdraws_was_not_sent() -> None:
    reply, goodbye = partial(answered, which=0), partial(said, data=close(1000))
    for parts, delivery in (
        ([[reply, goodbye]], Delivery.NOT_SENT),
        ([[reply], [goodbye]], Delivery.MAY_HAVE_EXECUTED),
    ):
        world = World(ONE_IN_FLIGHT)
        world.online()
        world.request()
        waiting = world.request()
        for speeches in parts:
            world.say(speeches)
        (failed,) = (one for one in world.told if isinstance(one, events.RequestFailed))
        assert (failed.id, failed.delivery) == (waiting, delivery)


def check_pulled_in_any_order(world: World, machine: Connector, pulls: list[int]) -> None:
    """Give a twin the same inputs, and pull its queues in the order that the bits say."""
    told: list[events.Event] = []
    commands: list[Any] = []
    for step, bits in zip(world.steps, cycle(pulls)):
        assert step.input.give(machine) == step.result
        if bits & 1:
            told += pull_events(machine)
        sent = pull_bytes(machine, world.peers)
        if bits & 2:
            commands += pull_commands(machine)
        if bits & 4:
            told += pull_events(machine)
        assert (sent, machine.next_timeout()) == (step.told.sent, step.told.next_timeout)
    assert [*told, *pull_events(machine)] == world.told
    assert [*commands, *pull_commands(machine)] == world.commands


@over_both_framings
@given(runs(), roomy_settings, st.lists(st.integers(0, 7), min_size=1, max_size=7))
def test_g4_pulling_events_and_commands_late_or_in_another_order_changes_nothing(
    framing: Framing, run: list[Op], settings: Settings, pulls: list[int]
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    check_pulled_in_any_order(world, new_machine(settings), pulls)


@over_both_framings
@given(runs(), roomy_settings, st.lists(few_chunks, min_size=1, max_size=7))
def test_g4_pulling_bytes_late_decides_only_what_was_not_sent(
    framing: Framing, run: list[Op], settings: Settings, chunks: list[int]
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    settings = attrs.evolve(settings, keepalive=KeepaliveSettings(probe=Probe.NONE))
    world = World(settings).do(without(run, *lasting))
    twin = replay(world.inputs, settings, chunks)
    for step, other in zip(world.steps, twin, strict=True):
        assert without_delivery(other) == without_delivery(step)


def without_delivery(step: Step) -> tuple[Any, ...]:
    """Return what a step did, but for what depends on when bytes are pulled."""
    told = [
        attrs.evolve(one, delivery=Delivery.NOT_SENT)
        if isinstance(one, events.RequestFailed) and one.delivery in UNANSWERED
        else one
        for one in step.told.events
        if not isinstance(one, events.ClockLate)  # for an abandoned request's place
    ]
    result = None if step.result is None else step.result in UNANSWERED or step.result
    return told, step.told.commands, step.told.state, result


# --- G8 ------------------------------------------------------------------------------------------


@over_both_framings
@given(runs(), all_settings)
@example([op(World.start), op(World.stop)], PLAIN)
def test_g8_each_transport_that_is_opened_is_closed_once(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    world.stop(abort=True)
    check_closed_once(world)


def check_closed_once(world: World) -> None:
    """Check that each transport was opened once, and closed once after that."""
    seen: set[int] = set()
    left: set[int] = set()
    for command in world.commands:
        if isinstance(command, OpenTransport):
            assert command.id not in seen
            seen.add(command.id)
            left.add(command.id)
        else:
            left.remove(command.id)
    assert not left


@over_both_framings
@pytest.mark.parametrize("last", [op(World.ended), op(World.failed, kind=FaultKind.RESET)], ids=str)
@pytest.mark.parametrize("phase", [0, 1, 2, 3, 4])
def test_g8_a_transport_that_ended_or_failed_is_closed_at_once(
    framing: Framing, phase: int, last: Op
) -> None:
    world = World(attrs.evolve(PLAIN, framing=framing))
    world.online(phase)
    if phase == 4:
        world.stop()
    world.do([last])
    assert world.steps[-1].told.commands == (CloseTransport(1),)


OF_ONE_FRAMING = {
    Framing.BYTES: (("receive_data", b"HTTP/1.1 101 Late\r\n\r\n"), ("receive_data", b"")),
    Framing.MESSAGES: (
        ("receive_message", "{}"),
        ("receive_pong", b""),
        ("transport_closed", 1000, ""),
    ),
}
FOR_THE_DEAD = (
    ("transport_opened",),
    *OF_ONE_FRAMING[Framing.BYTES],
    *OF_ONE_FRAMING[Framing.MESSAGES],
    ("transport_failed", TransportFault(FaultKind.RESET)),
)


@over_both_framings
@given(runs(), roomy_settings)
def test_g8_inputs_for_a_transport_that_is_closed_do_nothing(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    check_dead_to_the_world(world, new_machine(settings))


def check_dead_to_the_world(world: World, machine: Connector) -> None:
    """Give a twin the same inputs, and between them others for transports that are closed."""
    dead = {0, 10_000}
    for step in world.steps:
        assert step.input.give(machine) == step.result
        dead |= {one.id for one in step.told.commands if isinstance(one, CloseTransport)}
        for transport_id in dead:  # its CloseTransport is queued, and not pulled yet
            for name, *args in FOR_THE_DEAD:
                Input(name, step.input.now, (transport_id, *args)).give(machine)
        assert pull(machine, world.peers) == step.told


@over_both_framings
@given(runs(), roomy_settings)
def test_g8_inputs_of_the_other_framing_do_nothing(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    (others,) = (names for one, names in OF_ONE_FRAMING.items() if one is not framing)
    world = World(settings).do(run)
    machine = new_machine(settings)
    for step in world.steps:
        assert step.input.give(machine) == step.result
        for transport_id in world.peers:
            for name, *args in others:
                Input(name, step.input.now, (transport_id, *args)).give(machine)
        assert pull(machine, world.peers) == step.told
    assert machine.stats == world.machine.stats


# --- the order of state events -------------------------------------------------------------------


@over_both_framings
@given(runs(), all_settings)
@example([op(World.meet, phase=2, speeches=[LIMITED]), op(World.reconnect_now)], ONE_ATTEMPT)
def test_the_state_follows_the_events_in_their_order(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    world.stop(abort=True)
    check_order(world)


def check_order(world: World) -> None:
    """Check the state events of a connector that was stopped."""
    last: type[events.StateEvent] | None = None
    for step in world.steps:
        for one in step.told.events:
            if isinstance(one, events.StateEvent):
                assert type(one) in events.FOLLOWERS[last]
                last = type(one)
        assert step.told.state is STATE_AFTER[last]
        assert step.told.retry_at is None or step.told.state is State.WAITING
    assert world.machine.finished
    assert isinstance(world.told[-1], events.Stopped)
