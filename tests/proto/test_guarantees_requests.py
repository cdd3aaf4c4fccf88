"""G7 and G12: what becomes of a request (test_guarantees.py has the other guarantees)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import Delivery, Framing, Limits, Offline, Settings, events
from butter_proto.attempt import Shared, alone
from butter_proto.pending import REPLAY_WITHIN
from tests.proto.gateway_side import TOKEN, Peer
from tests.proto.operations import ALL, Holding, Ids, Op, Step, World, op, replay
from tests.proto.strategies import (
    all_settings,
    few_chunks,
    over_both_framings,
    runs,
    wrong_requests,
)

PLAIN = Settings(token=TOKEN)
HOLDING = Holding(token=TOKEN)
ONE_IN_FLIGHT = Settings(token=TOKEN, limits=Limits(max_in_flight=1))
UNANSWERED = {Delivery.NOT_SENT, Delivery.MAY_HAVE_EXECUTED}
STOPPED_BEFORE_IT_LEFT = [op(World.request), op(World.stop), op(World.wait, seconds=0.0)]
QUEUED = op(World.request, offline=Offline.QUEUE)
REPLAYED = op(World.request, replay=True, timeout=None)
AGAIN = [op(World.ended), op(World.online)]
_BEGINNING = re.compile(r'^.{,20}"id":"(\w+)"')


# --- G7 ------------------------------------------------------------------------------------------


@over_both_framings
@given(runs(), all_settings)
@example([op(World.online), *[op(World.request)] * 3, op(World.ended)], ONE_IN_FLIGHT)
@example([QUEUED, op(World.online), REPLAYED, *AGAIN, op(World.resynced)], HOLDING)
def test_g7_each_accepted_request_has_one_outcome_and_that_in_time(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    world.stop(abort=True)
    check_outcomes(world)


def check_outcomes(world: World) -> None:
    """Check that each accepted request had one outcome, and had it in time."""
    pending: dict[str, dict[str, Any]] = {}
    for step in world.steps:
        if step.input.name == "request" and not step.refused:
            pending[step.result] = step.input.options
        if step.input.name == "cancel" and step.result is not None:
            del pending[step.input.args[0]]
        for one in step.told.events:
            match one:
                case events.Replied() | events.RequestFailed():
                    del pending[one.id]
                case events.RequestAccepted():
                    assert one.id in pending
                case events.Offline():
                    assert all(may_outlive(options) for options in pending.values())
                case events.GaveUp() | events.Stopped():
                    assert not pending
                case _:
                    pass
        assert {one.id for one in step.told.queued} <= pending.keys()


def may_outlive(options: dict[str, Any]) -> bool:
    """Tell whether a request made with these options may outlive its connection."""
    return options.get("offline") is Offline.QUEUE or options.get("replay", False)


@over_both_framings
@given(runs(wrong_requests), all_settings)
@example([op(World.online), REPLAYED, *AGAIN, op(World.cancel)], PLAIN)
def test_g9_what_is_over_counts_no_more_whatever_way_it_left(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    """No place of the store and of the window is lost, and no byte."""
    world, shared = counted_world(attrs.evolve(settings, framing=framing))
    check_counted_out(world.do(run), shared)


def counted_world(settings: Settings) -> tuple[World, Shared]:
    """Make a world whose connector counts its requests where a test can look."""
    ids = Ids()
    shared = alone(settings, ids, hold_queue=isinstance(settings, Holding))
    world = World(settings, shared=shared)
    world.ids = ids
    return world, shared


def check_counted_out(world: World, shared: Shared) -> None:
    """Check that what is over counts no more, and after an end nothing does."""
    store, backlog, window = shared.store, shared.backlog, shared.window
    places = world.settings.limits.max_in_flight
    accepted = set(world.accepted)
    settled = {one.id for one in world.told if isinstance(one, events.Outcome)}
    settled |= {
        step.input.args[0]
        for step in world.steps
        if step.input.name == "cancel" and step.result is not None
    }
    assert store.pending == len(accepted - settled)
    pending_bytes = world.machine.pending_bytes + backlog.bytes
    assert (pending_bytes == 0) == (store.pending == 0)
    world.stop(abort=True)
    assert (store.pending, backlog.bytes, world.machine.pending_bytes) == (0, 0, 0)
    assert [window.take() for _ in range(places + 1)].count(True) == places
    assert backlog.next_timeout() is None


# --- G12 -----------------------------------------------------------------------------------------


@attrs.frozen
class Sending:
    """One time that anything of a request was sent."""

    id: str
    transport_id: int
    now: float
    boot_id: str | None
    """Of the connection's hello."""


