"""The pool as a whole: what it is told to be, what it shows, how it starts and stops."""

from __future__ import annotations

from random import Random

import pytest

from butter_proto import (
    Credentials,
    EndKind,
    FaultKind,
    Framing,
    GatewayError,
    InvalidSettings,
    LocalProtocolError,
    NotOnline,
    Offline,
    Pool,
    PoolGateway,
    ReconnectSettings,
    Settings,
    TransportFault,
    events,
)
from butter_proto.machine import OpenTransport, State
from tests.proto.pool_scenario import PORT, PoolScenario, limited, url_of
from tests.proto.scenario import TOKEN

REFUSED = TransportFault(FaultKind.REFUSED, "nobody")
WRONG_TOKEN = GatewayError(
    "INVALID_REQUEST", "unauthorized", {"code": "AUTH_TOKEN_MISSING"}, retryable=False
)


def refuse_all(scenario: PoolScenario) -> None:
    """Let every gateway refuse its next connects for good."""
    for gateway in scenario.gateways.values():
        gateway.refuse_next(WRONG_TOKEN, times=9)


# --- start ---------------------------------------------------------------------------------------


def test_all_gateways_are_connected_and_the_first_one_online_is_primary() -> None:
    scenario = PoolScenario("a b c")
    assert [one.state for one in scenario.machine.health()] == [State.ONLINE] * 3
    assert [one.primary for one in scenario.machine.health()] == [True, False, False]
    assert scenario.machine.primary == "a"
    assert scenario.state() is State.ONLINE
    assert [type(one) for one in scenario.states] == [events.Connecting, events.Online]


def test_the_attempts_begin_in_a_random_order() -> None:
    firsts = set()
    for seed in range(20):
        pool = Pool(
            [url_of(name) for name in "abc"],
            random=Random(seed).random,
            entropy=Random(1).randbytes,
        )
        pool.start(0.0)
        command = pool.next_command()
        assert isinstance(command, OpenTransport)
        firsts.add(command.host)
    assert firsts == {"a.local", "b.local", "c.local"}


def test_a_random_number_of_one_is_no_place_beyond_the_last() -> None:
    scenario = PoolScenario("a b", random=lambda: 1.0)
    assert scenario.state() is State.ONLINE


def test_a_pool_starts_once_and_never_after_a_stop() -> None:
    scenario = PoolScenario()
    with pytest.raises(LocalProtocolError):
        scenario.machine.start(scenario.now)
    scenario = PoolScenario(start=False)
    scenario.machine.stop(scenario.now)
    with pytest.raises(LocalProtocolError):
        scenario.machine.start(scenario.now)
    assert scenario.machine.finished


def test_a_pool_without_gateways_gives_up_at_once_and_says_why() -> None:
    scenario = PoolScenario("")
    (gave_up,) = scenario.of(events.GaveUp)
    assert (gave_up.ending.kind, gave_up.advice) == (
        EndKind.STOPPED,
        "The pool has no gateway left: add one.",
    )
    with pytest.raises(NotOnline, match="no gateway left"):
        _ = scenario.machine.endpoint
    scenario.stop()


def test_transport_and_request_ids_are_unique_over_the_pool() -> None:
    scenario = PoolScenario("a b a2")
    transports = {one.transport_id for one in scenario.of(events.Connecting)}
    for name in ("a", "b", "a2"):
        transports |= {one.transport_id for one in scenario.of_gateway(name, events.Connecting)}
    assert transports == {1, 2, 3}
    received = [one.id for gateway in scenario.gateways.values() for one in gateway.received]
    assert len(set(received)) == len(received) == 3


# --- what it is told to be while nothing is online -----------------------------------------------


