"""G7 and G12: what becomes of a request (test_guarantees.py has the other guarantees)."""

from __future__ import annotations

import re
from collections import Counter

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import Delivery, Framing, Limits, Settings, events
from tests.proto.gateway_side import TOKEN, Peer
from tests.proto.operations import ALL, Ids, Op, Step, World, op, replay
from tests.proto.strategies import all_settings, few_chunks, over_both_framings, runs

PLAIN = Settings(token=TOKEN)
ONE_IN_FLIGHT = Settings(token=TOKEN, limits=Limits(max_in_flight=1))
UNANSWERED = {Delivery.NOT_SENT, Delivery.MAY_HAVE_EXECUTED}
STOPPED_BEFORE_IT_LEFT = [op(World.request), op(World.stop), op(World.wait, seconds=0.0)]


@over_both_framings
@given(runs(), all_settings)
@example([op(World.online), *[op(World.request)] * 3, op(World.ended)], ONE_IN_FLIGHT)
def test_g7_each_accepted_request_has_one_outcome_and_that_in_time(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    world.stop(abort=True)
    pending: set[str] = set()
    for step in world.steps:
        if step.input.name == "request" and not step.refused:
            pending.add(step.result)
        if step.input.name == "cancel" and step.result is not None:
            pending.remove(step.input.args[0])
        for one in step.told.events:
            if isinstance(one, events.Outcome):
                pending.remove(one.id)
            if isinstance(one, events.RequestAccepted):
                assert one.id in pending
            if isinstance(one, events.Offline | events.GaveUp | events.Stopped):
                assert not pending


@over_both_framings
@given(runs(), all_settings, st.lists(few_chunks, min_size=1, max_size=7))
@example([op(World.online), *[op(World.request, size=100_000)] * 2, op(World.cancel)], PLAIN, [1])
@example([op(World.online), *STOPPED_BEFORE_IT_LEFT], PLAIN, [*[ALL] * 5, 0, 0, ALL])
def test_g12_no_request_goes_out_twice_and_none_that_is_called_not_sent(
    framing: Framing, run: list[Op], settings: Settings, chunks: list[int]
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    world.stop(abort=True)
    steps = replay(world.inputs, settings, chunks)
    texts = texts_of(steps, framing)
    left = Counter(re.findall(r'^.{,20}"id":"(\w+)"', "\n".join(texts), re.MULTILINE))
    marks = Counter(re.findall(r'"mark":(\d+)', "\n".join(texts)))
    assert len(left) == len(texts)
    assert all(times == 1 for times in (left | marks).values())
    for request_id, delivery in deliveries(steps).items():
        assert (request_id in left) == (delivery is Delivery.MAY_HAVE_EXECUTED)


def texts_of(steps: list[Step], framing: Framing) -> list[str]:
    """Return all messages of which anything was sent."""
    peers: dict[int, Peer] = {}
    for step in steps:
        for transport_id, data in step.told.sent.items():
            peers.setdefault(transport_id, Peer(Ids(), framing)).read(data)
    return [text for peer in peers.values() for text in peer.texts]


def deliveries(steps: list[Step]) -> dict[str, Delivery]:
    """Return what was said of the requests that got no answer, those cancelled included."""
    said_of = {}
    for step in steps:
        if isinstance(step.result, Delivery):
            said_of[step.input.args[0]] = step.result
        for one in step.told.events:
            if isinstance(one, events.RequestFailed) and one.delivery in UNANSWERED:
                said_of[one.id] = one.delivery
    return said_of
