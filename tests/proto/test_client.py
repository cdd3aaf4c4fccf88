"""The adapters' common half: who is told what, once and in order, and what a slow reader loses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import errors, events
from butter_proto.client import Client, check_in_hook, result_of
from butter_proto.device import DeviceToken
from butter_proto.errors import Delivery, Ending, EndKind, GatewayError
from butter_proto.events import EventsMissed, GatewayEvent, MissReason
from butter_proto.handshake import read_hello
from butter_proto.request_options import Offline
from butter_proto.secret import Secret
from butter_proto.settings import Dialect
from butter_proto.subscriptions import STATE_LIMIT, EventSubscription, Subscription

ENDING = Ending(EndKind.CLOSED_BY_PEER, close_code=1012, close_reason="service restart")
LATER = Ending(EndKind.END_OF_STREAM)
REFUSAL = GatewayError("FORBIDDEN", "missing scope: operator.write")
SCOPES = events.ScopesReduced(("a", "b"), ("a",))
PAIRING = events.PairingRequired("id-1", "device", "not-paired", None)


def hello() -> events.Hello:
    read = read_hello({"type": "hello-ok"}, Dialect.GATEWAY_V4)
    assert read is not None
    return read


def online(*, resync: bool = False) -> events.Online:
    return events.Online(hello(), resync, boot_changed=False, transport_id=7)


def event(number: int, name: str = "chat") -> GatewayEvent:
    return GatewayEvent(name, None, number)


def overflow(count: int | None) -> EventsMissed:
    return EventsMissed(MissReason.OVERFLOW, count)


def deaf() -> None:
    """Wake nobody."""


class Reader:
    """Takes from a subscription, and counts how often it was woken."""

    def __init__(self, subscribe: Callable[[Callable[[], None]], Subscription[Any]]) -> None:
        self.woken = 0
        self.subscription = subscribe(self.wake)

    def wake(self) -> None:
        self.woken += 1

    def take(self, count: int = 1_000_000) -> list[Any]:
        taken: list[Any] = []
        while len(taken) < count and (item := self.subscription.take()) is not None:
            taken.append(item)
        return taken


def reader_of(client: Client, *names: str, limit: int = 1000) -> Reader:
    return Reader(lambda wake: client.subscribe(names, limit, wake))


def deliver(client: Client, *told: events.Event) -> None:
    for item in told:
        client.deliver(item)


# --- outcomes -----------------------------------------------------------------------------------


def test_the_result_of_a_reply_is_its_payload() -> None:
    assert result_of(events.Replied("1", {"ok": True})) == {"ok": True}


@pytest.mark.parametrize(
    ("outcome", "kind", "text"),
    [
        (
            events.RequestFailed("7", Delivery.NOT_SENT, "chat.send", "key", ending=LATER),
            errors.RequestNotSent,
            "chat.send (7) not sent: the stream ended",
        ),
        (
            events.RequestFailed("7", Delivery.MAY_HAVE_EXECUTED, "chat.send", "key"),
            errors.RequestMayHaveExecuted,
            "chat.send (7) may have executed",
        ),
        (
            events.RequestFailed("7", Delivery.REFUSED, "chat.send", "key", REFUSAL, {"runId": 1}),
            errors.RequestRefused,
            "chat.send (7) refused: FORBIDDEN: missing scope: operator.write",
        ),
        (
            events.RequestFailed("7", Delivery.NOT_SENT, "chat.send", "key", timed_out=True),
            errors.RequestTimeout,
            "chat.send (7) not sent: its deadline passed",
        ),
        (
            events.RequestFailed("7", Delivery.MAY_HAVE_EXECUTED, "chat.send", timed_out=True),
            errors.RequestTimeout,
            "chat.send (7) may have executed: its deadline passed",
        ),
    ],
)
def test_the_result_of_a_failure_is_its_exception(
    outcome: events.RequestFailed, kind: type[errors.RequestFailed], text: str
) -> None:
    """Lessons 23: three kinds of failure, and the key given back."""
    with pytest.raises(errors.RequestFailed) as caught:
        result_of(outcome)
    raised = caught.value
    assert type(raised) is kind
    assert str(raised) == text
    assert (raised.method, raised.id, raised.delivery) == ("chat.send", "7", outcome.delivery)
    assert raised.idempotency_key == outcome.idempotency_key
    assert (raised.error, raised.payload) == (outcome.error, outcome.payload)


def test_whoever_still_waits_at_stopped_is_told_that_it_may_have_executed() -> None:
    """No machine leaves anybody (G7), but Ctrl-C may cut a delivery off."""
    client = Client()
    told: list[events.Outcome] = []
    client.expect("1", told.append)
    client.expect("2", told.append)
    deliver(client, events.Replied("1", "in time"), events.Stopped())
    lost = events.RequestFailed("2", Delivery.MAY_HAVE_EXECUTED, "request")
    assert told == [events.Replied("1", "in time"), lost]


def test_an_outcome_whose_waiter_was_cut_off_is_not_lost() -> None:
    client = Client()
    told: list[events.Outcome] = []

    def cut_off_once(outcome: events.Outcome) -> None:
        told.append(outcome)
        if len(told) == 1:
            raise KeyboardInterrupt

    client.expect("1", cut_off_once)
    with pytest.raises(KeyboardInterrupt):
        client.deliver(events.Replied("1", None))
    client.deliver(events.Stopped())
    assert [outcome.id for outcome in told] == ["1", "1"]


def test_an_outcome_goes_to_its_waiter_once() -> None:
    client = Client()
    heard: list[events.Outcome] = []
    client.expect("1", heard.append)
    first, second = events.Replied("1", "first"), events.Replied("1", "second")
    deliver(client, events.Replied("2", "for nobody"), first, second)
    assert heard == [first]


def test_a_failure_goes_to_its_waiter_too() -> None:
    client = Client()
    heard: list[events.Outcome] = []
    client.expect("1", heard.append)
    failure = events.RequestFailed("1", Delivery.NOT_SENT, "health")
    deliver(client, failure)
    assert heard == [failure]


def test_a_waiter_that_was_forgotten_hears_nothing() -> None:
    """Lessons 36: a cancelled caller leaves nothing behind."""
    client = Client()
    heard: list[events.Outcome] = []
    client.expect("1", heard.append)
    client.forget("1")
    client.forget("1")
    deliver(client, events.Replied("1", None))
    assert heard == []


def test_an_interim_answer_settles_nothing() -> None:
    client = Client()
    heard: list[events.Outcome] = []
    client.expect("1", heard.append)
    notices = Reader(client.listen)
    deliver(client, events.RequestAccepted("1", {"status": "accepted"}))
    assert heard == []
    assert notices.take() == []


# --- gateway events -----------------------------------------------------------------------------


def test_a_subscriber_gets_the_events_from_then_on_in_order() -> None:
    client = Client()
    deliver(client, event(1))
    reader = reader_of(client)
    deliver(client, event(2), EventsMissed(MissReason.GAP, 2), event(5, "tick"))
    assert reader.take() == [event(2), EventsMissed(MissReason.GAP, 2), event(5, "tick")]


def test_each_subscriber_has_its_own_queue() -> None:
    client = Client()
    readers = [reader_of(client), reader_of(client, "chat"), reader_of(client, limit=1)]
    deliver(client, event(1), event(2))
    assert [reader.take() for reader in readers] == [
        [event(1), event(2)],
        [event(1), event(2)],
        [event(1), overflow(1)],
    ]


def test_names_choose_the_events_and_never_filter_a_loss() -> None:
    client = Client()
    reader = reader_of(client, "chat", "agent", limit=3)
    missed = EventsMissed(MissReason.GAP, 2)
    deliver(client, event(1), event(2, "tick"), missed, event(5, "agent"))
    deliver(client, *[event(number, "tick") for number in range(6, 20)])
    assert reader.take() == [event(1), missed, event(5, "agent")]


def test_a_slow_reader_loses_new_events_until_half_of_its_queue_is_free() -> None:
    client = Client()
    reader = reader_of(client, limit=4)
    deliver(client, *[event(number) for number in range(1, 8)])
    assert reader.take(2) == [event(1), event(2)]
    deliver(client, event(8))  # 3 wait: two events and the loss
    assert reader.take(1) == [event(3)]
    deliver(client, event(9))
    assert reader.take() == [event(4), overflow(4), event(9)]
    deliver(client, event(10))
    assert reader.take() == [event(10)]


@pytest.mark.parametrize("limit", [1, 2])
def test_a_queue_of_any_size_holds_its_limit_and_the_loss(limit: int) -> None:
    client = Client()
    reader = reader_of(client, limit=limit)
    deliver(client, *[event(number) for number in range(limit + 3)])
    kept = [event(number) for number in range(limit)]
    assert reader.take() == [*kept, overflow(3)]
    deliver(client, event(9))
    assert reader.take() == [event(9)]


def test_a_reader_is_woken_when_its_queue_was_empty_and_not_for_what_comes_behind() -> None:
    client = Client()
    reader = reader_of(client, limit=3)
    deliver(client, *[event(number) for number in range(10)])
    assert reader.woken == 1
    reader.take()
    deliver(client, event(10))
    assert reader.woken == 2


@pytest.mark.parametrize(
    ("lost", "count"),
    [
        ([EventsMissed(MissReason.GAP, 5)], 5),
        ([event(9), EventsMissed(MissReason.GAP, 5), event(9)], 7),
        ([EventsMissed(MissReason.RECONNECT)], None),
        ([event(9), EventsMissed(MissReason.RECONNECT), event(9)], None),
        ([EventsMissed(MissReason.RECONNECT), EventsMissed(MissReason.OVERFLOW, 2)], None),
    ],
)
def test_a_loss_within_a_loss_is_part_of_it(
    lost: list[GatewayEvent | EventsMissed], count: int | None
) -> None:
    client = Client()
    reader = reader_of(client, limit=1)
    deliver(client, event(1), *lost)
    assert reader.take() == [event(1), overflow(count)]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_queue_without_room_is_refused(limit: int) -> None:
    with pytest.raises(errors.InvalidSettings, match="limit must be at least 1"):
        Client().subscribe((), limit, deaf)


@given(
    limit=st.integers(1, 6),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("event"), st.just(0)),
            st.tuples(st.just("other"), st.just(0)),
            st.tuples(st.just("gap"), st.integers(1, 5)),
            st.tuples(st.just("take"), st.integers(1, 8)),
        )
    ),
)
def test_every_event_is_read_once_or_counted_in_the_loss_before_the_next(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    """Of the numbers 1, 2, 3, ... none is left out and none comes twice."""
    subscription = EventSubscription(frozenset({"chat"}), limit, deaf, 10**9, deaf)
    reader = Reader(lambda _: subscription)
    seq = 0
    read: list[GatewayEvent | EventsMissed] = []
    for step, number in steps:
        match step:
            case "event":
                seq += 1
                subscription.offer(event(seq))
            case "gap":
                seq += number
                subscription.offer(EventsMissed(MissReason.GAP, number))
            case "take":
                read += reader.take(number)
            case _:
                subscription.offer(event(seq, "tick"))
        assert len(subscription._queue) <= limit + 1
    read += reader.take()
    counted = 0
    for item in read:
        if isinstance(item, GatewayEvent):
            counted += 1
            assert item.seq == counted
        else:
            assert item.count is not None
            counted += item.count
    assert counted == seq


# --- states -------------------------------------------------------------------------------------


def test_a_client_that_was_told_nothing_knows_nothing() -> None:
    client = Client()
    assert (client.online, client.failure, client.hello, client.last_ending) == (False, *[None] * 3)
    assert client.generation == 0
    assert Reader(client.watch).take() == []


def test_online_lasts_from_online_to_offline_and_the_hello_stays_readable() -> None:
    client = Client()
    deliver(client, events.Connecting(1, 1))
    before = client.online
    deliver(client, online())
    during = client.online
    deliver(client, events.Offline(ENDING))
    assert (before, during, client.online) == (False, True, False)
    assert client.hello == hello()


def test_each_online_is_a_new_generation() -> None:
    client = Client()
    seen = []
    for told in (online(), events.Offline(ENDING), events.Connecting(1, 1), online(resync=True)):
        deliver(client, told)
        seen.append(client.generation)
    assert seen == [1, 1, 1, 2]


def test_the_last_ending_is_that_of_the_last_attempt() -> None:
    """Lessons 3."""
    client = Client()
    seen = []
    for told in (
        events.Offline(ENDING),
        events.Retrying(LATER, 2, 1.0),
        events.Connecting(2, 1),
        events.GaveUp(ENDING, "x"),
        events.Stopped(),
    ):
        deliver(client, told)
        seen.append(client.last_ending)
    assert seen == [ENDING, LATER, LATER, ENDING, ENDING]


def test_each_online_after_the_first_tells_that_events_were_missed() -> None:
    """Lessons 18; before any event of the new connection, filtered for nobody."""
    client = Client()
    reader = reader_of(client, "chat")
    deliver(client, online(), event(1), events.Offline(ENDING), events.Connecting(1, 1))
    deliver(client, online(resync=True), event(2))
    assert reader.take() == [event(1), EventsMissed(MissReason.RECONNECT), event(2)]


def test_a_watcher_gets_the_present_state_first_and_then_each_change() -> None:
    client = Client()
    deliver(client, events.Connecting(1, 1), online())
    watcher = Reader(client.watch)
    assert watcher.woken == 1
    deliver(client, events.Offline(ENDING), event(1), events.Retrying(ENDING, 2, 1.0))
    assert watcher.woken == 3
    assert watcher.take() == [
        online(),
        events.Offline(ENDING),
        events.Retrying(ENDING, 2, 1.0),
    ]


def test_a_watcher_far_behind_misses_the_oldest_states() -> None:
    client = Client()
    watcher = Reader(client.watch)
    deliver(client, *[events.Connecting(attempt, 1) for attempt in range(STATE_LIMIT + 5)])
    assert watcher.take() == [events.Connecting(5 + number, 1) for number in range(STATE_LIMIT)]


# --- notices ------------------------------------------------------------------------------------


def test_a_listener_gets_the_notices_and_nothing_else() -> None:
    client = Client()
    listener = Reader(client.listen)
    notices: list[events.Notice] = [
        events.ClockLate(2.0),
        events.RoundTrip(0.1),
        events.DeviceTokenIssued(3, (("operator", DeviceToken(Secret("x"), ())),)),
        events.DeviceTokenNotStored(False),
        events.DeviceTokenRejected(1, "operator", Secret("x"), ENDING),
        SCOPES,
    ]
    deliver(client, online(), event(1), *notices, events.Offline(ENDING))
    assert listener.take() == notices
    assert listener.woken == len(notices)


def test_a_later_listener_first_gets_what_still_stands() -> None:
    """Lessons 2 and 4: an operator who asks later is told too, and told the newest."""
    client = Client()
    newer = events.PairingRequired("id-2", "device", "not-paired", None)
    deliver(client, SCOPES, PAIRING, events.RoundTrip(0.1), newer)
    assert Reader(client.listen).take() == [SCOPES, newer]
    deliver(client, events.Offline(ENDING), events.Connecting(1, 1))
    assert Reader(client.listen).take() == [SCOPES, newer]


def test_what_became_of_a_device_token_stands_for_a_later_listener() -> None:
    """It comes right after Online, or before an attempt that gave up: nobody listens by then."""
    client = Client()
    lost = events.DeviceTokenNotStored(True)
    dead = events.DeviceTokenRejected(1, "operator", Secret("x"), ENDING)
    deliver(client, online(), lost, events.Offline(ENDING), dead)
    assert Reader(client.listen).take() == [lost, dead]


def test_with_the_next_online_nothing_of_before_stands() -> None:
    client = Client()
    deliver(client, PAIRING, SCOPES, online())
    assert Reader(client.listen).take() == []
    deliver(client, SCOPES)
    assert Reader(client.listen).take() == [SCOPES]


def test_a_listener_far_behind_misses_the_oldest_notices() -> None:
    client = Client()
    listener = Reader(client.listen)
    deliver(client, *[events.RoundTrip(float(number)) for number in range(STATE_LIMIT + 5)])
    assert listener.take(1) == [events.RoundTrip(5.0)]


# --- the end ------------------------------------------------------------------------------------


def test_after_giving_up_event_readers_get_what_is_left_and_then_the_reason() -> None:
    """design.md: it ends at close, raises after GaveUp."""
    client = Client()
    reader = reader_of(client)
    watcher = Reader(client.watch)
    deliver(client, event(1), events.GaveUp(ENDING, "Check it."), event(2))
    assert reader.woken == 2
    assert reader.take() == [event(1)]
    assert reader.subscription.closed
    error = reader.subscription.error
    assert isinstance(error, errors.GaveUp)
    assert (error.ending, error.advice) == (ENDING, "Check it.")
    assert not watcher.subscription.closed  # the application may start over
    assert watcher.take() == [events.GaveUp(ENDING, "Check it.")]


def test_a_stop_ends_every_subscription_without_an_error() -> None:
    """Lessons 32: every waiter is woken."""
    client = Client()
    readers = [reader_of(client), Reader(client.watch), Reader(client.listen)]
    deliver(client, events.ClockLate(2.0), event(1), events.Stopped())
    deliver(client, events.ClockLate(3.0), event(2))
    assert [reader.woken for reader in readers] == [2, 2, 2]
    assert [reader.subscription.closed for reader in readers] == [True] * 3
    assert [reader.subscription.error for reader in readers] == [None] * 3
    assert [reader.take() for reader in readers] == [
        [event(1)],
        [events.Stopped()],
        [events.ClockLate(2.0)],
    ]


def test_a_subscription_after_the_stop_has_ended() -> None:
    client = Client()
    deliver(client, SCOPES, events.Stopped())
    readers = [reader_of(client), Reader(client.watch), Reader(client.listen)]
    deliver(client, event(1), SCOPES)
    assert [reader.subscription.closed for reader in readers] == [True] * 3
    assert [reader.take() for reader in readers] == [[], [events.Stopped()], [SCOPES]]


def test_a_stop_after_giving_up_keeps_the_reason() -> None:
    client = Client()
    reader = reader_of(client)
    deliver(client, events.GaveUp(ENDING, "x"), events.Stopped())
    assert isinstance(reader.subscription.error, errors.GaveUp)
    assert reader.woken == 1


@pytest.mark.parametrize(
    "subscribe",
    [
        lambda client, wake: client.subscribe((), 10, wake),
        lambda client, wake: client.watch(wake),
        lambda client, wake: client.listen(wake),
    ],
    ids=["events", "states", "notices"],
)
def test_an_unsubscribed_reader_gets_nothing_more_and_ends(
    subscribe: Callable[[Client, Callable[[], None]], Subscription[Any]],
) -> None:
    client = Client()
    reader = Reader(lambda wake: subscribe(client, wake))
    other = Reader(lambda wake: subscribe(client, wake))
    client.unsubscribe(reader.subscription)
    client.unsubscribe(reader.subscription)
    deliver(client, event(1), events.Connecting(1, 1), SCOPES)
    assert reader.take() == []
    assert (reader.subscription.closed, reader.subscription.error) == (True, None)
    assert reader.woken == 1
    assert len(other.take()) == 1
    kept = [*client._events, *client._states, *client._notices]
    assert kept == [other.subscription]


# --- waiting for online -------------------------------------------------------------------------


def test_a_waiter_for_online_waits_on_until_it_is_given_up_or_stopped() -> None:
    client = Client()
    for told in (
        events.Connecting(1, 1),
        online(),
        events.Offline(ENDING),
        events.Retrying(ENDING, 2, 1.0),
    ):
        deliver(client, told)
        assert client.failure is None
    deliver(client, events.GaveUp(LATER, "Check it."))
    gave_up = client.failure
    assert isinstance(gave_up, errors.GaveUp)
    assert (gave_up.ending, gave_up.advice) == (LATER, "Check it.")
    assert str(gave_up) == "the stream ended. Check it."
    deliver(client, events.Stopped())
    stopped = client.failure
    assert type(stopped) is errors.ConnectionEnded
    assert (str(stopped), stopped.ending) == ("the connector was stopped", LATER)


def test_a_wait_that_took_too_long_tells_the_last_ending() -> None:
    """Lessons 3."""
    client = Client()
    none = client.connect_timeout(60.0)
    assert (str(none), none.ending) == (
        "not online after 60 s: the first attempt is under way",
        None,
    )
    deliver(client, events.Retrying(LATER, 2, 1.0))
    some = client.connect_timeout(0.5)
    assert (str(some), some.ending) == ("not online after 0.5 s: the stream ended.", LATER)


def test_a_subscription_is_bounded_by_size_too() -> None:
    subscription = EventSubscription(frozenset(), 1000, deaf, 100, deaf)
    for number in range(1, 6):
        subscription.offer(GatewayEvent("chat", None, number, None, 60))
    taken = list(iter(subscription.take, None))
    assert [getattr(item, "seq", None) for item in taken] == [1, 2, None]
    assert taken[-1] == EventsMissed(MissReason.OVERFLOW, 3)
    subscription.offer(GatewayEvent("chat", None, 6, None, 60))
    assert subscription.take() == GatewayEvent("chat", None, 6, None, 60)


def test_a_slow_reader_loses_new_events_until_half_of_the_bytes_are_free() -> None:
    subscription = EventSubscription(frozenset(), 1000, deaf, 100, deaf)
    large = [GatewayEvent("chat", None, number, None, 40) for number in range(1, 8)]
    for item in large[:4]:
        subscription.offer(item)
    assert subscription.take() == large[0]
    subscription.offer(large[4])  # 80 bytes wait
    assert subscription.take() == large[1]
    subscription.offer(large[5])  # 40 bytes wait
    assert list(iter(subscription.take, None)) == [large[2], overflow(2), large[5]]


def test_a_closed_subscription_takes_nothing_in() -> None:
    subscription = Client().subscribe((), 10, deaf)
    subscription.offer(event(1))
    subscription.close(None)
    subscription.offer(event(2))
    assert list(iter(subscription.take, None)) == [event(1)]


def test_a_subscription_made_after_giving_up_says_so_at_once() -> None:
    client = Client()
    client.deliver(events.Connecting(1, 1))
    client.deliver(events.GaveUp(Ending(EndKind.SILENT_PEER), "advice"))
    subscription = client.subscribe((), 10, deaf)
    assert subscription.closed
    assert isinstance(subscription.error, errors.GaveUp)


def test_waiting_too_long_for_a_hook_is_told_as_such() -> None:
    client = Client()
    client.deliver(online())
    assert "on_online has not finished" in str(client.connect_timeout(5.0))


def test_a_subscription_is_ready_where_something_waits_or_nothing_will_come() -> None:
    client = Client()
    subscription = client.subscribe((), 10, deaf)
    ready = [subscription.ready]
    client.deliver(event(1))
    ready.append(subscription.ready)
    subscription.take()
    ready.append(subscription.ready)
    subscription.close(None)
    ready.append(subscription.ready)
    assert ready == [False, True, False, True]


def test_a_client_knows_that_nothing_more_will_come() -> None:
    client = Client()
    known = []
    for told in (events.Connecting(1, 1), events.Stopped()):
        client.deliver(told)
        known.append(client.stopped)
    assert known == [False, True]


def test_what_a_reader_loses_is_counted_once_for_each_reader() -> None:
    client = Client()
    for _ in range(2):
        client.subscribe((), 3, deaf)
    for number in range(5):
        client.deliver(event(number))
    assert client.dropped_events == 4


def test_names_that_are_no_names_are_refused() -> None:
    with pytest.raises(errors.InvalidSettings, match="an event's name"):
        Client().subscribe((["chat"],), 10, deaf)  # type: ignore[arg-type]


# --- the hook -------------------------------------------------------------------------------


def test_the_hook_may_not_wait_for_the_queue_which_waits_for_it() -> None:
    check_in_hook({"offline": Offline.FAIL, "replay": True})
    check_in_hook({})
    with pytest.raises(errors.LocalProtocolError, match="on_online would wait for its own end"):
        check_in_hook({"offline": Offline.QUEUE})


def test_the_hook_is_due_after_each_online_and_what_it_was_for_is_answered() -> None:
    client = Client(has_hook=True)
    assert not client.hook_is_due
    deliver(client, online())
    assert (client.hook_is_due, client.is_ready) == (True, False)
    assert client.hook_has_run(client.generation) == 7
    assert (client.hook_is_due, client.is_ready) == (False, True)
    deliver(client, events.Offline(ENDING))
    assert not client.hook_is_due
    assert client.hook_has_run(client.generation) is None


def test_a_hook_that_another_gateway_overtook_is_due_again() -> None:
    client = Client(has_hook=True)
    deliver(client, online())
    before = client.generation
    deliver(client, online(resync=True))
    assert client.hook_has_run(before) is None
    assert client.hook_is_due


# --- a pool ---------------------------------------------------------------------------------


def of(gateway: str, told: events.Event) -> events.FromGateway:
    return events.FromGateway(gateway, told)


def test_a_takeover_is_told_once_and_before_the_next_events() -> None:
    client = Client()
    reader = reader_of(client)
    changed = EventsMissed(MissReason.PRIMARY_CHANGED)
    for told in (
        of("a", online()),
        online(),
        of("a", event(1)),
        of("a", events.Offline(ENDING)),
        online(resync=True),
        changed,
        of("b", event(2)),
    ):
        client.deliver(told)
    assert reader.take() == [event(1), changed, event(2)]
    assert client.generation == 2


def test_after_nothing_was_online_a_pool_tells_a_reconnect_as_one_gateway_does() -> None:
    client = Client()
    reader = reader_of(client)
    deliver(client, online(), events.Offline(ENDING), online(resync=True))
    assert reader.take() == [EventsMissed(MissReason.RECONNECT)]


def test_what_each_gateway_tells_of_itself_is_told_with_its_name() -> None:
    client = Client()
    reader = Reader(client.watch_gateways)
    states, notices = Reader(client.watch), Reader(client.listen)
    told = [
        of("a", events.Connecting(1, 1)),
        of("a", SCOPES),
        of("b", events.Retrying(ENDING, 2, 1.0)),
    ]
    for each in told:
        client.deliver(each)
    client.deliver(of("a", event(1)))
    client.deliver(of("a", events.Replied("1", None)))
    assert reader.take() == told
    assert states.take() == []
    assert notices.take() == [SCOPES]
    later = Reader(client.watch_gateways)
    assert later.take() == [told[0], told[2], told[1]]
    assert Reader(client.listen).take() == [SCOPES]


def test_an_outcome_from_a_gateway_goes_to_its_waiter() -> None:
    client = Client()
    told: list[events.Outcome] = []
    client.expect("1", told.append)
    client.deliver(of("a", events.Replied("1", "yes")))
    assert told == [events.Replied("1", "yes")]


def test_the_last_ending_of_a_pool_is_that_of_any_gateway() -> None:
    client = Client()
    client.deliver(of("a", events.Retrying(ENDING, 2, 1.0)))
    assert client.connect_timeout(5.0).ending is ENDING
    client.deliver(of("b", events.Retrying(LATER, 2, 1.0)))
    assert client.last_ending is LATER


def test_with_its_next_online_or_its_end_nothing_of_a_gateway_stands() -> None:
    client = Client()
    for name in ("a", "b", "c"):
        client.deliver(of(name, SCOPES))
    client.deliver(PAIRING)
    client.deliver(of("a", online()))
    client.deliver(of("b", events.Stopped()))
    assert Reader(client.watch_gateways).take() == [of("a", online()), of("c", SCOPES)]


def test_after_the_pools_stop_nothing_is_told_of_its_gateways() -> None:
    client = Client()
    reader = Reader(client.watch_gateways)
    client.deliver(of("a", events.Stopped()))
    client.deliver(events.Stopped())
    assert reader.take() == [of("a", events.Stopped())]
    assert reader.subscription.closed
    assert Reader(client.watch_gateways).subscription.closed
