"""Which gateway of a pool gets a request, and what is refused."""

from __future__ import annotations

import attrs
import pytest

from butter_proto import (
    Delivery,
    InvalidParams,
    LocalProtocolError,
    MessageTooLarge,
    NotOnline,
    Offline,
    PendingFull,
    events,
)
from butter_proto.events import FromGateway, Replied
from tests.proto.pool_scenario import PoolScenario, limited, url_of


def at(scenario: PoolScenario) -> dict[str, int]:
    """Return how many slow requests each gateway got."""
    return {name: len(scenario.seen(name, "slow")) for name in "abc"}


# --- who gets it ---------------------------------------------------------------------------------


def test_a_request_goes_to_the_primary_and_its_outcome_says_from_where_it_came() -> None:
    scenario = PoolScenario("a b c")
    request_id = scenario.request("echo", {"x": 1})
    outcome = scenario.outcome(request_id)
    assert isinstance(outcome, Replied)
    assert outcome.payload == {"x": 1}
    assert FromGateway("a", outcome) in scenario.told


def test_a_request_that_names_its_gateway_goes_there_and_nowhere_else() -> None:
    scenario = PoolScenario("a b c")
    scenario.slow()
    scenario.request("slow", gateway="c")
    assert at(scenario) == {"a": 0, "b": 0, "c": 1}


def test_spread_requests_go_to_the_one_with_the_fewest_in_flight() -> None:
    scenario = PoolScenario("a b c")
    scenario.slow()
    scenario.request("slow", gateway="b")
    for _ in range(5):
        scenario.request("slow", spread=True)
    assert at(scenario) == {"a": 2, "b": 2, "c": 2}


def test_spread_requests_pass_by_who_is_not_online() -> None:
    scenario = PoolScenario("a b c")
    scenario.slow()
    scenario.down("a")
    for _ in range(4):
        scenario.request("slow", spread=True)
    assert at(scenario) == {"a": 0, "b": 2, "c": 2}


# --- what is refused -----------------------------------------------------------------------------


def test_what_is_refused_was_not_accepted() -> None:
    scenario = PoolScenario("a b", limited(max_pending=2))
    scenario.slow()
    machine, now = scenario.machine, scenario.now
    with pytest.raises(InvalidParams, match="not both"):
        machine.request("slow", now=now, gateway="a", spread=True)
    with pytest.raises(InvalidParams, match="'nobody'; it has a, b"):
        machine.request("slow", now=now, gateway="nobody")
    with pytest.raises(MessageTooLarge):
        machine.request("slow", "x" * 30_000_000, now=now)
    with pytest.raises(InvalidParams):
        machine.request("", now=now)
    assert [scenario.request("slow"), scenario.request("slow", gateway="b")] == ["3", "4"]
    with pytest.raises(PendingFull, match="max_pending"):
        scenario.request("slow")


def test_an_empty_pool_says_that_it_has_no_gateway() -> None:
    scenario = PoolScenario("")
    with pytest.raises(InvalidParams, match="it has none"):
        scenario.request(gateway="a")
    with pytest.raises(NotOnline):
        scenario.request()


def test_a_request_for_one_that_is_down_is_refused_although_others_are_online() -> None:
    scenario = PoolScenario()
    scenario.down("b")
    with pytest.raises(NotOnline, match="'b'"):
        scenario.request(gateway="b")


def test_the_bytes_of_all_gateways_and_of_the_queue_count_together() -> None:
    scenario = PoolScenario("a b c", limited(max_pending_bytes=2048))
    scenario.slow()
    scenario.down("c")
    scenario.request("slow", "x" * 600)
    scenario.request("slow", "x" * 600, gateway="b")
    scenario.request("slow", "x" * 600, gateway="c", offline=Offline.QUEUE)
    with pytest.raises(PendingFull, match="max_pending_bytes"):
        scenario.request("slow", "x" * 600)


def test_the_deadline_of_a_request_is_the_pools() -> None:
    scenario = PoolScenario("")
    short = attrs.evolve(limited(), timeouts=attrs.evolve(limited().timeouts, request=1.0))
    scenario.machine.add(url_of("a"), scenario.now)
    scenario.run()
    scenario.slow(delay=10.0)
    request_id = scenario.request("slow")
    scenario.run(5.0)
    assert scenario.outcome(request_id) is None
    scenario = PoolScenario("a", short)
    scenario.slow(delay=10.0)
    request_id = scenario.request("slow")
    scenario.run(1.0)
    assert scenario.failure(request_id).timed_out


# --- the queue -----------------------------------------------------------------------------------


def test_what_may_wait_is_sent_by_whoever_is_online_first() -> None:
    scenario = PoolScenario(start=False)
    scenario.slow()
    ids = [
        scenario.machine.request("slow", {"n": n}, now=scenario.now, offline=Offline.QUEUE)
        for n in range(3)
    ]
    assert [one.id for one in scenario.machine.queued()] == ids
    scenario.network.stall(address=("a.local", 18789))
    scenario.machine.start(scenario.now)
    scenario.run()
    assert [one["n"] for one in scenario.seen("b", "slow")] == [0, 1, 2]
    assert scenario.machine.queued() == ()


