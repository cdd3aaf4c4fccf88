"""What waits for a connection: QUEUE and hold_queue, on the virtual network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from butter_proto import (
    AUTO,
    Delivery,
    Dialect,
    Ending,
    EndKind,
    Framing,
    InvalidParams,
    Limits,
    MessageTooLarge,
    NotOnline,
    Offline,
    PendingFull,
    QueuedRequest,
    ReconnectSettings,
    Settings,
    State,
    events,
)
from butter_proto.events import Policy
from butter_proto.testing.stand_in import StandInGateway
from tests.proto.scenario import TOKEN, Scenario

NOT_SENT, MAY_HAVE = Delivery.NOT_SENT, Delivery.MAY_HAVE_EXECUTED
ONE_ATTEMPT = Settings(token=TOKEN, reconnect=ReconnectSettings(max_attempts=1))


def queue(scenario: Scenario, method: str = "echo", params: Any = None, **options: Any) -> str:
    return scenario.request(method, params, offline=Offline.QUEUE, **options)


def offline(settings: Settings | None = None, *, hold_queue: bool = False) -> Scenario:
    """A scenario that was online once, and is in its backoff of 1 s."""
    scenario = Scenario(settings, hold_queue=hold_queue)
    scenario.online()
    scenario.fall()
    return scenario


def failed(scenario: Scenario, request_id: str) -> events.RequestFailed:
    outcome = scenario.outcome(request_id)
    assert isinstance(outcome, events.RequestFailed)
    return outcome


# --- waiting for a connection -----------------------------------------------------------------


@pytest.mark.parametrize("framing", Framing, ids=lambda one: one.value)
def test_what_is_queued_before_the_first_hello_goes_out_after_it(framing: Framing) -> None:
    scenario = Scenario(Settings(token=TOKEN, framing=framing), start=False)
    request_id = queue(scenario, params={"a": 1})
    assert scenario.machine.state is State.IDLE
    scenario.machine.start(scenario.now)
    scenario.online()
    scenario.run()
    assert [one.method for one in scenario.gateway.received] == ["connect", "echo"]
    assert scenario.outcome(request_id) == events.Replied(request_id, {"a": 1}, 51)


def test_a_queue_goes_out_in_json_rpc_too() -> None:
    gateway = StandInGateway(token=TOKEN, legacy=True, json_rpc=True)
    settings = Settings(token=TOKEN, dialect=Dialect.OPENBUTTER_V1, json_rpc=True)
    scenario = Scenario(settings, gateway=gateway, start=False)
    request_id = queue(scenario, params={"a": 1}, idempotency_key="k")
    (queued,) = scenario.machine.queued()
    assert queued.params == {"a": 1, "idempotencyKey": "k"}
    scenario.machine.start(scenario.now)
    scenario.online()
    scenario.run()
    outcome = scenario.outcome(request_id)
    assert isinstance(outcome, events.Replied)
    assert (outcome.payload, outcome.idempotency_key) == (queued.params, "k")


def test_a_queue_is_first_in_first_out_whatever_came_back_to_it() -> None:
    """What a connection took and did not send goes before what was queued after its end."""
    scenario = Scenario()
    scenario.online()
    scenario.network.stall()
    large = queue(scenario, params="x" * 500_000, timeout=None)  # it fills the socket
    came_back = [queue(scenario, params=number, timeout=None) for number in range(3)]
    scenario.until(events.Offline)
    scenario.network.heal()
    assert failed(scenario, large).delivery is MAY_HAVE
    later = [queue(scenario, params=number) for number in range(3)]
    assert [one.id for one in scenario.machine.queued()] == [*came_back, *later]
    scenario.online()
    scenario.run()
    assert scenario.received("echo") == [*came_back, *later]


def test_while_online_a_queue_request_goes_at_once() -> None:
    scenario = Scenario()
    scenario.online()
    request_id = queue(scenario)
    assert scenario.machine.queued() == ()
    scenario.run()
    assert isinstance(scenario.outcome(request_id), events.Replied)


def test_a_queue_request_of_which_a_byte_left_is_not_sent_again() -> None:
    """G12: QUEUE is no replay."""
    scenario = Scenario()
    scenario.online()
    scenario.gateway.reply("job", delay=1000.0)
    request_id = queue(scenario, "job", {"idempotencyKey": "k"})
    scenario.run()
    ending = scenario.fall().ending
    assert failed(scenario, request_id) == events.RequestFailed(
        request_id, MAY_HAVE, "job", "k", ending=ending
    )
    scenario.online()
    scenario.run()
    assert scenario.received("job") == [request_id]


def test_a_fail_request_that_has_not_left_fails_before_offline_is_told() -> None:
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_in_flight=1)))
    scenario.online()
    scenario.gateway.reply("job", delay=1000.0)
    scenario.request("job")
    waiting = scenario.request("job")
    scenario.run()
    scenario.fall()
    assert failed(scenario, waiting).delivery is NOT_SENT
    assert isinstance(scenario.told[-2], events.Offline)  # then Retrying


# --- the hook: hold_queue and resynced --------------------------------------------------------


def test_a_held_queue_waits_for_the_resync_and_goes_in_order() -> None:
    scenario = offline(hold_queue=True)
    waiting = [queue(scenario) for _ in range(3)]
    scenario.online()
    direct = scenario.request("echo")
    waiting.append(queue(scenario))  # made by the hook: it waits too
    scenario.run(20.0)
    assert scenario.received("echo") == [direct]
    assert isinstance(scenario.outcome(direct), events.Replied)
    scenario.resynced()
    assert scenario.received("echo") == [direct, *waiting]
    after = queue(scenario)
    scenario.run()
    assert scenario.received("echo")[-1] == after


def test_the_first_online_is_held_too() -> None:
    scenario = Scenario(hold_queue=True, start=False)
    request_id = queue(scenario)
    scenario.machine.start(scenario.now)
    scenario.online()
    scenario.run()
    assert scenario.received("echo") == []
    scenario.resynced()
    assert scenario.received("echo") == [request_id]


def test_a_resync_of_another_connection_releases_nothing() -> None:
    scenario = offline(hold_queue=True)
    queue(scenario)
    old = scenario.of(events.Online)[-1].transport_id
    scenario.until(events.Connecting)
    new = scenario.of(events.Connecting)[-1].transport_id
    scenario.machine.resynced(new, scenario.now)  # too early: it is not online
    scenario.online()
    for transport_id in (old, 0, 99):
        scenario.machine.resynced(transport_id, scenario.now)
    scenario.run()
    assert scenario.received("echo") == []
    scenario.resynced()
    assert len(scenario.received("echo")) == 1


def test_each_online_is_held_anew() -> None:
    scenario = offline(hold_queue=True)
    scenario.online()
    scenario.resynced()
    scenario.fall()
    queue(scenario)
    scenario.online()
    scenario.run()
    assert scenario.received("echo") == []


def test_a_deadline_bounds_a_hook_that_hangs() -> None:
    scenario = offline(hold_queue=True)
    request_id = queue(scenario, timeout=5.0)
    due = scenario.now + 5.0
    scenario.online()
    scenario.until(events.RequestFailed)
    assert scenario.now == pytest.approx(due)
    assert failed(scenario, request_id) == events.RequestFailed(
        request_id, NOT_SENT, "echo", timed_out=True
    )


# --- bounds and deadlines ---------------------------------------------------------------------


def test_a_deadline_runs_in_the_queue() -> None:
    scenario = Scenario(start=False)
    short, long = queue(scenario, timeout=2.0), queue(scenario, timeout=None)
    scenario.run(1.999)
    assert scenario.outcome(short) is None
    scenario.run(0.001)
    assert failed(scenario, short).timed_out
    assert [one.id for one in scenario.machine.queued()] == [long]


def test_what_is_due_when_the_hello_comes_is_not_sent() -> None:
    """The bytes may come before the wake-up."""
    scenario = offline()
    request_id = queue(scenario, timeout=3.0)
    scenario.network.suspend(3.0)
    scenario.run(10.0)
    assert failed(scenario, request_id).timed_out
    assert scenario.received("echo") == []


def test_a_full_queue_names_its_limit_and_has_room_again_after_a_cancel() -> None:
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_queued=2)), start=False)
    first, second = queue(scenario), queue(scenario)
    with pytest.raises(PendingFull, match=r"2 requests are queued \(max_queued\)"):
        queue(scenario)
    assert scenario.machine.cancel(first, scenario.now) is NOT_SENT
    third = queue(scenario)
    assert [one.id for one in scenario.machine.queued()] == [second, third]


def test_the_bytes_of_a_queue_are_bounded_and_the_error_names_the_limit() -> None:
    limits = Limits(max_queued_bytes=1024)
    scenario = Scenario(Settings(token=TOKEN, limits=limits), start=False)
    queue(scenario, params="x" * 900)
    with pytest.raises(PendingFull, match=r"1024 bytes are queued \(max_queued_bytes\)"):
        queue(scenario, params="x" * 100)
    queue(scenario)
    assert sum(one.size for one in scenario.machine.queued()) <= 1024


def test_a_full_queue_does_not_bound_what_goes_at_once() -> None:
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_queued=1)))
    scenario.online()
    ids = [queue(scenario) for _ in range(5)]
    scenario.run()
    assert scenario.received("echo") == ids


def test_the_queue_counts_under_max_pending() -> None:
    settings = Settings(token=TOKEN, limits=Limits(max_pending=1, max_pending_bytes=1024))
    scenario = Scenario(settings, start=False)
    queue(scenario)
    with pytest.raises(PendingFull, match="max_pending"):
        queue(scenario)


def test_queued_bytes_count_under_max_pending_bytes() -> None:
    settings = Settings(token=TOKEN, limits=Limits(max_pending_bytes=1024))
    scenario = Scenario(settings, start=False)
    queue(scenario, params="x" * 800)
    with pytest.raises(PendingFull, match="max_pending_bytes"):
        queue(scenario, params="x" * 800)


def test_a_queued_request_above_the_gateways_limit_fails_alone() -> None:
    """It was accepted before the gateway's limit was known."""
    gateway = StandInGateway(token=TOKEN, policy=Policy(4000, 52_428_800, 30.0))
    scenario = Scenario(gateway=gateway, start=False)
    large, small = queue(scenario, params="x" * 5000), queue(scenario)
    scenario.machine.start(scenario.now)
    scenario.online()
    scenario.run()
    outcome = failed(scenario, large)
    assert outcome.delivery is NOT_SENT
    assert "the gateway takes at most 4000" in outcome.text
    assert isinstance(scenario.outcome(small), events.Replied)
    assert len(scenario.of(events.Online)) == 1


