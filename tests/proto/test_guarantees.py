"""The guarantees of the Machine contract, each as a property of a connector driven directly.

G5, G6 and G10 are in test_guarantees_time.py, G9 and G11 in test_guarantees_bounds.py.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import Settings, events
from butter_proto.errors import Delivery
from butter_proto.machine import STATE_AFTER, CloseTransport, OpenTransport
from butter_proto.settings import Limits
from tests.proto.gateway_side import (
    TOKEN,
    answered,
    challenged,
    close,
    event,
    frame,
    pushed,
    said,
    upgraded,
    welcomed,
)
from tests.proto.operations import (
    BEGIN,
    Input,
    Op,
    Step,
    Told,
    World,
    new_machine,
    op,
    pull,
    pull_bytes,
    pull_commands,
    pull_events,
    replay,
)
from tests.proto.strategies import (
    all_settings,
    few,
    roomy_settings,
    runs,
    wrong_clocks,
    wrong_requests,
)

PLAIN = Settings(token=TOKEN)
ONE_AT_A_TIME = Settings(token=TOKEN, limits=Limits(max_in_flight=1))
TRANSPORT_INPUTS = {"transport_opened", "receive_data", "transport_failed", "handle_timeout"}


def nested(depth: int, inside: str) -> bytes:
    """Write a refusal whose details are nested that deep."""
    details = '{"code":"PAIRING_REQUIRED","requestId":' + "[" * depth + inside + "]" * depth + "}"
    error = '{"code":"NOT_PAIRED","message":"x","details":' + details + "}"
    return frame(1, ('{"type":"res","id":"1","ok":false,"error":' + error + "}").encode())


# --- G1, G2 ---------------------------------------------------------------------------------------


@given(runs(wrong_clocks, size=30), all_settings)
def test_g1_no_transport_input_raises_whatever_the_bytes_and_their_order(
    run: list[Op], settings: Settings
) -> None:
    world = World(settings).do(run)
    assert not [step for step in world.steps if step.refused and step.input.name in TRANSPORT_INPUTS]


@given(st.integers(0, 4), st.lists(st.binary(min_size=1, max_size=200), max_size=5), all_settings)
def test_g1_noise_raises_nothing_in_any_phase(
    phase: int, noise: list[bytes], settings: Settings
) -> None:
    world = World(settings)
    world.start()
    if phase:
        world.opened()
    for speech in (upgraded, challenged, welcomed)[: max(0, phase - 1)]:
        world.say([speech])
    for data in noise:
        world.say([partial(said, data=data)])
    world.ended()
    assert world.machine.last_ending is not None or not phase


@pytest.mark.parametrize("depth", [10, 300, 480, 900, 990, 100_000])
def test_g1_a_refusal_nested_to_any_depth_raises_nothing(depth: int) -> None:
    world = World(PLAIN)
    world.start()
    world.opened()
    world.say([upgraded, challenged])
    world.say([partial(said, data=nested(depth, '"r"'))])
    assert world.machine.last_ending is not None


def test_g1_numbers_of_any_size_raise_nothing_and_can_be_shown() -> None:
    world = World(Settings(token=TOKEN, limits=Limits(max_events=1)))
    world.online()
    huge = 10**4299
    world.give("receive_data", 1, event("a", seq=huge))
    world.machine.receive_data(1, event("b", seq=huge + 1), BEGIN)
    for place in range(2, 20):  # each of them after a gap that is as large
        world.machine.receive_data(1, event("c", seq=huge * place // 2), BEGIN)
    assert all(repr(told) for told in pull_events(world.machine))


@given(runs(wrong_requests, wrong_requests), all_settings)
@example(
    [
        op(World.online),
        op(World.ask, method="", params=None),
        op(World.probe),
        op(World.request),
    ],
    PLAIN,
)
def test_g2_a_refused_call_leaves_the_machine_as_if_it_had_not_been_made(
    run: list[Op], settings: Settings
) -> None:
    world = World(settings).do(run)
    kept = [step for step in world.steps if not step.refused]
    twin = replay([step.input for step in kept], settings)
    assert [step.result for step in twin] == [step.result for step in kept]
    assert [step.told for step in twin] == [step.told for step in kept]
    assert all(not (step.told.events or step.told.sent) for step in world.steps if step.refused)


# --- G3, G4 ---------------------------------------------------------------------------------------


def cut(step: Input, sizes: list[int]) -> list[Input]:
    """Cut what is read into pieces of these sizes, over and over."""
    if step.name != "receive_data" or len(step.args[1]) < 2:
        return [step]
    transport_id, data = step.args
    pieces = []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(attrs.evolve(step, args=(transport_id, data[:size])))
        data = data[size:]
    return pieces


def frames_sent(told: Told) -> dict[int, tuple[list[bytes], list[bytes]]]:
    """Return the control frames and the other bytes that were sent, each in order."""
    result = {}
    for transport_id, data in told.sent.items():
        control, other = [], []
        if data.startswith(b"GET "):
            head, _, data = data.partition(b"\r\n\r\n")
            other.append(head)
        while data:
            length = data[1] & 0x7F
            header = 2 if length < 126 else 4
            size = header + 4 + (length if length < 126 else int.from_bytes(data[2:4]))
            key, body = data[header : header + 4], data[header + 4 : size]
            plain = bytes(byte ^ key[place % 4] for place, byte in enumerate(body))
            (control if data[0] & 8 else other).append(data[:1] + plain)
            data = data[size:]
        result[transport_id] = (control, other)
    return result


@given(runs(), roomy_settings, st.lists(st.integers(1, 60), min_size=1, max_size=5))
@example([op(World.online), op(World.say, speeches=[pushed_a := partial(pushed, name="a")])], PLAIN, [1])
def test_g3_bytes_cut_anywhere_say_and_cause_the_same(
    run: list[Op], settings: Settings, sizes: list[int]
) -> None:
    world = World(settings).do(run)
    pieces = [cut(step.input, sizes) for step in world.steps]
    twin = iter(replay([piece for part in pieces for piece in part], settings))
    for step, part in zip(world.steps, pieces, strict=True):
        told, *more = [next(twin).told for _ in part]
        for later in more:
            told += later
        assert told.events == step.told.events
        assert told.commands == step.told.commands
        assert frames_sent(told) == frames_sent(step.told)
        assert (told.next_timeout, told.state) == (step.told.next_timeout, step.told.state)
