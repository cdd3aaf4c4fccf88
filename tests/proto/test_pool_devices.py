"""Devices inside a pool: each gateway has its own tokens, and what it tells has its name."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import pytest

from butter_proto import CLI, DeviceToken, Limits, Secret, Settings, events
from butter_proto.events import EventsMissed, FromGateway, GatewayEvent, MissReason
from tests.proto.gateway_side import (
    DEVICE_TOKEN,
    OTHER_DEVICE_TOKEN,
    TOKEN,
    challenged,
    pushed,
    refused,
    said,
    upgraded,
    welcomed,
)
from tests.proto.pool_operations import Plan, PoolWorld

AS_DEVICE = Settings(identity=CLI, token=TOKEN)
_T = TypeVar("_T")


def of(world: PoolWorld, name: str, kind: type[_T]) -> list[_T]:
    """The events of one type that one gateway told."""
    mine = [one.event for one in world.told if isinstance(one, FromGateway) and one.gateway == name]
    return [one for one in mine if isinstance(one, kind)]


def greeted(world: PoolWorld, transport_id: int, *more: Any) -> None:
    """Lead a connection to its hello, which brings a token, and let the gateway say more."""
    which = [*reversed(world.peers)].index(transport_id)
    world.opened(which)
    for speech in (upgraded, challenged, welcomed):
        world.say([speech], which=which)
    for speech in more:
        world.say([speech], which=which)


@pytest.fixture
def world() -> PoolWorld:
    world = PoolWorld(AS_DEVICE)
    world.start()
    return world


def test_each_gateway_that_a_device_signs_for_has_its_own_key(world: PoolWorld) -> None:
    keys = world.pool.token_keys
    assert [*keys] == ["a", "b"]
    assert keys["a"] != keys["b"]
    assert PoolWorld(Settings(token=TOKEN)).pool.token_keys == {}


def test_online_waits_for_the_token_of_its_own_gateway(world: PoolWorld) -> None:
    (first, second) = world.peers
    greeted(world, first)
    greeted(world, second)
    name, other = ("a", "b") if world.hosts[first] == "a.local" else ("b", "a")
    (issued,) = of(world, name, events.DeviceTokenIssued)
    assert issued.transport_id == first
    world.give("token_stored", first, True)
    assert len(of(world, name, events.Online)) == 1
    assert of(world, other, events.Online) == []
    assert of(world, name, events.ScopesReduced)
    assert world.pool.primary == name


def test_what_comes_before_online_is_told_where_that_makes_it_primary(world: PoolWorld) -> None:
    (first, second) = world.peers
    greeted(world, first, partial(pushed, name="chat", payload=1))
    greeted(world, second, partial(pushed, name="chat", payload=2, gap=2))
    assert [one for one in world.told if isinstance(one, GatewayEvent)] == []
    world.give("token_stored", first, True)
    world.give("token_stored", second, True)
    told = [one.event for one in world.told if isinstance(one, FromGateway)]
    assert [one.payload for one in told if isinstance(one, GatewayEvent)] == [1]
    assert not any(isinstance(one, EventsMissed) for one in told)
    store = world.machine._queue.store
    assert (store.droppable, store.event_bytes) == (0, 0)


def test_a_round_trip_before_online_is_told_of_a_warm_one_too(world: PoolWorld) -> None:
    (first, second) = world.peers
    greeted(world, first)
    world.give("token_stored", first, True)
    greeted(world, second)
    world.probe()
    pong = bytes([0x8A, len(world.peers[second].pings[-1])]) + world.peers[second].pings[-1]
    which = [*reversed(world.peers)].index(second)
    world.say([partial(said, data=pong)], which=which)
    world.give("token_stored", second, True)
    name = world.hosts[second][0]
    assert len(of(world, name, events.RoundTrip)) == 1


def test_a_refused_token_is_forgotten_and_another_one_tried_on_its_own_gateway() -> None:
    world = PoolWorld(Settings(identity=CLI), Plan(("a", "b")))
    kept = DeviceToken(Secret(DEVICE_TOKEN), ("operator.read",))
    world.give("start", device_tokens={"a": kept})
    transport_id = next(one for one, host in world.hosts.items() if host == "a.local")
    which = [*reversed(world.peers)].index(transport_id)
    world.opened(which)
    error = {"code": "INVALID_REQUEST", "details": {"code": "AUTH_DEVICE_TOKEN_MISMATCH"}}
    for speech in (upgraded, challenged, partial(refused, error=error)):
        world.say([speech], which=which)
    (rejected,) = of(world, "a", events.DeviceTokenRejected)
    newer = DeviceToken(Secret(OTHER_DEVICE_TOKEN), ("operator.read",))
    world.give("token_forgotten", rejected.transport_id, newer)
    assert len(of(world, "a", events.Retrying)) == 1


def test_a_loss_is_told_in_the_place_of_its_own_gateway() -> None:
    """Each of them overflows, one after the other; none is counted at the other one's place."""
    world = PoolWorld(
        Settings(token=TOKEN, limits=Limits(max_events=1)), Plan(("a", "b"))
    ).all_online()
    machine = world.machine
    sockets = {host[0]: transport_id for transport_id, host in world.hosts.items()}
    primary = world.pool.primary
    assert primary is not None
    warm = "b" if primary == "a" else "a"
    for _ in range(3):
        peer = world.peers[sockets[primary]]
        machine.receive_data(sockets[primary], pushed(peer, "chat"), world.now)
    machine.receive_data(sockets[primary], b"", world.now)
    for _ in range(2):
        peer = world.peers[sockets[warm]]
        machine.receive_data(sockets[warm], pushed(peer, "chat"), world.now)
    world.wait(0.0)
    missed = [
        (one.gateway, one.event)
        for one in world.told
        if isinstance(one, FromGateway) and isinstance(one.event, EventsMissed)
    ]
    assert missed == [
        (primary, EventsMissed(MissReason.OVERFLOW, 2)),
        (warm, EventsMissed(MissReason.OVERFLOW, 2)),
    ]
