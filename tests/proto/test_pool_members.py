"""How gateways come to a pool and leave it."""

from __future__ import annotations

from math import inf, nan

import pytest

from butter_proto import (
    Delivery,
    Device,
    DeviceToken,
    FaultKind,
    InvalidParams,
    InvalidSettings,
    NotOnline,
    Offline,
    PoolGateway,
    Secret,
    Settings,
    TransportFault,
    events,
)
from butter_proto.events import EventsMissed, FromGateway, Replied
from butter_proto.machine import State
from butter_proto.pool import DRAIN_LIMIT
from butter_proto.pool_gateway import REMEMBERED
from tests.proto.pool_scenario import PORT, PoolScenario, limited, url_of
from tests.proto.test_pool_failover import REPLAY
from tests.proto.test_pool_requests import at


class NeverFails:
    """A signer whose signature means nothing."""

    public_key = bytes(range(32))

    def sign(self, message: bytes) -> bytes:
        return message[:64].ljust(64)


def names(scenario: PoolScenario) -> list[str]:
    return [one.name for one in scenario.machine.health()]


# --- coming --------------------------------------------------------------------------------------


def test_one_that_is_added_is_connected_at_once_behind_the_others() -> None:
    scenario = PoolScenario()
    name = scenario.machine.add(url_of("c"), scenario.now)
    scenario.run()
    assert name == f"c.local:{PORT}"
    health = scenario.machine.health()[-1]
    assert (health.name, health.state, health.priority) == (name, State.ONLINE, 2)
    assert scenario.machine.primary == "a"


def test_one_that_is_added_before_the_start_waits_for_it_with_its_token() -> None:
    scenario = PoolScenario(start=False)
    token = DeviceToken(Secret("kept"), ("operator.read",))
    gateway = PoolGateway(url_of("c"), name="c", settings=Settings(), device=Device(NeverFails()))
    scenario.machine.add(gateway, scenario.now, device_token=token)
    scenario.run()
    assert scenario.told == []
    scenario.machine.start(scenario.now)
    scenario.run()
    (connect,) = scenario.seen("c", "connect")
    assert connect["auth"]["deviceToken"] == "kept"


def test_the_first_one_that_is_added_to_an_empty_pool_makes_it_connect() -> None:
    scenario = PoolScenario("")
    assert scenario.state() is State.BLOCKED
    scenario.machine.add(url_of("a"), scenario.now)
    scenario.run()
    assert [type(one) for one in scenario.states] == [
        events.GaveUp,
        events.Connecting,
        events.Online,
    ]


def test_a_better_one_that_is_added_takes_over_when_it_was_stable() -> None:
    scenario = PoolScenario()
    scenario.machine.add(PoolGateway(url_of("c"), name="c", priority=-1), scenario.now)
    scenario.run(9.9)
    assert scenario.machine.primary == "a"
    scenario.run(0.1)
    assert scenario.machine.primary == "c"


def test_a_refused_addition_changes_nothing() -> None:
    scenario = PoolScenario()
    before = scenario.machine.health()
    for wrong in ("http://a", PoolGateway(url_of("c"), name="a"), "ws://example.com"):
        with pytest.raises(InvalidSettings):
            scenario.machine.add(wrong, scenario.now)
    assert scenario.machine.health() == before


# --- going ---------------------------------------------------------------------------------------


def test_one_that_is_removed_is_drained_and_then_told_to_have_stopped() -> None:
    scenario = PoolScenario("a b c")
    scenario.slow()
    request_id = scenario.request("slow", gateway="b")
    scenario.machine.remove("b", scenario.now)
    scenario.run()
    assert [one.leaving for one in scenario.machine.health()] == [False, True, False]
    with pytest.raises(NotOnline, match="'b'"):
        scenario.request(gateway="b")
    with pytest.raises(NotOnline):
        scenario.request(gateway="b", offline=Offline.QUEUE)
    scenario.slow("health")
    for _ in range(4):
        scenario.request("health", spread=True)
    assert scenario.seen("b", "health") == []
    scenario.run(5.1)
    assert isinstance(scenario.outcome(request_id), Replied)
    assert names(scenario) == ["a", "c"]
    last = [one for one in scenario.told if isinstance(one, FromGateway) and one.gateway == "b"][-1]
    assert last == FromGateway("b", events.Stopped())
    assert scenario.gateways["b"].online_peers == 0


