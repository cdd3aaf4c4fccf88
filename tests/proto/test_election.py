"""Who is primary, when another one takes over, and what is told of it."""

from __future__ import annotations

from butter_proto import Settings, events
from butter_proto.events import EventsMissed, FromGateway, MissReason
from butter_proto.machine import State
from tests.proto.pool_scenario import STABLE, PoolScenario
from tests.proto.scenario import TOKEN

CHANGED = EventsMissed(MissReason.PRIMARY_CHANGED)


def takeovers(scenario: PoolScenario) -> list[EventsMissed]:
    return [one for one in scenario.of(EventsMissed) if one == CHANGED]


def pushed(scenario: PoolScenario) -> list[tuple[str, object]]:
    """The gateway events that were told, ticks left out: from whom, and their payloads."""
    return [
        (one.gateway, one.event.payload)
        for one in scenario.told
        if isinstance(one, FromGateway)
        and isinstance(one.event, events.GatewayEvent)
        and one.event.name == "chat"
    ]


# --- a primary that falls ------------------------------------------------------------------------


def test_a_fallen_primary_is_replaced_in_the_same_input_by_the_best_warm_one() -> None:
    scenario = PoolScenario("a b c")
    mark = len(scenario.told)
    scenario.drop("a")
    told = scenario.told[mark:]
    offline, online, missed, retrying = told
    assert isinstance(offline, FromGateway)
    assert isinstance(offline.event, events.Offline)
    assert isinstance(online, events.Online)
    assert online.hello.boot_id == scenario.gateways["b"].boot_id
    assert (online.resync, online.boot_changed) == (True, True)
    assert online.transport_id == scenario.of_gateway("b", events.Online)[-1].transport_id
    assert missed == CHANGED
    assert isinstance(retrying, FromGateway)
    assert scenario.machine.primary == "b"
    assert scenario.of(events.Offline) == []


def test_the_best_is_the_lowest_priority_and_then_the_longest_online() -> None:
    scenario = PoolScenario("a b b2 c")
    scenario.drop("b")
    scenario.run(0.4)  # b and b2 are back; nobody knows which was first
    health = {one.name: one for one in scenario.machine.health()}
    first, second = sorted(("b", "b2"), key=lambda name: health[name].online_since or 0.0)
    scenario.drop("a")
    assert scenario.machine.primary == first
    assert second != first


def test_another_connection_to_the_same_gateway_is_no_other_boot() -> None:
    scenario = PoolScenario("a a2")
    transport_id = scenario.of(events.Online)[0].transport_id
    scenario.machine.receive_data(transport_id, b"", scenario.now)
    scenario.run()
    online = scenario.of(events.Online)[-1]
    assert scenario.machine.primary == "a2"
    assert (online.resync, online.boot_changed) == (True, False)
    assert len(takeovers(scenario)) == 1


def test_where_nobody_is_warm_the_pool_is_offline_until_one_comes() -> None:
    scenario = PoolScenario()
    scenario.down("b")
    scenario.drop("a")
    assert scenario.state() is State.WAITING
    assert scenario.machine.primary is None
    scenario.run(1.0)
    assert [type(one) for one in scenario.states] == [
        events.Connecting,
        events.Online,
        events.Offline,
        events.Retrying,
        events.Connecting,
        events.Online,
    ]
    online = scenario.of(events.Online)[-1]
    assert (online.resync, online.boot_changed) == (True, False)
    assert takeovers(scenario) == []


def test_the_fall_of_a_warm_one_is_told_of_that_gateway_alone() -> None:
    scenario = PoolScenario()
    scenario.drop("b")
    assert [type(one) for one in scenario.states] == [events.Connecting, events.Online]
    assert len(scenario.of_gateway("b", events.Offline)) == 1


# --- a better one that comes back ----------------------------------------------------------------


def test_a_better_one_that_returns_takes_over_after_it_was_stable_and_not_before() -> None:
    scenario = PoolScenario()
    scenario.drop("a")
    scenario.run(1.0)
    since = scenario.machine.health()[0].online_since
    assert since is not None
    scenario.network.run(until=since + STABLE - 0.001)
    assert scenario.machine.primary == "b"
    scenario.network.run(until=since + STABLE)
    assert scenario.machine.primary == "a"
    assert len(takeovers(scenario)) == 2
    assert [one.resync for one in scenario.of(events.Online)] == [False, True, True]
    assert scenario.of(events.Offline) == []


def test_a_better_one_that_flaps_never_takes_over() -> None:
    scenario = PoolScenario()
    for _ in range(20):
        scenario.drop("a")
        scenario.run(STABLE - 1.0)
    assert scenario.machine.primary == "b"
    assert len(takeovers(scenario)) == 1


def test_one_that_is_as_good_never_takes_over() -> None:
    scenario = PoolScenario("a a2")
    first = scenario.machine.primary
    scenario.run(100.0)
    assert scenario.machine.primary == first
    assert takeovers(scenario) == []


def test_of_two_better_ones_the_best_that_is_stable_takes_over() -> None:
    scenario = PoolScenario("a b c")
    for name in ("a", "b"):
        scenario.down(name, 1.0)
    assert scenario.machine.primary == "c"
    scenario.network.late_wakeups(20.0)  # when it is looked at both are stable
    scenario.run(60.0)
    assert scenario.machine.primary == "a"
    assert len(takeovers(scenario)) == 3


def test_how_long_a_better_one_must_be_stable_is_the_pools_setting() -> None:
    settings = Settings(token=TOKEN)
    scenario = PoolScenario("a b", settings, random=lambda: 0.3)
    scenario.drop("a")
    scenario.run(STABLE + 2.0)
    assert scenario.machine.primary == "a"


# --- whose events are told -----------------------------------------------------------------------


def test_only_the_primary_delivers_and_what_the_others_say_is_not_counted() -> None:
    scenario = PoolScenario()
    for name in "abbb":
        scenario.gateways[name].push("chat", name)
    scenario.run()
    assert pushed(scenario) == [("a", "a")]
    assert scenario.machine.stats.dropped_events == 0


def test_the_change_is_told_once_and_before_the_first_event_of_the_new_primary() -> None:
    scenario = PoolScenario()
    scenario.gateways["a"].push("chat", 1)
    scenario.run()
    scenario.gateways["b"].push("chat", 2)  # is not told: b is warm
    scenario.run()
    scenario.drop("a")
    scenario.gateways["b"].push("chat", 3)
    scenario.run()
    assert pushed(scenario) == [("a", 1), ("b", 3)]
    assert len(takeovers(scenario)) == 1
    told = [one for one in scenario.told if not isinstance(one, events.StateEvent)]
    place = told.index(CHANGED)
    last = [
        index
        for index, one in enumerate(told)
        if isinstance(one, FromGateway) and isinstance(one.event, events.GatewayEvent)
    ]
    assert last[0] < place < last[1]
    assert scenario.of_gateway("b", EventsMissed) == []  # no gap besides


def test_a_primary_that_steps_down_is_heard_no_more() -> None:
    scenario = PoolScenario()
    scenario.drop("a")
    scenario.run(STABLE + 1.0)
    scenario.gateways["b"].push("chat", "late")
    scenario.gateways["a"].push("chat", "early")
    scenario.run()
    assert pushed(scenario) == [("a", "early")]
