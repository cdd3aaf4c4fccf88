"""What the application is told: complete, frozen, and without a word of any payload."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import events
from butter_proto.device import DeviceToken
from butter_proto.errors import Delivery, Ending, EndKind, GatewayError
from butter_proto.events import (
    ClockLate,
    Connecting,
    DeviceTokenIssued,
    DeviceTokenNotStored,
    DeviceTokenRejected,
    Event,
    EventsMissed,
    GatewayEvent,
    GaveUp,
    Hello,
    MissReason,
    Notice,
    Offline,
    Online,
    Outcome,
    PairingRequired,
    Policy,
    Replied,
    RequestAccepted,
    RequestFailed,
    Retrying,
    RoundTrip,
    ScopesReduced,
    StateEvent,
    Stopped,
)
from butter_proto.secret import Secret

HIDDEN = "QQ-must-not-be-shown-QQ"
ENDING = Ending(
    EndKind.CONNECT_REFUSED,
    error=GatewayError("NOT_PAIRED", "wait", {"x": HIDDEN}),
    http_body=HIDDEN.encode(),
)
HELLO = Hello(
    4,
    "2026.9.6",
    "boot-1",
    "conn-1",
    "operator",
    ("operator.read",),
    "token",
    Policy(26_214_400, 52_428_800, 30.0),
    {
        "auth": {"deviceToken": HIDDEN},
        "features": {"methods": [HIDDEN, "health"], "events": [HIDDEN]},
    },
)
ONE_OF_EACH: list[Event] = [
    Connecting(1, 1),
    Online(HELLO, resync=True, boot_changed=False),
    Offline(ENDING),
    Retrying(ENDING, 2, 0.5),
    GaveUp(ENDING, "Approve the device."),
    Stopped(),
    RequestAccepted("r1", {"x": HIDDEN}, 40),
    Replied("r2", {"x": HIDDEN}, 41),
    RequestFailed(
        "r3",
        Delivery.REFUSED,
        "chat.send",
        "key-1",
        GatewayError("X", "y", HIDDEN),
        {"x": HIDDEN},
        ending=ENDING,
    ),
    GatewayEvent("chat", {"x": HIDDEN}, 7, {"x": HIDDEN}, 42),
    EventsMissed(MissReason.GAP, 3),
    ScopesReduced(("a", "b"), ("a",)),
    PairingRequired("p-1", "d-1", "not-paired", "Approve it."),
    DeviceTokenIssued(3, (("operator", DeviceToken(Secret(HIDDEN), ("operator.read",))),)),
    DeviceTokenNotStored(timed_out=True),
    DeviceTokenRejected(1, "operator", Secret(HIDDEN), ENDING),
    ClockLate(1.5),
    RoundTrip(0.002),
]
PARTS_OF_EVENTS = {Policy, Hello}


def test_every_class_of_the_module_can_be_told() -> None:
    defined = {
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if kind.__module__ == events.__name__ and attrs.has(kind)
    }
    assert defined - set(get_args(events.PoolEvent)) == PARTS_OF_EVENTS


def test_the_examples_here_leave_no_event_out() -> None:
    assert [type(event) for event in ONE_OF_EACH] == list(get_args(Event))


def test_only_these_six_events_change_the_state() -> None:
    names = [kind.__name__ for kind in get_args(StateEvent)]
    assert names == ["Connecting", "Online", "Offline", "Retrying", "GaveUp", "Stopped"]


def test_a_request_is_settled_by_one_of_two_outcomes() -> None:
    assert set(get_args(Outcome)) == {Replied, RequestFailed}


def test_no_event_is_of_two_kinds() -> None:
    kinds = [*get_args(StateEvent), *get_args(Outcome), *get_args(Notice)]
    kinds += [RequestAccepted, GatewayEvent, EventsMissed]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == set(get_args(Event))


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_no_repr_shows_a_payload_a_secret_or_a_body(event: Event) -> None:
    assert HIDDEN not in repr(event)
    assert HIDDEN not in str(event)


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_no_event_can_be_changed(event: Any) -> None:
    names = [field.name for field in attrs.fields(type(event))]
    for name in names or ["any"]:
        with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
            setattr(event, name, None)


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (GatewayEvent("chat", {}, 7, None, 42), "GatewayEvent(name='chat', seq=7, size=42)"),
        (Replied("r2", {}, 41), "Replied(id='r2', size=41)"),
        (RequestAccepted("r1", {}, 40), "RequestAccepted(id='r1', size=40)"),
        (Stopped(), "Stopped()"),
    ],
)
def test_a_repr_shows_name_id_seq_and_size(event: Event, shown: str) -> None:
    assert repr(event) == shown


def test_a_failed_request_shows_method_id_and_idempotency_key() -> None:
    shown = repr(RequestFailed("r3", Delivery.NOT_SENT, "chat.send", "key-1"))
    for word in ("'r3'", "'chat.send'", "'key-1'", "NOT_SENT"):
        assert word in shown


def test_a_hello_shows_how_many_names_it_lists_and_who_answered() -> None:
    shown = repr(HELLO)
    assert "payload=<2 methods, 1 events>" in shown
    for word in ("2026.9.6", "boot-1", "conn-1", "operator.read", "max_payload=26214400"):
        assert word in shown


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (GatewayEvent, ["name", "payload", "seq", "state_version", "size"]),
        (Replied, ["id", "payload", "size"]),
        (RequestAccepted, ["id", "payload", "size"]),
    ],
)
def test_the_hot_events_keep_the_order_in_which_they_are_built(
    kind: type[Any], names: list[str]
) -> None:
    event = kind(*names)
    assert [getattr(event, name) for name in names] == names


def test_a_loss_may_be_of_unknown_count() -> None:
    assert EventsMissed(MissReason.RECONNECT).count is None


def test_the_reasons_of_a_loss_are_the_four_of_the_contract() -> None:
    assert [reason.name for reason in MissReason] == [
        "GAP",
        "OVERFLOW",
        "RECONNECT",
        "PRIMARY_CHANGED",
    ]


scopes = st.lists(st.sampled_from("abcdef"), unique=True).map(tuple)


@given(requested=scopes, granted=scopes)
def test_the_missing_scopes_are_those_asked_for_and_not_granted_in_their_order(
    requested: tuple[str, ...], granted: tuple[str, ...]
) -> None:
    missing = ScopesReduced(requested, granted).missing
    assert set(missing) == set(requested) - set(granted)
    assert list(missing) == sorted(missing, key=requested.index)


def test_a_scope_that_was_asked_for_twice_and_granted_once_is_not_missing() -> None:
    assert ScopesReduced(("a", "b", "a"), ("a",)).missing == ("b",)