def test_nobody_waits_for_one_that_has_nothing_to_answer() -> None:
    scenario = PoolScenario()
    scenario.machine.remove("b", scenario.now)
    scenario.run()
    assert names(scenario) == ["a"]


@pytest.mark.parametrize("drain", [0, 3.0, DRAIN_LIMIT])
def test_its_time_is_bounded_whatever_it_has(drain: float) -> None:
    scenario = PoolScenario()
    scenario.slow(delay=1000.0)
    request_id = scenario.request("slow", gateway="b", timeout=None)
    scenario.machine.remove("b", scenario.now, drain=drain)
    if drain:
        scenario.run(drain - 0.001)
        assert scenario.outcome(request_id) is None
        scenario.run(0.001)
    scenario.run()
    assert scenario.failure(request_id).delivery is Delivery.MAY_HAVE_EXECUTED


def test_a_second_word_may_shorten_its_time_and_never_lengthens_it() -> None:
    scenario = PoolScenario()
    scenario.slow(delay=1000.0)
    scenario.request("slow", gateway="b", timeout=None)
    for drain in (20.0, 5.0, 30.0):
        scenario.machine.remove("b", scenario.now, drain=drain)
    scenario.run(4.999)
    assert names(scenario) == ["a", "b"]
    scenario.network.stall()
    scenario.run(0.001)
    scenario.machine.remove("b", scenario.now)  # its Close frame is under way
    assert names(scenario) == ["a", "b"]
    scenario.run(1.0)
    assert names(scenario) == ["a"]


@pytest.mark.parametrize("drain", [-1.0, nan, inf])
def test_a_time_that_is_none_is_refused(drain: float) -> None:
    scenario = PoolScenario()
    with pytest.raises(InvalidParams):
        scenario.machine.remove("b", scenario.now, drain=drain)
    with pytest.raises(InvalidParams):
        scenario.machine.remove("nobody", scenario.now)
    assert [one.leaving for one in scenario.machine.health()] == [False, False]


def test_a_primary_that_is_removed_hands_over_before_it_is_drained() -> None:
    scenario = PoolScenario()
    scenario.slow()
    request_id = scenario.request("slow")
    scenario.machine.remove("a", scenario.now)
    scenario.run()
    assert scenario.machine.primary == "b"
    assert len(scenario.of(EventsMissed)) == 1
    scenario.run(6.0)
    assert isinstance(scenario.outcome(request_id), Replied)
    assert names(scenario) == ["b"]


def test_a_primary_that_is_removed_serves_on_until_another_one_comes() -> None:
    scenario = PoolScenario()
    scenario.slow()
    scenario.down("b", 2.0)
    request_id = scenario.request("slow")
    scenario.machine.remove("a", scenario.now)
    scenario.run()
    assert (scenario.machine.primary, scenario.state()) == ("a", State.ONLINE)
    with pytest.raises(NotOnline):
        scenario.request()
    waiting = scenario.request("echo", offline=Offline.QUEUE)
    assert [one.id for one in scenario.machine.queued()] == [waiting]
    scenario.run(4.0)
    assert scenario.machine.primary == "b"
    assert isinstance(scenario.outcome(waiting), Replied)
    assert scenario.seen("a", "echo") == []
    scenario.run(4.0)
    assert isinstance(scenario.outcome(request_id), Replied)
    assert scenario.of(events.Offline) == []


def test_removing_the_last_one_ends_what_waits_and_the_pool_says_that_it_is_empty() -> None:
    scenario = PoolScenario("a")
    scenario.slow()
    request_id = scenario.request("slow")
    scenario.machine.remove("a", scenario.now)
    waiting = scenario.machine
    scenario.run(10.0)
    assert isinstance(scenario.outcome(request_id), Replied)
    assert [type(one) for one in scenario.states[-2:]] == [events.Offline, events.GaveUp]
    assert scenario.of(events.GaveUp)[0].advice == "The pool has no gateway left: add one."
    assert waiting.health() == ()
    assert scenario.machine.next_timeout() is None
    scenario.stop()