def test_once_the_gateways_limit_is_known_it_holds_offline_too() -> None:
    scenario = Scenario(gateway=StandInGateway(token=TOKEN, policy=Policy(4000, None, 30.0)))
    scenario.online()
    scenario.fall()
    with pytest.raises(MessageTooLarge, match="4000"):
        queue(scenario, params="x" * 5000)


# --- no connection will come ------------------------------------------------------------------


def test_giving_up_settles_the_queue_before_it_is_told() -> None:
    scenario = Scenario(ONE_ATTEMPT, start=False)
    request_id = queue(scenario, params={"idempotencyKey": "k"})
    scenario.gateway.listening = False
    scenario.machine.start(scenario.now)
    gave_up = scenario.until(events.GaveUp)
    assert scenario.told[-2:] == [
        events.RequestFailed(request_id, NOT_SENT, "echo", "k", ending=gave_up.ending),
        gave_up,
    ]


@pytest.mark.parametrize("abort", [False, True])
def test_stopping_settles_the_queue_before_it_is_told(abort: bool) -> None:
    scenario = offline(hold_queue=True)
    request_id = queue(scenario)
    scenario.online()
    scenario.machine.stop(scenario.now, abort=abort)
    scenario.run(5.0)
    outcome = failed(scenario, request_id)
    assert (outcome.delivery, outcome.ending) == (NOT_SENT, Ending(EndKind.STOPPED))
    assert scenario.told.index(outcome) < scenario.told.index(scenario.of(events.Stopped)[0])