def test_while_all_are_down_the_pool_tells_the_next_attempt_of_any() -> None:
    scenario = PoolScenario(start=False)
    scenario.network.script_dials(*[REFUSED] * 2)
    scenario.machine.start(scenario.now)
    scenario.run()
    (retrying,) = scenario.of(events.Retrying)  # while b was still connecting there was none
    assert retrying.ending.fault == REFUSED
    assert retrying.attempt == 2
    assert retrying.delay == pytest.approx(0.3)
    assert scenario.state() is State.WAITING
    assert scenario.machine.retry_at == scenario.now + 0.3
    assert scenario.machine.last_ending == retrying.ending
    scenario.run(1.0)
    assert scenario.state() is State.ONLINE
    assert scenario.machine.retry_at is None


def test_one_that_still_connects_keeps_the_pool_connecting() -> None:
    scenario = PoolScenario(start=False)
    scenario.network.stall(address=("a.local", PORT))
    scenario.network.script_dials(REFUSED, address=("b.local", PORT))
    scenario.machine.start(scenario.now)
    scenario.run(0.1)
    assert len(scenario.of_gateway("b", events.Retrying)) == 1
    assert [type(one) for one in scenario.states] == [events.Connecting]


def test_the_pool_gives_up_when_its_last_gateway_does_with_the_advice_of_all() -> None:
    scenario = PoolScenario(start=False)
    refuse_all(scenario)
    scenario.machine.start(scenario.now)
    scenario.run()
    (gave_up,) = scenario.of(events.GaveUp)
    (of_a,) = scenario.of_gateway("a", events.GaveUp)
    (of_b,) = scenario.of_gateway("b", events.GaveUp)
    assert gave_up.ending == of_b.ending
    assert gave_up.advice == f"a: {of_a.advice} b: {of_b.advice}"
    assert [one.advice for one in scenario.machine.health()] == [of_a.advice, of_b.advice]
    assert scenario.state() is State.BLOCKED


def test_a_gateway_that_gave_up_says_nothing_of_the_pool_while_another_is_online() -> None:
    scenario = PoolScenario(start=False)
    scenario.gateways["a"].refuse_next(WRONG_TOKEN)
    scenario.machine.start(scenario.now)
    scenario.run(60.0)
    assert scenario.machine.primary == "b"
    assert scenario.of(events.GaveUp) == []


def test_what_waits_has_its_outcome_before_the_pool_gives_up() -> None:
    scenario = PoolScenario(start=False)
    refuse_all(scenario)
    waiting = scenario.machine.request(
        "health", now=scenario.now, offline=Offline.QUEUE, timeout=None
    )
    scenario.machine.start(scenario.now)
    scenario.run()
    outcome = scenario.failure(waiting)
    (gave_up,) = scenario.of(events.GaveUp)
    assert outcome.ending == gave_up.ending
    assert scenario.told.index(outcome) < scenario.told.index(gave_up)
    with pytest.raises(NotOnline):
        scenario.request(offline=Offline.QUEUE)


def test_reconnect_now_leaves_blocked_for_all_gateways_or_for_one() -> None:
    scenario = PoolScenario(start=False)
    scenario.gateways["a"].refuse_next(WRONG_TOKEN)
    scenario.gateways["b"].refuse_next(WRONG_TOKEN)
    scenario.machine.start(scenario.now)
    scenario.run()
    scenario.machine.reconnect_now(scenario.now, gateway="b")
    scenario.run()
    assert scenario.machine.primary == "b"
    assert scenario.machine.health()[0].state is State.BLOCKED
    scenario.machine.reconnect_now(scenario.now)
    scenario.run()
    assert scenario.machine.health()[0].state is State.ONLINE


def test_new_credentials_for_one_gateway_leave_the_others_as_they_were() -> None:
    scenario = PoolScenario("a b", Settings(token="wrong"))
    assert scenario.state() is State.BLOCKED
    scenario.machine.use_credentials(Credentials(token=TOKEN), scenario.now, gateway="b")
    scenario.run()
    assert [one.state for one in scenario.machine.health()] == [State.BLOCKED, State.ONLINE]
    with pytest.raises(InvalidSettings):
        scenario.machine.use_credentials(Credentials(token="x" * 70_000), scenario.now)
    scenario.machine.use_credentials(Credentials(token=TOKEN), scenario.now)
    scenario.run()
    assert [one.state for one in scenario.machine.health()] == [State.ONLINE, State.ONLINE]