def test_while_the_removed_primary_says_goodbye_the_pool_tells_of_the_others() -> None:
    scenario = PoolScenario("a b")
    scenario.down("b", 3.0)
    scenario.network.stall(address=("a.local", PORT))
    scenario.machine.remove("a", scenario.now)
    scenario.run()
    assert [type(one) for one in scenario.states[-2:]] == [events.Offline, events.Retrying]
    assert names(scenario) == ["a", "b"]
    scenario.run(5.0)
    assert scenario.machine.primary == "b"


def test_one_that_connects_when_the_removed_primary_says_goodbye_may_come_online_then() -> None:
    scenario = PoolScenario("a b")
    scenario.down("b", 1.0)
    scenario.network.stall(address=("b.local", PORT))
    scenario.run(2.0)
    assert scenario.machine.health()[1].state is State.CONNECTING
    scenario.network.stall(address=("a.local", PORT))
    scenario.machine.remove("a", scenario.now)
    scenario.run(0.1)
    assert [type(one) for one in scenario.states[-2:]] == [events.Offline, events.Connecting]
    scenario.network.heal()
    scenario.run(0.1)
    assert scenario.machine.primary == "b"


def test_removing_the_only_one_that_still_hoped_lets_the_pool_give_up() -> None:
    scenario = PoolScenario("a b")
    scenario.gateways["b"].token = "changed"
    scenario.drop("b")
    scenario.run(5.0)
    scenario.down("a")
    scenario.machine.remove("a", scenario.now)
    scenario.run()
    assert scenario.state() is State.BLOCKED
    assert scenario.of(events.GaveUp)[0].advice.startswith("b: ")


def test_one_that_is_removed_before_the_start_was_never_there() -> None:
    scenario = PoolScenario("a b", start=False)
    request_id = scenario.request(gateway="b", offline=Offline.QUEUE, timeout=None)
    scenario.machine.remove("a", scenario.now)
    assert scenario.outcome(request_id) is None
    scenario.machine.remove("b", scenario.now)
    scenario.run()
    assert scenario.told == [scenario.failure(request_id)]
    assert scenario.state() is State.IDLE
    scenario.machine.start(scenario.now)
    scenario.run()
    assert [type(one) for one in scenario.states] == [events.GaveUp]


def test_a_gateway_whose_name_is_free_again_may_come_back() -> None:
    scenario = PoolScenario()
    for _ in range(3):
        scenario.machine.remove("b", scenario.now)
        scenario.run(2.0)
        scenario.machine.add(PoolGateway(url_of("b"), name="b"), scenario.now)
        scenario.run()
    assert [one.state for one in scenario.machine.health()] == [State.ONLINE] * 2
    assert [one.priority for one in scenario.machine.health()] == [0, 1]


# --- what it had ---------------------------------------------------------------------------------


def test_what_it_has_not_sent_in_time_goes_to_another_one() -> None:
    scenario = PoolScenario("a b", limited(max_in_flight=1))
    scenario.slow(delay=100.0)
    stuck = scenario.request("slow", timeout=None)
    queued = scenario.request("echo", offline=Offline.QUEUE)
    fails = scenario.request("echo")
    scenario.machine.remove("a", scenario.now, drain=1.0)
    scenario.run(1.0)
    assert scenario.failure(stuck).delivery is Delivery.MAY_HAVE_EXECUTED
    assert scenario.failure(fails).delivery is Delivery.NOT_SENT
    assert isinstance(scenario.outcome(queued), Replied)
    assert len(scenario.seen("b", "echo")) == 1


def test_a_replay_follows_its_rule_when_its_gateway_is_removed() -> None:
    scenario = PoolScenario("a a2 b")
    scenario.slow()
    same_boot = scenario.request("slow", gateway=None, **REPLAY)
    scenario.machine.remove("a", scenario.now, drain=0)
    scenario.run(6.0)
    assert at(scenario)["a"] == 2
    assert isinstance(scenario.outcome(same_boot), Replied)
    scenario.machine.remove("a2", scenario.now)
    scenario.run(2.0)
    nobodys = scenario.request("slow", gateway="b", **REPLAY)
    scenario.machine.remove("b", scenario.now, drain=0)
    scenario.run(2.0)
    assert scenario.failure(nobodys).delivery is Delivery.MAY_HAVE_EXECUTED


