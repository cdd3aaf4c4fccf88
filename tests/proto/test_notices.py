"""Notices on their way through `Client`: in order, those that still stand first, bounded."""

from __future__ import annotations

from butter_proto import events
from butter_proto.client import Client
from butter_proto.events import Hello, Notice, Online, PairingRequired, Policy, ScopesReduced
from butter_proto.subscriptions import STATE_LIMIT, NoticeSubscription

HELLO = Hello(
    4,
    "2026.9.6",
    "boot-1",
    "conn-1",
    "operator",
    (),
    "token",
    Policy(26_214_400, None, 30.0),
    {},
)
REDUCED = ScopesReduced(("a", "b"), ("a",))
PAIRING = PairingRequired("r-1", "d-1", "not-paired", None)


def ignore() -> None:
    pass


def all_of(subscription: NoticeSubscription) -> list[Notice]:
    return list(iter(subscription.take, None))


def test_notices_come_in_order_and_wake_their_reader() -> None:
    client, woken = Client(), []
    subscription = client.listen(lambda: woken.append(True))
    told: list[Notice] = [events.RoundTrip(0.1), events.ClockLate(2.0), REDUCED]
    for notice in told:
        client.deliver(notice)
    assert all_of(subscription) == told
    assert len(woken) == 3


def test_what_still_stands_is_told_first_to_who_subscribes_later() -> None:
    client = Client()
    for notice in (REDUCED, events.RoundTrip(0.1), PAIRING):
        client.deliver(notice)
    assert all_of(client.listen(ignore)) == [REDUCED, PAIRING]


def test_only_the_latest_of_a_kind_stands() -> None:
    client = Client()
    client.deliver(PAIRING)
    later = PairingRequired("r-2", "d-1", "not-paired", None)
    client.deliver(later)
    assert all_of(client.listen(ignore)) == [later]


def test_nothing_stands_from_the_next_online_on() -> None:
    client = Client()
    client.deliver(REDUCED)
    client.deliver(Online(HELLO, resync=True, boot_changed=False))
    assert all_of(client.listen(ignore)) == []


def test_a_reader_that_is_far_behind_misses_the_oldest() -> None:
    client = Client()
    subscription = client.listen(ignore)
    for n in range(STATE_LIMIT + 1):
        client.deliver(events.RoundTrip(n))
    kept = all_of(subscription)
    assert len(kept) == STATE_LIMIT
    assert kept[0] == events.RoundTrip(1)


def test_an_interim_answer_is_no_notice() -> None:
    client = Client()
    subscription = client.listen(ignore)
    client.deliver(events.RequestAccepted("1", {}))
    assert all_of(subscription) == []


def test_after_unsubscribing_nothing_more_comes() -> None:
    client = Client()
    subscription = client.listen(ignore)
    client.deliver(REDUCED)
    client.unsubscribe(subscription)
    client.unsubscribe(subscription)
    client.deliver(PAIRING)
    assert subscription.closed
    subscription.offer(PAIRING)
    assert all_of(subscription) == [REDUCED]


def test_the_notices_end_with_the_connector() -> None:
    client = Client()
    subscription = client.listen(ignore)
    client.deliver(events.Stopped())
    assert subscription.closed
    assert subscription.error is None
    assert client.listen(ignore).closed