@over_both_framings
@given(runs(), all_settings, st.lists(few_chunks, min_size=1, max_size=7))
@example([op(World.online), *[op(World.request, size=100_000)] * 2, op(World.cancel)], PLAIN, [1])
@example([op(World.online), *STOPPED_BEFORE_IT_LEFT], PLAIN, [*[ALL] * 5, 0, 0, ALL])
@example([QUEUED, op(World.online), QUEUED, *AGAIN, op(World.cancel)], PLAIN, [ALL])
@example([op(World.online), REPLAYED, *AGAIN, *AGAIN], PLAIN, [ALL])
def test_g12_no_request_goes_out_twice_and_none_that_is_called_not_sent(
    framing: Framing, run: list[Op], settings: Settings, chunks: list[int]
) -> None:
    """But where its caller asked for it, and then only by the rule of the replay."""
    settings = attrs.evolve(settings, framing=framing)
    world = World(settings).do(run)
    world.stop(abort=True)
    check_sent_once(replay(world.inputs, settings, chunks), settings)


def check_sent_once(steps: list[Step], settings: Settings) -> None:
    """Check what of each request was sent against what was asked, and what was told."""
    asked = {one.result: one.input.options for one in steps if one.input.name == "request"}
    sendings: dict[str, list[Sending]] = {}
    for one in sendings_of(steps, settings.framing):
        sendings.setdefault(one.id, []).append(one)
    for request_id, times in sendings.items():
        for before, again in pairwise(times):
            check_sent_again(asked[request_id], times[0], before, again, settings)
    for request_id, delivery in deliveries(steps).items():
        assert (request_id in sendings) == (delivery is Delivery.MAY_HAVE_EXECUTED)


def check_sent_again(
    options: dict[str, Any], first: Sending, before: Sending, again: Sending, settings: Settings
) -> None:
    """Check that a request could be sent once more."""
    asks_again = options.get("retry_unavailable", False)
    if before.transport_id == again.transport_id:
        assert asks_again
        assert again.now - before.now >= settings.reconnect.minimum
    elif not asks_again:  # a refused one did not run: it may go anywhere
        assert options.get("replay")
        assert first.boot_id is not None
        assert again.boot_id == first.boot_id
        assert again.now - first.now < REPLAY_WITHIN


def sendings_of(steps: list[Step], framing: Framing) -> Iterator[Sending]:
    """Yield each time that anything of a request was sent, in order."""
    peers: dict[int, Peer] = {}
    boots: dict[int, str | None] = {}
    for step in steps:
        for one in step.told.events:
            if isinstance(one, events.Online):
                boots[one.transport_id] = one.hello.boot_id
        for transport_id, data in step.told.sent.items():
            peer = peers.setdefault(transport_id, Peer(Ids(), framing))
            known = len(peer.texts)
            peer.read(data)
            for text in peer.texts[known:]:
                beginning = _BEGINNING.match(text)
                if beginning is not None and '"mark":' in text:  # no connect, no probe
                    boot_id = boots.get(transport_id)
                    yield Sending(beginning[1], transport_id, step.input.now, boot_id)


def deliveries(steps: list[Step]) -> dict[str, Delivery]:
    """Return what was said of the requests that got no answer, those cancelled included."""
    said_of = {}
    for step in steps:
        if isinstance(step.result, Delivery):
            said_of[step.input.args[0]] = step.result
        for one in step.told.events:
            if isinstance(one, events.RequestFailed):
                said_of[one.id] = one.delivery
    return {request_id: one for request_id, one in said_of.items() if one in UNANSWERED}