def test_what_names_its_gateway_waits_for_it_alone() -> None:
    scenario = PoolScenario()
    scenario.slow()
    scenario.down("b", 1.0)
    request_id = scenario.request("slow", gateway="b", offline=Offline.QUEUE)
    assert [one.gateway for one in scenario.machine.queued()] == ["b"]
    scenario.run(20.0)
    assert at(scenario) == {"a": 0, "b": 1, "c": 0}
    assert isinstance(scenario.outcome(request_id), Replied)


def test_what_waits_too_long_has_its_outcome_by_the_pool_itself() -> None:
    scenario = PoolScenario(start=False)
    request_id = scenario.machine.request(
        "slow", now=scenario.now, offline=Offline.QUEUE, timeout=2.0
    )
    scenario.run(2.0)
    assert scenario.failure(request_id) in scenario.told
    assert scenario.failure(request_id).timed_out


def test_the_queue_is_bounded_for_the_pool_as_a_whole() -> None:
    scenario = PoolScenario("a b c", limited(max_queued=2))
    for name in ("b", "c"):
        scenario.down(name)
        scenario.request("slow", gateway=name, offline=Offline.QUEUE)
    with pytest.raises(PendingFull, match="max_queued"):
        scenario.request("slow", gateway="c", offline=Offline.QUEUE)


# --- cancel --------------------------------------------------------------------------------------


def test_cancel_finds_a_request_wherever_it_is() -> None:
    scenario = PoolScenario("a b c")
    scenario.slow()
    scenario.down("c")
    primary = scenario.request("slow")
    named = scenario.request("slow", gateway="b")
    waiting = scenario.request("slow", gateway="c", offline=Offline.QUEUE)
    machine, now = scenario.machine, scenario.now
    assert machine.cancel(primary, now) is Delivery.MAY_HAVE_EXECUTED
    assert machine.cancel(named, now) is Delivery.MAY_HAVE_EXECUTED
    assert machine.cancel(waiting, now) is Delivery.NOT_SENT
    for request_id in (primary, named, waiting, "unknown"):
        assert machine.cancel(request_id, now) is None
    scenario.run(60.0)
    assert all(scenario.outcome(one) is None for one in (primary, named, waiting))


def test_a_cancelled_request_leaves_room_for_another() -> None:
    scenario = PoolScenario("a b", limited(max_pending=1))
    scenario.slow()
    scenario.down("b")
    for name in (None, "b"):
        request_id = scenario.request("slow", gateway=name, offline=Offline.QUEUE)
        with pytest.raises(LocalProtocolError):
            scenario.request("slow")
        scenario.machine.cancel(request_id, scenario.now)


# --- hold_queue ----------------------------------------------------------------------------------


def test_the_queue_is_held_until_the_pools_online_is_answered() -> None:
    scenario = PoolScenario(start=False, hold_queue=True)
    scenario.slow()
    scenario.machine.request("slow", {"n": 1}, now=scenario.now, offline=Offline.QUEUE)
    scenario.machine.start(scenario.now)
    scenario.run(1.0)
    scenario.request("slow", {"n": 2}, offline=Offline.QUEUE)  # behind the other one
    scenario.request("slow", {"n": 3})  # the hook's own goes at once
    assert [one["n"] for one in scenario.seen("a", "slow")] == [3]
    (online,) = scenario.of(events.Online)
    scenario.machine.resynced(online.transport_id + 1, scenario.now)  # of another one: b's
    scenario.machine.resynced(999, scenario.now)
    scenario.run()
    assert len(scenario.seen("a", "slow")) == 1
    scenario.machine.resynced(online.transport_id, scenario.now)
    scenario.run()
    assert [one["n"] for one in scenario.seen("a", "slow")] == [3, 1, 2]


def test_the_gate_closes_at_each_takeover() -> None:
    scenario = PoolScenario(hold_queue=True)
    scenario.slow()
    first = scenario.of(events.Online)[-1].transport_id
    scenario.machine.resynced(first, scenario.now)
    scenario.drop("a")
    scenario.request("slow", offline=Offline.QUEUE)
    scenario.machine.resynced(first, scenario.now)  # too late: it is about another connection
    scenario.run()
    assert scenario.seen("b", "slow") == []
    scenario.machine.resynced(scenario.of(events.Online)[-1].transport_id, scenario.now)
    scenario.run()
    assert len(scenario.seen("b", "slow")) == 1


def test_what_is_held_goes_to_the_next_primary_when_that_is_resynced() -> None:
    scenario = PoolScenario(hold_queue=True)
    scenario.slow()
    scenario.request("slow", offline=Offline.QUEUE)
    scenario.drop("a")
    scenario.machine.resynced(scenario.of(events.Online)[-1].transport_id, scenario.now)
    scenario.run()
    assert len(scenario.seen("b", "slow")) == 1
    assert scenario.seen("a", "slow") == []


def test_the_queue_of_a_warm_gateway_is_not_held() -> None:
    scenario = PoolScenario(hold_queue=True)
    scenario.slow()
    scenario.request("slow", gateway="b", offline=Offline.QUEUE)
    assert len(scenario.seen("b", "slow")) == 1