def test_nothing_is_queued_where_no_connection_will_come() -> None:
    scenario = Scenario(ONE_ATTEMPT, start=False)
    scenario.gateway.listening = False
    scenario.machine.start(scenario.now)
    scenario.until(events.GaveUp)
    with pytest.raises(NotOnline):
        queue(scenario)
    scenario.gateway.listening = True
    scenario.machine.reconnect_now(scenario.now)
    request_id = queue(scenario)  # there is hope again
    scenario.online()
    scenario.run()
    assert isinstance(scenario.outcome(request_id), events.Replied)


def test_nothing_is_queued_once_it_was_stopped() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.machine.stop(scenario.now)
    with pytest.raises(NotOnline):
        queue(scenario)
    scenario.run(5.0)
    with pytest.raises(NotOnline):
        queue(scenario)


# --- listing and export -----------------------------------------------------------------------


def test_the_queue_can_be_listed_and_made_again_from_json() -> None:
    scenario = Scenario(start=False)
    params = {"text": "h\u00e9", "list": [1, 2.5, None]}
    queue(scenario, "chat.send", params, idempotency_key=AUTO, timeout=20.0, final=True)
    queue(scenario, timeout=None, retry_unavailable=True)
    queue(scenario, params={"idempotencyKey": "k"}, replay=True, timeout=3.0)
    scenario.run(5.0)
    first, second = scenario.machine.queued()  # the third one's deadline has passed
    assert (first.method, first.final, first.params["text"]) == ("chat.send", True, "h\u00e9")
    assert first.idempotency_key == first.params["idempotencyKey"]
    assert second.params is None
    text = json.dumps([one.export(scenario.now) for one in (first, second)])

    other = Scenario(start=False)
    for made in json.loads(text):
        queue(other, **made)
    again = other.machine.queued()
    assert [(one.method, one.params, one.idempotency_key) for one in again] == [
        (one.method, one.params, one.idempotency_key) for one in (first, second)
    ]
    assert again[0].deadline == pytest.approx(other.now + 15.0)
    assert (again[1].deadline, again[1].retry_unavailable) == (None, True)


