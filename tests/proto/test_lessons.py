"""What users of such clients ran into: rows of the list of lessons that no other test names."""

from __future__ import annotations

import math
from random import Random

import attrs
import pytest

from butter_proto import (
    Delivery,
    EndKind,
    InvalidSettings,
    Limits,
    NotOnline,
    Settings,
    State,
    events,
)
from butter_proto.errors import GatewayError
from butter_proto.identity import Identity
from butter_proto.testing.conditions import Direction
from butter_proto.testing.network import VirtualNetwork
from butter_proto.testing.stand_in import StandInGateway
from tests.proto.scenario import ADDRESS, TOKEN, Scenario, quiet


def test_a_gateway_that_accepts_and_drops_at_once_is_not_hammered() -> None:
    """Row 1: neither TCP open nor the upgrade nor a hello takes the backoff to its first step."""
    scenario = Scenario()
    for _ in range(6):
        scenario.online()
        scenario.gateway.drop()
        scenario.until(events.Retrying)
    delays = [event.delay for event in scenario.of(events.Retrying)]
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]


def test_a_protocol_mismatch_stops_and_names_the_gateways_protocol() -> None:
    """Row 10."""
    error = GatewayError(
        "INVALID_REQUEST",
        "protocol mismatch",
        {"code": "PROTOCOL_MISMATCH", "expectedProtocol": 5, "clientMaxProtocol": 4},
    )
    scenario = Scenario(start=False)
    scenario.gateway.refuse_next(error, close_code=1002)
    scenario.machine.start(scenario.now)
    assert "protocol 5" in scenario.until(events.GaveUp).advice


def test_a_slow_handshake_just_under_the_limit_is_waited_for() -> None:
    """Row 11: a client timer shorter than the gateway's looks like clean closes."""
    scenario = Scenario(start=False)
    scenario.gateway.stall()
    scenario.machine.start(scenario.now)
    scenario.run(14.9)
    scenario.gateway.resume()
    scenario.online()
    assert scenario.machine.stats.attempts == 1


def test_a_herd_spreads_over_the_whole_backoff() -> None:
    """Rows 15 and 35: full jitter, on every attempt."""
    gateway = StandInGateway(token=TOKEN, max_unauthenticated=1000)
    network = VirtualNetwork({ADDRESS: gateway})
    herd = [
        Scenario(gateway=gateway, jitter=Random(seed).random, start=False).machine
        for seed in range(100)
    ]
    for machine in herd:
        network.add(machine)
        machine.start(network.now)
    network.run_until(lambda: gateway.online_peers == len(herd))
    gateway.drop()
    network.run_until(lambda: all(machine.state is State.WAITING for machine in herd))
    waits = sorted((machine.retry_at or math.nan) - network.now for machine in herd)
    assert waits[0] < 0.3
    assert waits[-1] > 0.9
    assert waits[50] == pytest.approx(0.5, abs=0.2)


def test_a_failed_request_tells_its_key_and_how_far_it_got() -> None:
    """Row 23: one idempotency key per logical send, given back with the outcome."""
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_in_flight=1)))
    scenario.gateway.reply("chat.send", delay=math.inf)
    scenario.online()
    left = scenario.request("chat.send", {"idempotencyKey": "first"})
    scenario.run(0.1)
    waiting = scenario.request("chat.send", {"idempotencyKey": "second"})
    scenario.run(0.1)
    scenario.gateway.drop()
    scenario.until(events.Offline)
    outcomes = [scenario.outcome(left), scenario.outcome(waiting)]
    assert [
        (outcome.idempotency_key, outcome.delivery)
        for outcome in outcomes
        if isinstance(outcome, events.RequestFailed)
    ] == [("first", Delivery.MAY_HAVE_EXECUTED), ("second", Delivery.NOT_SENT)]
    sent = [received.id for received in scenario.gateway.received]
    assert waiting not in sent


def test_an_idle_link_carries_traffic_of_its_own() -> None:
    """Row 24: proxies cut a link that is silent for 30 to 60 s; we never are for over 10."""
    scenario = Scenario()
    scenario.online()
    scenario.run(60.0)
    assert scenario.machine.stats.probes == 6


def test_a_wrong_client_id_is_refused_locally_with_the_list() -> None:
    """Row 29."""
    with pytest.raises(InvalidSettings, match=r"allowed: .*gateway-client"):
        Settings(identity=Identity("my-client", "backend"))


def test_an_application_that_does_not_read_keeps_its_link_alive() -> None:
    """Row 30: pings and probes are answered whether or not anything is pulled."""
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_events=10)))
    scenario.online()
    scenario.network.pull_events = False
    for _ in range(100):
        scenario.gateway.push("chat", "x")
        scenario.run(5.0)
    assert scenario.machine.state is State.ONLINE
    scenario.network.pull_events = True
    scenario.run(0.0)
    (missed,) = scenario.of(events.EventsMissed)
    assert missed.reason is events.MissReason.OVERFLOW
    told = scenario.of(events.GatewayEvent)
    assert missed.count is not None
    assert len(told) + missed.count == scenario.machine.stats.events


def test_requests_probes_and_stops_while_closing_are_harmless() -> None:
    """Row 31: sending while closing raised out of the library."""
    scenario = Scenario()
    scenario.online()
    scenario.gateway.close(1012, "service restart")
    scenario.until(events.Offline)
    with pytest.raises(NotOnline):
        scenario.request("echo")
    scenario.machine.probe(scenario.now)
    scenario.network.inject(b"\x89\x00\x81\x02{}")
    scenario.run(0.1)
    scenario.machine.stop(scenario.now)
    scenario.run(2.0)
    scenario.network.check_finished()


def test_a_dead_peer_is_dropped_without_a_close_handshake() -> None:
    """Row 32: after a keepalive failure every waiter is woken, and nobody waits for a Close."""
    scenario = Scenario(quiet())
    scenario.online()
    scenario.network.stall(Direction.DOWN)
    scenario.until(events.Offline)
    assert scenario.of(events.Offline)[0].ending.kind is EndKind.SILENT_PEER
    assert len(scenario.when(events.Retrying)) == 1
    assert scenario.when(events.Retrying) == scenario.when(events.Offline)


def test_the_misses_of_one_connection_do_not_count_for_the_next() -> None:
    """Row 33: ping state kept over a reconnect kills each new socket."""
    scenario = Scenario()
    scenario.online()
    scenario.gateway.stall()
    scenario.run(16.0)
    assert scenario.machine.stats.misses == 1
    scenario.network.cut()
    scenario.gateway.resume()
    scenario.until(events.Online)
    scenario.gateway.stall()
    began = scenario.now
    scenario.until(events.Offline)
    assert scenario.now - began == pytest.approx(25.0, abs=0.1)


def test_a_connection_that_is_not_online_does_not_say_so() -> None:
    """Row 37: is_connected said True while dead."""
    scenario = Scenario()
    scenario.online()
    scenario.gateway.stall()
    scenario.run(26.0)
    assert scenario.machine.state is not State.ONLINE


def test_secrets_of_the_hello_are_hidden_from_what_is_told_later() -> None:
    """G11 for what the gateway issued: wire.md 3 names them."""
    scenario = Scenario()
    hello = scenario.online()
    issued = hello.payload["auth"]["recoveryScope"]
    scenario.gateway.close(1008, f"bye {issued}")
    ending = scenario.until(events.Offline).ending
    assert ending.close_reason == "bye ***"
    assert issued not in repr(attrs.asdict(ending))
