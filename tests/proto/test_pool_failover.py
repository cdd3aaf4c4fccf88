"""What becomes of the requests of a gateway that falls (docs/pool.md has the table)."""

from __future__ import annotations

from butter_proto import Delivery, EndKind, Offline, events
from butter_proto.backlog import OTHER_BOOT
from butter_proto.events import Replied
from tests.proto.pool_scenario import PoolScenario, limited
from tests.proto.test_pool_requests import at

REPLAY = {"replay": True, "idempotency_key": "key"}


def test_what_was_in_flight_may_have_been_executed_and_goes_nowhere_else() -> None:
    scenario = PoolScenario()
    scenario.slow()
    request_id = scenario.request("slow")
    scenario.drop("a")
    failed = scenario.failure(request_id)
    assert failed.delivery is Delivery.MAY_HAVE_EXECUTED
    scenario.run(30.0)
    assert at(scenario) == {"a": 1, "b": 0, "c": 0}


def test_what_had_not_left_goes_to_the_next_primary_in_its_order_if_it_may_wait() -> None:
    scenario = PoolScenario("a b", limited(max_in_flight=1))
    scenario.slow()
    on_its_way = scenario.request("slow")
    fails = scenario.request("slow")
    waits = [scenario.request("slow", {"n": n}, offline=Offline.QUEUE) for n in range(3)]
    scenario.drop("a")
    assert scenario.failure(on_its_way).delivery is Delivery.MAY_HAVE_EXECUTED
    assert scenario.failure(fails).delivery is Delivery.NOT_SENT
    scenario.run(20.0)
    assert [one["n"] for one in scenario.seen("b", "slow")] == [0, 1, 2]
    assert all(isinstance(scenario.outcome(one), Replied) for one in waits)


def test_what_names_a_gateway_waits_for_it_when_it_falls() -> None:
    scenario = PoolScenario("a b", limited(max_in_flight=1))
    scenario.slow()
    scenario.request("slow", gateway="a")
    request_id = scenario.request("slow", gateway="a", offline=Offline.QUEUE)
    scenario.drop("a")
    assert [one.id for one in scenario.machine.queued()] == [request_id]
    scenario.run(20.0)
    assert at(scenario) == {"a": 2, "b": 0, "c": 0}
    assert isinstance(scenario.outcome(request_id), Replied)


# --- replay --------------------------------------------------------------------------------------


def test_a_replay_goes_to_the_same_boot_over_another_connection_at_once() -> None:
    scenario = PoolScenario("a a2 b")
    scenario.slow()
    request_id = scenario.request("slow", **REPLAY)
    transport_id = scenario.of(events.Online)[0].transport_id
    scenario.machine.receive_data(transport_id, b"", scenario.now)
    scenario.run()
    assert scenario.machine.primary == "a2"
    assert at(scenario) == {"a": 2, "b": 0, "c": 0}
    scenario.run(10.0)
    assert isinstance(scenario.outcome(request_id), Replied)


def test_a_replay_waits_for_its_own_gateway_while_another_one_is_primary() -> None:
    scenario = PoolScenario()
    scenario.slow()
    request_id = scenario.request("slow", **REPLAY)
    scenario.drop("a")
    assert scenario.machine.primary == "b"
    assert scenario.outcome(request_id) is None
    scenario.run(10.0)  # a is back, though warm
    assert at(scenario) == {"a": 2, "b": 0, "c": 0}
    assert isinstance(scenario.outcome(request_id), Replied)


def test_a_replay_is_given_up_when_its_gateway_was_started_anew() -> None:
    scenario = PoolScenario()
    scenario.slow()
    request_id = scenario.request("slow", **REPLAY)
    scenario.down("a", 0.5)
    scenario.run(5.0)
    failed = scenario.failure(request_id)
    assert (failed.delivery, failed.text) == (Delivery.MAY_HAVE_EXECUTED, OTHER_BOOT)
    assert at(scenario) == {"a": 1, "b": 0, "c": 0}


def test_with_shared_state_the_next_primary_stands_for_the_one_that_fell() -> None:
    scenario = PoolScenario("a b c", shared_state=True)
    scenario.slow()
    request_id = scenario.request("slow", **REPLAY)
    scenario.down("a")
    assert at(scenario) == {"a": 1, "b": 1, "c": 0}
    scenario.down("b")
    assert at(scenario) == {"a": 1, "b": 1, "c": 1}
    scenario.run(10.0)
    assert isinstance(scenario.outcome(request_id), Replied)


def test_a_replay_over_a_spread_connection_goes_back_to_it_though_it_is_warm() -> None:
    scenario = PoolScenario()
    scenario.slow()
    scenario.request("slow")
    request_id = scenario.request("slow", spread=True, **REPLAY)
    assert at(scenario) == {"a": 1, "b": 1, "c": 0}
    scenario.drop("b")
    scenario.run(10.0)
    assert at(scenario) == {"a": 1, "b": 2, "c": 0}
    assert isinstance(scenario.outcome(request_id), Replied)


def test_same_boot_replays_are_held_for_the_resync_of_a_new_primary() -> None:
    scenario = PoolScenario("a a2", hold_queue=True)
    scenario.slow()
    request_id = scenario.request("slow", **REPLAY)
    transport_id = scenario.of(events.Online)[0].transport_id
    scenario.machine.receive_data(transport_id, b"", scenario.now)
    scenario.run()
    assert at(scenario)["a"] == 1
    scenario.machine.resynced(scenario.of(events.Online)[-1].transport_id, scenario.now)
    scenario.run(6.0)
    assert at(scenario)["a"] == 2
    assert isinstance(scenario.outcome(request_id), Replied)


def test_a_replay_whose_gateway_gave_up_has_its_outcome_before_that_is_told() -> None:
    scenario = PoolScenario()
    scenario.slow()
    request_id = scenario.request("slow", **REPLAY)
    scenario.gateways["a"].token = "changed"
    scenario.drop("a")
    scenario.run(5.0)
    failed = scenario.failure(request_id)
    assert failed.delivery is Delivery.MAY_HAVE_EXECUTED
    assert failed.ending is not None
    assert failed.ending.kind is EndKind.CONNECT_REFUSED
    (gave_up,) = scenario.of_gateway("a", events.GaveUp)
    assert scenario.told.index(failed) < scenario.told.index(events.FromGateway("a", gave_up))


def test_a_replay_that_nobody_may_take_is_given_up_in_time() -> None:
    scenario = PoolScenario()
    scenario.slow()
    request_id = scenario.request("slow", timeout=None, **REPLAY)
    scenario.down("a")
    scenario.run(239.0)
    assert scenario.outcome(request_id) is None
    scenario.run(1.0)
    assert scenario.failure(request_id).delivery is Delivery.MAY_HAVE_EXECUTED
