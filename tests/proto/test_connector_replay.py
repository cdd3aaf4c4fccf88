"""What is sent again: replays over a new connection, and refusals that are no last word."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from butter_proto import (
    AUTO,
    Delivery,
    Dialect,
    EndKind,
    Framing,
    InvalidParams,
    Limits,
    Offline,
    ReconnectSettings,
    Settings,
    State,
    events,
)
from butter_proto.backlog import OTHER_BOOT
from butter_proto.errors import GatewayError
from butter_proto.pending import REPLAY_TOO_LATE
from butter_proto.testing.stand_in import StandInGateway
from tests.proto.scenario import TOKEN, Scenario

NOT_SENT, MAY_HAVE, REFUSED = Delivery.NOT_SENT, Delivery.MAY_HAVE_EXECUTED, Delivery.REFUSED
BUSY = GatewayError("UNAVAILABLE", "The server is busy.", retryable=True)
DRAINING = GatewayError("UNAVAILABLE", "restarting", retryable=True, retry_after=5.0)
FOR_GOOD = GatewayError("INVALID_REQUEST", "no")


def sent(settings: Settings | None = None, *, hold_queue: bool = False, **options: Any) -> Scenario:
    """A scenario whose request 2 was sent, with a key, and is not answered yet."""
    scenario = Scenario(settings, hold_queue=hold_queue)
    scenario.online()
    if hold_queue:
        scenario.resynced()
    scenario.gateway.reply("job", delay=math.inf)
    request_id = scenario.request(
        "job", {"a": 1}, **{"replay": True, "idempotency_key": "k", **options}
    )
    assert request_id == "2"
    scenario.run()
    return scenario


def failed(scenario: Scenario, request_id: str = "2") -> events.RequestFailed:
    outcome = scenario.outcome(request_id)
    assert isinstance(outcome, events.RequestFailed)
    return outcome


# --- replay -----------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", Framing, ids=lambda one: one.value)
def test_a_replay_goes_again_as_it_was_to_the_same_boot(framing: Framing) -> None:
    scenario = sent(Settings(token=TOKEN, framing=framing))
    scenario.fall()
    assert scenario.outcome("2") is None
    assert scenario.machine.queued() == ()  # it is no queue's
    scenario.gateway.reply("job", {"status": "ok"})
    scenario.online()
    scenario.run()
    outcome = scenario.outcome("2")
    assert isinstance(outcome, events.Replied)
    assert (outcome.payload, outcome.idempotency_key) == ({"status": "ok"}, "k")
    first, again = (one for one in scenario.gateway.received if one.method == "job")
    assert (first.id, first.params) == (again.id, again.params)
    assert first.peer_id != again.peer_id


def test_a_replay_goes_once_on_each_new_connection() -> None:
    scenario = sent(timeout=None)
    for times in (2, 3, 4):
        scenario.fall()
        scenario.online()
        scenario.run(5.0)
        assert len(scenario.received("job")) == times
    scenario.fall()
    scenario.gateway.reply("job", "done")
    scenario.online()
    scenario.run()
    assert isinstance(scenario.outcome("2"), events.Replied)


def test_a_replay_never_goes_to_another_boot_and_is_told_when_its_hello_comes() -> None:
    scenario = sent(hold_queue=True)  # it does not wait for the resync
    scenario.gateway.restart("boot-2", announce=False, down=3.0)
    scenario.until(events.Online)
    assert scenario.of(events.Online)[-1].boot_changed
    assert scenario.told[-1] == events.RequestFailed("2", MAY_HAVE, "job", "k", text=OTHER_BOOT)
    scenario.resynced()
    scenario.run(5.0)
    assert len(scenario.received("job")) == 1


def test_without_a_boot_id_nothing_is_replayed() -> None:
    gateway = StandInGateway(token=TOKEN, legacy=True)
    settings = Settings(token=TOKEN, dialect=Dialect.OPENBUTTER_V1)
    scenario = Scenario(settings, gateway=gateway)
    scenario.online()
    gateway.reply("job", delay=math.inf)
    scenario.request("job", {"idempotencyKey": "k"}, replay=True)
    scenario.run()
    ending = scenario.fall().ending
    assert failed(scenario) == events.RequestFailed("2", MAY_HAVE, "job", "k", ending=ending)
    scenario.online()
    scenario.run(5.0)
    assert len(scenario.received("job")) == 1


def test_a_replay_is_given_up_240_s_after_its_first_byte() -> None:
    scenario = sent(timeout=None)
    left = scenario.now
    scenario.run(100.0)
    scenario.fall()
    scenario.gateway.listening = False
    scenario.until(events.RequestFailed, limit=1000.0)
    assert scenario.now == pytest.approx(left + 240.0)
    assert failed(scenario) == events.RequestFailed("2", MAY_HAVE, "job", "k", text=REPLAY_TOO_LATE)


def test_the_time_of_a_replay_is_counted_from_its_first_sending() -> None:
    scenario = sent(timeout=None)
    left = scenario.now
    scenario.run(200.0)
    scenario.fall()
    scenario.online()
    scenario.run(30.0)
    assert len(scenario.received("job")) == 2
    scenario.fall()
    scenario.gateway.listening = False
    scenario.until(events.RequestFailed, limit=1000.0)
    assert scenario.now == pytest.approx(left + 240.0)


def test_a_replay_that_was_sent_in_time_may_be_answered_later() -> None:
    scenario = sent(timeout=None)
    scenario.fall()
    scenario.gateway.reply("job", "late", delay=500.0)
    scenario.online()
    scenario.run(499.0)
    assert scenario.outcome("2") is None
    scenario.run(5.0)
    assert isinstance(scenario.outcome("2"), events.Replied)


def test_what_can_be_replayed_no_more_when_its_connection_falls_is_told_before_offline() -> None:
    scenario = sent(timeout=None)
    scenario.run(240.0)
    ending = scenario.fall().ending
    outcome = failed(scenario)
    assert outcome == events.RequestFailed("2", MAY_HAVE, "job", "k", ending=ending)
    assert scenario.told.index(outcome) < scenario.told.index(scenario.of(events.Offline)[0])


def test_a_replays_deadline_runs_between_connections() -> None:
    scenario = sent(timeout=20.0)
    due = scenario.now + 20.0
    scenario.fall()
    scenario.gateway.listening = False
    scenario.until(events.RequestFailed)
    assert scenario.now == pytest.approx(due)
    assert failed(scenario) == events.RequestFailed("2", MAY_HAVE, "job", "k", timed_out=True)


def test_a_replay_needs_a_key() -> None:
    scenario = Scenario()
    scenario.online()
    keyless: list[Any] = [None, {}, [], {"idempotencyKey": ""}, {"idempotencyKey": 5}]
    for params in keyless:
        with pytest.raises(InvalidParams, match="replay needs an idempotency key"):
            scenario.request("job", params, replay=True)
    scenario.request("job", {"idempotencyKey": "own"}, replay=True)
    scenario.request("job", replay=True, idempotency_key=AUTO)


def test_replays_go_after_the_resync_and_before_the_queue() -> None:
    scenario = sent(hold_queue=True)
    scenario.fall()
    queued = scenario.request("echo", offline=Offline.QUEUE)
    scenario.online()
    scenario.run(5.0)
    hook = scenario.request("echo")
    scenario.run()
    assert scenario.received("job", "echo") == ["2", hook]
    scenario.resynced()
    assert scenario.received("job", "echo") == ["2", hook, "2", queued]


def test_a_replay_that_has_not_left_fails_not_sent_as_any_other() -> None:
    """Where it shall wait for the next connection its caller says QUEUE."""
    scenario = Scenario()
    scenario.online()
    scenario.network.stall()
    scenario.request("echo", "x" * 500_000)  # the socket takes a part of it, and blocks
    for offline in Offline:
        params = {"idempotencyKey": "k"}
        scenario.request("job", params, replay=True, offline=offline, timeout=None)
    scenario.until(events.Offline)
    assert failed(scenario, "3").delivery is NOT_SENT
    assert [one.id for one in scenario.machine.queued()] == ["4"]


def test_giving_up_settles_the_replays_before_it_is_told() -> None:
    reconnect = ReconnectSettings(max_attempts=2, stable_after=1000.0)
    scenario = sent(Settings(token=TOKEN, reconnect=reconnect))
    scenario.gateway.listening = False
    scenario.fall()
    assert scenario.outcome("2") is None
    gave_up = scenario.until(events.GaveUp)
    assert scenario.told[-2:] == [
        events.RequestFailed("2", MAY_HAVE, "job", "k", ending=gave_up.ending),
        gave_up,
    ]


@pytest.mark.parametrize("fallen", [False, True])
def test_stopping_settles_the_replays(fallen: bool) -> None:
    scenario = sent()
    if fallen:
        scenario.fall()
    scenario.stop()
    outcome = failed(scenario)
    assert outcome.delivery is MAY_HAVE
    assert outcome.ending is not None
    assert outcome.ending.kind is EndKind.STOPPED


def test_an_interim_answer_is_told_once_over_all_connections() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.gateway.reply("agent", "done", interim={"status": "accepted"}, delay=5.0)
    request_id = scenario.request(
        "agent", final=True, replay=True, idempotency_key=AUTO, timeout=60.0
    )
    accepted = scenario.until(events.RequestAccepted)
    scenario.fall()
    scenario.online()
    scenario.run(10.0)
    outcome = scenario.outcome(request_id)
    assert isinstance(outcome, events.Replied)
    assert scenario.of(events.RequestAccepted) == [accepted]
    assert accepted.idempotency_key == outcome.idempotency_key
    assert len(outcome.idempotency_key or "") == 32


@pytest.mark.parametrize(
    ("payload", "delivery"), [(None, MAY_HAVE), ({"status": "error"}, REFUSED)]
)
def test_a_refused_replay_says_what_became_of_the_first_only_with_a_payload(
    payload: Any, delivery: Delivery
) -> None:
    """wire.md 11: where the gateway knows the key, a refusal carries both."""
    scenario = sent()
    scenario.fall()
    scenario.gateway.reply("job", FOR_GOOD, payload=payload)
    scenario.online()
    scenario.run()
    assert failed(scenario) == events.RequestFailed(
        "2", delivery, "job", "k", error=FOR_GOOD, payload=payload
    )


# --- asking again -----------------------------------------------------------------------------


def refusing(scenario: Scenario, error: GatewayError, times: float = 1) -> list[float]:
    """Let the gateway refuse ``job`` so many times; return when it was asked."""
    asked: list[float] = []

    def answer(_: Any) -> Any:
        asked.append(scenario.now)
        return error if len(asked) <= times else "done"

    scenario.gateway.reply("job", answer)
    return asked


@pytest.mark.parametrize(
    ("error", "delays"), [(BUSY, [1.0, 2.0, 4.0, 8.0]), (DRAINING, [6.0, 7.0, 9.0, 13.0])]
)
def test_a_retryable_refusal_is_asked_again_after_hint_and_backoff(
    error: GatewayError, delays: list[float]
) -> None:
    """The jitter is 1.0 here: the longest backoff."""
    scenario = Scenario()
    scenario.online()
    asked = refusing(scenario, error, times=4)
    request_id = scenario.request("job", retry_unavailable=True, timeout=100.0)
    scenario.run(60.0)
    assert [later - before for before, later in pairwise(asked)] == (pytest.approx(delays))
    assert isinstance(scenario.outcome(request_id), events.Replied)
    assert scenario.received("job") == [request_id] * 5
    assert scenario.machine.stats.ignored_frames == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, BUSY),
        ({"retry_unavailable": True}, FOR_GOOD),
        ({"retry_unavailable": True}, GatewayError("X", "no", retryable=False)),
        ({"retry_unavailable": True, "timeout": 6.0}, DRAINING),  # 6 s would be too late
        ({"retry_unavailable": True, "timeout": 0.9}, BUSY),
    ],
)
def test_any_other_refusal_is_told_at_once(options: dict[str, Any], error: GatewayError) -> None:
    scenario = Scenario()
    scenario.online()
    asked = refusing(scenario, error)
    request_id = scenario.request("job", **options)
    scenario.run()
    assert failed(scenario, request_id) == events.RequestFailed(
        request_id, REFUSED, "job", error=error
    )
    scenario.run(30.0)
    assert len(asked) == 1


def test_a_refusal_with_a_payload_is_the_last_word() -> None:
    """The method did run."""
    scenario = Scenario()
    scenario.online()
    scenario.gateway.reply("job", BUSY, payload={"status": "error"})
    request_id = scenario.request("job", retry_unavailable=True)
    scenario.run()
    assert failed(scenario, request_id).payload == {"status": "error"}


def test_a_refusal_after_an_interim_answer_is_the_last_word() -> None:
    """The method did run: to ask again would run it twice."""
    scenario = Scenario()
    scenario.online()
    scenario.gateway.reply("job", BUSY, interim={"status": "accepted"}, delay=2.0)
    request_id = scenario.request("job", final=True, retry_unavailable=True)
    scenario.run(20.0)
    assert failed(scenario, request_id).delivery is REFUSED
    assert scenario.received("job") == [request_id]


def test_a_refused_request_that_is_queued_keeps_the_hint_over_a_fall() -> None:
    scenario = Scenario()
    scenario.online()
    asked = refusing(scenario, DRAINING)
    request_id = scenario.request("job", retry_unavailable=True, offline=Offline.QUEUE)
    scenario.run(1.0)
    scenario.fall()
    assert [one.id for one in scenario.machine.queued()] == [request_id]
    scenario.online()
    scenario.run(20.0)
    first, again = asked
    assert again - first == pytest.approx(6.0)
    assert isinstance(scenario.outcome(request_id), events.Replied)


def test_a_refused_request_whose_hint_has_passed_goes_with_the_next_hello() -> None:
    scenario = Scenario()
    scenario.online()
    asked = refusing(scenario, BUSY)
    scenario.request("job", retry_unavailable=True, offline=Offline.QUEUE)
    scenario.run(0.5)
    scenario.fall()
    scenario.online()
    scenario.run()
    assert asked[1] == scenario.now


def test_a_refused_request_that_fails_with_its_connection_is_told_as_refused() -> None:
    """It is known that it did not run: nobody needs to look."""
    scenario = Scenario()
    scenario.online()
    refusing(scenario, DRAINING)
    request_id = scenario.request("job", retry_unavailable=True)
    scenario.run(1.0)
    ending = scenario.fall().ending
    assert failed(scenario, request_id) == events.RequestFailed(
        request_id, REFUSED, "job", error=DRAINING, ending=ending
    )


def test_a_request_that_was_asked_again_and_not_answered_may_have_executed() -> None:
    scenario = Scenario()
    scenario.online()
    refusing(scenario, BUSY)
    request_id = scenario.request("job", retry_unavailable=True)
    scenario.run(0.5)
    scenario.gateway.reply("job", delay=math.inf)
    scenario.run(1.0)
    assert scenario.received("job") == [request_id] * 2
    scenario.fall()
    assert failed(scenario, request_id).delivery is MAY_HAVE
    assert failed(scenario, request_id).error is None


def test_a_replay_that_is_refused_for_now_is_asked_again_within_240_s() -> None:
    scenario = sent(timeout=None, retry_unavailable=True)
    left = scenario.now
    scenario.fall()
    asked = refusing(scenario, DRAINING, times=math.inf)
    scenario.until(events.RequestFailed, limit=1000.0)
    assert left + 200.0 < asked[-1] < left + 240.0
    assert failed(scenario).delivery is MAY_HAVE
    assert failed(scenario).error == DRAINING


def test_a_refused_replay_that_waits_outlives_another_fall() -> None:
    scenario = sent(timeout=None, retry_unavailable=True)
    scenario.fall()
    asked = refusing(scenario, DRAINING)
    scenario.online()
    scenario.run(1.0)
    scenario.fall()
    scenario.online()
    scenario.run(10.0)
    assert asked[1] - asked[0] == pytest.approx(6.0)
    assert isinstance(scenario.outcome("2"), events.Replied)


# --- keys -------------------------------------------------------------------------------------


def test_a_made_key_goes_into_the_params_and_leaves_the_callers_as_they_were() -> None:
    scenario = Scenario()
    scenario.online()
    params = {"a": 1}
    ids = [scenario.request("echo", given, idempotency_key=AUTO) for given in (params, None)]
    scenario.run()
    keys = set()
    for request_id, given in zip(ids, ({"a": 1}, {}), strict=True):
        outcome = scenario.outcome(request_id)
        assert isinstance(outcome, events.Replied)
        key = outcome.payload.pop("idempotencyKey")
        assert (outcome.payload, outcome.idempotency_key) == (given, key)
        keys.add(key)
    assert params == {"a": 1}
    assert len(keys) == 2


@pytest.mark.parametrize("wanted", [None, AUTO, "own"])
def test_a_key_that_the_params_have_is_the_key(wanted: Any) -> None:
    scenario = Scenario()
    scenario.online()
    request_id = scenario.request("echo", {"idempotencyKey": "own"}, idempotency_key=wanted)
    scenario.run()
    outcome = scenario.outcome(request_id)
    assert outcome == events.Replied(request_id, {"idempotencyKey": "own"}, 68, "own")


# --- cancel, wherever it is -------------------------------------------------------------------


def in_flight(scenario: Scenario) -> None:
    scenario.run()


def between_connections(scenario: Scenario) -> None:
    scenario.fall()


def before_the_resync(scenario: Scenario) -> None:
    scenario.fall()
    scenario.online()
    scenario.run()


def sent_again(scenario: Scenario) -> None:
    before_the_resync(scenario)
    scenario.resynced()


@pytest.mark.parametrize("place", [in_flight, between_connections, before_the_resync, sent_again])
def test_a_replay_can_be_taken_back_in_every_place(place: Callable[[Scenario], None]) -> None:
    scenario = sent(hold_queue=True)
    place(scenario)
    times = len(scenario.received("job"))
    assert scenario.machine.cancel("2", scenario.now) is MAY_HAVE
    assert scenario.machine.cancel("2", scenario.now) is None
    for _ in range(2):
        if scenario.machine.state is State.ONLINE:
            scenario.fall()
        scenario.online()
        scenario.resynced()
        scenario.run(70.0)
    assert scenario.outcome("2") is None
    assert len(scenario.received("job")) == times


def test_what_waits_to_be_asked_again_can_be_taken_back() -> None:
    scenario = Scenario()
    scenario.online()
    asked = refusing(scenario, DRAINING)
    request_id = scenario.request("job", retry_unavailable=True)
    scenario.run(1.0)
    assert scenario.machine.cancel(request_id, scenario.now) is REFUSED
    scenario.run(30.0)
    assert len(asked) == 1
    assert scenario.outcome(request_id) is None


# --- the time of a replay, on a connection that is full ---------------------------------------


def test_a_replay_that_finds_no_place_in_time_is_given_up() -> None:
    """As any other request it waits for the window; but the gateway forgets its key."""
    settings = Settings(token=TOKEN, limits=Limits(max_in_flight=1))
    scenario = sent(settings, hold_queue=True, timeout=None)
    left = scenario.now
    scenario.run(230.0)
    scenario.fall()
    scenario.online()
    scenario.gateway.reply("stuck", delay=math.inf)
    scenario.request("stuck", timeout=None)
    scenario.run()
    scenario.resynced()
    scenario.until(events.RequestFailed)
    assert scenario.now == pytest.approx(left + 240.0)
    assert failed(scenario) == events.RequestFailed("2", MAY_HAVE, "job", "k", text=REPLAY_TOO_LATE)
    assert scenario.received("job") == ["2"]