def test_what_is_over_due_is_exported_with_a_timeout_that_can_be_made_again() -> None:
    scenario = Scenario(start=False)
    queue(scenario, timeout=1.0)
    (queued,) = scenario.machine.queued()
    assert queued.export(scenario.now + 100.0)["timeout"] == 0.001


def test_a_listed_request_shows_neither_params_nor_key() -> None:
    """G11."""
    shown = repr(QueuedRequest("1", "m", "hidden", None, 9, None, False, False, False, b"hidden"))
    assert "'m'" in shown
    assert "hidden" not in shown


# --- cancel -----------------------------------------------------------------------------------


def test_what_is_taken_back_from_the_queue_is_never_sent() -> None:
    scenario = offline()
    first, second = queue(scenario), queue(scenario)
    assert scenario.machine.cancel(first, scenario.now) is NOT_SENT
    assert scenario.machine.cancel(first, scenario.now) is None
    scenario.online()
    scenario.run(100.0)
    assert scenario.outcome(first) is None
    assert scenario.received("echo") == [second]


# --- refused calls (G2) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "options", "kind"),
    [
        (None, {"replay": True}, InvalidParams),
        ({"idempotencyKey": ""}, {"replay": True}, InvalidParams),
        ({"idempotencyKey": "own"}, {"idempotency_key": "other"}, InvalidParams),
        ({"idempotencyKey": 5}, {"idempotency_key": AUTO}, InvalidParams),
        ({"idempotencyKey": 5}, {"idempotency_key": "5"}, InvalidParams),
        ([1], {"idempotency_key": AUTO}, InvalidParams),
        ("text", {"idempotency_key": "k"}, InvalidParams),
        (None, {"idempotency_key": ""}, InvalidParams),
        (None, {"idempotency_key": 5}, InvalidParams),
        (None, {"offline": "queue"}, InvalidParams),
        ({"x": float("nan")}, {"idempotency_key": AUTO}, InvalidParams),
        ({"x": "x" * 5000}, {"idempotency_key": AUTO}, PendingFull),
    ],
)
def test_a_refused_call_uses_up_no_id_and_no_key(
    params: Any, options: dict[str, Any], kind: type[Exception]
) -> None:
    limits = Limits(max_queued_bytes=4000)
    scenario, twin = (Scenario(Settings(limits=limits), start=False) for _ in range(2))
    with pytest.raises(kind):
        scenario.request("echo", params, **{"offline": Offline.QUEUE, **options})
    for one in (scenario, twin):
        queue(one, params={"a": 1}, idempotency_key=AUTO)
        queue(one, params={"a": 2}, idempotency_key=AUTO)
    queued = scenario.machine.queued()
    assert queued == twin.machine.queued()
    assert [one.id for one in queued] == ["1", "2"]
    assert len({one.idempotency_key for one in queued}) == 2


def test_a_connector_is_no_pool() -> None:
    scenario = Scenario(start=False)
    with pytest.raises(TypeError, match="gateway"):
        queue(scenario, gateway="another")
    assert scenario.machine.queued() == ()