def test_attempts_that_nobody_hears_of_are_held_back_for_all_gateways_together() -> None:
    scenario = PoolScenario("a b c d", limited(max_state_changes=4), start=False)
    scenario.network.pull_events = False
    scenario.machine.start(scenario.now)
    scenario.run()
    assert [one.connections for one in scenario.gateways.values()].count(1) < 4
    scenario.network.pull_events = True
    scenario.run(2.0)
    assert [one.connections for one in scenario.gateways.values()] == [1, 1, 1, 1]


# --- what it shows -------------------------------------------------------------------------------


def test_the_counters_of_all_gateways_are_added_up_those_that_left_too() -> None:
    scenario = PoolScenario("a b c")
    scenario.run(10.0)  # a probe each
    stats = scenario.machine.stats
    assert (stats.attempts, stats.online, stats.probes) == (3, 3, 3)
    assert stats.round_trip == scenario.machine.health()[0].stats.round_trip
    scenario.machine.remove("b", scenario.now)
    scenario.run(5.0)
    assert [one.name for one in scenario.machine.health()] == ["a", "c"]
    assert scenario.machine.stats.attempts == 3
    scenario.down("a")
    scenario.down("c")
    assert scenario.machine.stats.round_trip is None


def test_health_tells_how_each_gateway_is() -> None:
    scenario = PoolScenario()
    scenario.slow()
    scenario.request("slow")
    a, b = scenario.machine.health()
    assert (a.name, a.url, a.primary, a.priority, a.pending) == ("a", url_of("a") + "/", True, 0, 1)
    assert (b.name, b.primary, b.priority, b.pending, b.leaving) == ("b", False, 1, 0, False)
    assert a.hello is not None
    assert a.hello.boot_id == scenario.gateways["a"].boot_id
    assert (a.online_since, a.retry_at, a.last_ending, a.advice) == (scenario.now, None, None, "")
    scenario.down("a")
    a, _ = scenario.machine.health()
    assert a.online_since is None
    assert a.last_ending is not None
    assert a.retry_at is not None


def test_the_endpoint_is_the_primarys_or_the_first_ones() -> None:
    scenario = PoolScenario(start=False)
    assert scenario.machine.endpoint.host == "a.local"
    scenario.machine.start(scenario.now)
    scenario.run()
    scenario.down("a")
    assert scenario.machine.endpoint.host == "b.local"
    assert scenario.machine.max_event_bytes == Settings().limits.max_event_bytes


def test_a_probe_asks_all_gateways_or_one() -> None:
    scenario = PoolScenario()
    scenario.machine.probe(scenario.now, gateway="b")
    scenario.run()
    assert [one.stats.probes for one in scenario.machine.health()] == [0, 1]
    scenario.run(6.0)
    scenario.machine.probe(scenario.now)
    scenario.run()
    assert [one.stats.probes for one in scenario.machine.health()] == [1, 2]


def test_what_is_handed_out_is_dated_by_the_pools_present() -> None:
    """The driver says what time it is before it takes more; no connector is due at it."""
    settings = Settings(token=TOKEN, reconnect=ReconnectSettings())
    scenario = PoolScenario("a b", settings)
    scenario.machine.probe(scenario.now, gateway="b")  # asked for, not taken by the socket
    transport_id = scenario.of_gateway("b", events.Online)[0].transport_id
    scenario.machine.handle_timeout(scenario.now + 3.0)
    assert scenario.machine.data_to_send(transport_id)
    due = scenario.machine.next_timeout()
    assert due is not None
    while due < scenario.now + 8.0:  # its 5 s to answer run from when it was handed out
        scenario.machine.handle_timeout(due)
        assert scenario.machine.health()[1].stats.misses == 0
        due = scenario.machine.next_timeout()
        assert due is not None
    scenario.machine.handle_timeout(due)
    assert scenario.machine.health()[1].stats.misses == 1