def test_what_waits_for_it_alone_fails_at_once() -> None:
    scenario = PoolScenario()
    scenario.slow()
    scenario.down("b")
    request_id = scenario.request("slow", gateway="b", offline=Offline.QUEUE, timeout=None)
    scenario.machine.remove("b", scenario.now)
    scenario.run()
    assert scenario.failure(request_id).delivery is Delivery.NOT_SENT
    assert names(scenario) == ["a"]


def test_one_that_falls_while_it_is_drained_does_not_come_back() -> None:
    scenario = PoolScenario()
    scenario.slow()
    request_id = scenario.request("slow", gateway="b")
    scenario.machine.remove("b", scenario.now)
    scenario.drop("b")
    scenario.run(0.1)
    assert scenario.failure(request_id).delivery is Delivery.MAY_HAVE_EXECUTED
    assert names(scenario) == ["a"]
    assert scenario.gateways["b"].connections == 1


def test_a_stop_ends_a_drain() -> None:
    scenario = PoolScenario("a b", limited(max_in_flight=1))
    scenario.slow(delay=100.0)
    pending = [
        scenario.request("slow", gateway="b", **REPLAY),
        scenario.request("slow", gateway="b", offline=Offline.QUEUE),
    ]
    scenario.machine.remove("b", scenario.now)
    scenario.stop()
    assert all(scenario.outcome(one) for one in pending)
    assert scenario.machine.next_timeout() is None


# --- what is left of it --------------------------------------------------------------------------


def test_inputs_for_the_transports_of_one_that_is_gone_do_nothing() -> None:
    scenario = PoolScenario()
    transport_id = scenario.of_gateway("b", events.Online)[0].transport_id
    scenario.machine.remove("b", scenario.now)
    scenario.run(2.0)
    mark, machine, now = len(scenario.told), scenario.machine, scenario.now
    machine.transport_opened(transport_id, now)
    machine.receive_data(transport_id, b"x", now)
    machine.receive_message(transport_id, "{}", now)
    machine.receive_pong(transport_id, b"", now)
    machine.transport_closed(transport_id, 1000, "", now)
    machine.transport_failed(transport_id, TransportFault(FaultKind.RESET), now)
    machine.token_stored(transport_id, True, now)
    machine.token_forgotten(transport_id, None, now)
    machine.resynced(transport_id, now)
    assert machine.data_to_send(transport_id) == b""
    assert machine.next_message(transport_id) is None
    scenario.run()
    assert len(scenario.told) == mark


def test_of_the_transports_of_one_gateway_only_the_latest_are_remembered() -> None:
    scenario = PoolScenario()
    for _ in range(3 * REMEMBERED):
        scenario.drop("b")
        scenario.run(12.0)
    owners = [one for one in range(1, 100) if scenario.machine._membership.owner(one)]
    assert len(owners) == 1 + REMEMBERED
    scenario.machine.remove("b", scenario.now)
    scenario.run(2.0)
    owners = [one for one in range(1, 100) if scenario.machine._membership.owner(one)]
    assert len(owners) == 1


def test_removing_one_that_gave_up_does_not_tell_again_that_all_did() -> None:
    scenario = PoolScenario("a b", Settings(token="wrong"))
    assert scenario.state() is State.BLOCKED
    scenario.machine.remove("a", scenario.now)
    scenario.run()
    assert names(scenario) == ["b"]
    assert len(scenario.of(events.GaveUp)) == 1


def test_that_none_is_left_is_told_after_the_outcomes_of_one_that_still_answers() -> None:
    scenario = PoolScenario()
    scenario.slow()
    asked = scenario.request("slow")
    scenario.machine.remove("a", scenario.now)
    scenario.machine.remove("b", scenario.now, drain=0.0)
    scenario.run()
    assert not scenario.of(events.GaveUp)
    scenario.run(6.0)
    assert isinstance(scenario.outcome(asked), Replied)
    assert isinstance(scenario.told[-1], events.GaveUp)