def test_a_host_that_speaks_websocket_may_carry_a_pool() -> None:
    scenario = PoolScenario("a b", Settings(token=TOKEN, framing=Framing.MESSAGES))
    assert isinstance(scenario.outcome(scenario.request("health")), events.Replied)
    scenario.machine.probe(scenario.now)
    scenario.run()
    scenario.drop("a")
    scenario.run(1.0)
    assert scenario.machine.primary == "b"
    transport_id = scenario.of(events.Online)[-1].transport_id
    scenario.machine.receive_pong(transport_id, b"of no probe", scenario.now)
    assert scenario.state() is State.ONLINE
    scenario.stop()


# --- stop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("abort", [False, True])
def test_a_stop_gives_every_request_its_outcome_and_is_the_last_that_is_told(abort: bool) -> None:
    scenario = PoolScenario()
    scenario.slow()
    pending = [
        scenario.request("slow"),
        scenario.request("slow", gateway="b"),
        scenario.request("slow", replay=True, idempotency_key="k"),
    ]
    scenario.down("b")
    pending.append(scenario.request("slow", gateway="b", offline=Offline.QUEUE))
    scenario.machine.stop(scenario.now, abort=abort)
    scenario.run(2.0)
    scenario.network.check_finished()
    assert [type(one) for one in scenario.states[-2:]] == [events.Offline, events.Stopped]
    assert isinstance(scenario.told[-1], events.Stopped)
    assert all(scenario.outcome(one) for one in pending)


def test_a_stop_may_be_called_again_to_abort() -> None:
    scenario = PoolScenario()
    scenario.network.stall()
    scenario.machine.stop(scenario.now)
    scenario.run()
    assert not scenario.of(events.Stopped)
    scenario.machine.stop(scenario.now, abort=True)
    scenario.run()
    assert scenario.machine.finished
    scenario.machine.stop(scenario.now)
    scenario.run()
    assert len(scenario.of(events.Stopped)) == 1
    assert scenario.machine.next_timeout() is None


def test_nobody_takes_over_while_the_pool_is_being_stopped() -> None:
    scenario = PoolScenario()
    scenario.machine.stop(scenario.now)
    scenario.run(5.0)
    assert len(scenario.of(events.Online)) == 1


def test_after_a_stop_the_application_is_refused_and_nothing_else_happens() -> None:
    scenario = PoolScenario()
    scenario.network.stall()
    scenario.machine.stop(scenario.now)
    scenario.machine.remove("a", scenario.now)
    assert [one.leaving for one in scenario.machine.health()] == [False, False]
    scenario.run(5.0)
    with pytest.raises(LocalProtocolError):
        scenario.machine.add(url_of("c"), scenario.now)
    with pytest.raises(NotOnline):
        scenario.request(offline=Offline.QUEUE)
    scenario.machine.reconnect_now(scenario.now)
    scenario.machine.handle_timeout(scenario.now + 100.0)
    scenario.run()
    assert isinstance(scenario.told[-1], events.Stopped)


def test_the_names_of_an_unstarted_pool_are_known_and_its_state_is_idle() -> None:
    pool = Pool(
        [PoolGateway(url_of("a")), url_of("a"), PoolGateway(url_of("b"), name="other")],
        random=lambda: 0.0,
        entropy=bytes,
    )
    assert [one.name for one in pool.health()] == [f"a.local:{PORT}", f"a.local:{PORT}#2", "other"]
    assert [one.priority for one in pool.health()] == [0, 0, 1]
    assert pool.state is State.IDLE
    assert pool.next_timeout() is None
    assert (pool.primary, pool.retry_at, pool.last_ending) == (None, None, None)
